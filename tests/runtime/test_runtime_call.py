"""What `wiry.Runtime` takes and refuses, before and after the compiled core has its say."""

import sys

import numpy as np
import pytest
import torch
from tests.export.example import trained
from torch import nn

import wiry
from wiry.core.errors import UserError
from wiry.export.sparse_file import save
from wiry.export.sparse_read import read_sparse

pytest.importorskip("wiry.runtime._native", reason="the sparse runtime is not compiled")

SHAPE = (1, 2, 2)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("runtime") / "net.wiry"
    save(trained(), path, input_shape=SHAPE, class_names=["no", "yes"])
    return path


@pytest.fixture(scope="module")
def runtime(path):
    return wiry.Runtime(path)


def test_a_file_answers_like_its_network(path, runtime):
    images = torch.rand(5, *SHAPE)
    with torch.no_grad():
        expected = trained()(images).numpy()
    found = runtime(images.numpy())
    assert found.dtype == np.float32 and np.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.array_equal(wiry.Runtime(read_sparse(path))(images.numpy()), found)
    assert runtime.input_shape == SHAPE and runtime.num_classes == 2
    assert runtime.facts["class_names"] == ["no", "yes"]


def test_images_of_any_memory_order_and_floating_type_are_taken(runtime):
    images = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    expected = runtime(images)
    assert np.array_equal(runtime(images.astype(np.float64)), expected)
    assert np.array_equal(runtime(np.asfortranarray(images)), expected)
    assert np.array_equal(runtime(np.repeat(images, 2, axis=0)[::2]), expected)
    assert np.allclose(runtime(images[:1]), expected[:1], rtol=1e-6)
    assert runtime(images[:0]).shape == (0, 2)


@pytest.mark.parametrize(
    ("images", "text"),
    [
        (np.zeros((2, *SHAPE), np.uint8), r"got uint8; bytes: images\.astype"),
        (np.zeros((2, 3, 2, 2), np.float32), r"of shape \(n, 1, 2, 2\), got \(2, 3, 2, 2\)"),
        (np.zeros(SHAPE, np.float32), r"got \(1, 2, 2\)"),
        (np.float32(1), r"got \(\)"),
        ([[[["text"]]]], "floating-point"),
    ],
)
def test_images_that_do_not_fit_are_refused(runtime, images, text):
    with pytest.raises(UserError, match=text):
        runtime(images)


def test_settings_that_the_machine_does_not_have_are_refused(path):
    with pytest.raises(UserError, match="at least 1, got 0"):
        wiry.Runtime(path, num_threads=0)
    with pytest.raises(UserError, match=r"has no .avx1024.; it has: .*portable"):
        wiry.Runtime(path, instruction_set="avx1024")


def test_a_network_that_the_runtime_does_not_know_is_refused_by_layer(tmp_path):
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 2), nn.Sigmoid())
    save(model, tmp_path / "net.wiry", input_shape=SHAPE)
    with pytest.raises(UserError, match=r"net\.wiry has no graph .*layer '2' \(Sigmoid\)"):
        wiry.Runtime(tmp_path / "net.wiry")


def test_a_missing_or_damaged_file_is_refused(tmp_path, path):
    with pytest.raises(UserError, match="gone"):
        wiry.Runtime(tmp_path / "gone.wiry")
    (tmp_path / "cut.wiry").write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"cut\.wiry"):
        wiry.Runtime(str(tmp_path / "cut.wiry"))


def test_without_the_compiled_core_it_says_what_to_do(path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wiry.runtime._native", None)
    with pytest.raises(UserError, match=r"(?s)not compiled .*apt install g\+\+.*make native"):
        wiry.Runtime(path)
