"""Every engine answers like torch, and its file is what it says."""

import sys
from collections import Counter

import numpy as np
import pytest
import torch
from tests.bench import example

from wiry.bench.channels import with_few_channels
from wiry.bench.memory import peak_memory
from wiry.core.channels import channel_groups
from wiry.core.errors import UserError
from wiry.core.mask import prunable
from wiry.core.registry import registry

EXACT = [
    "torch",
    "onnxruntime",
    "openvino",
    "wiry",
    pytest.param("torch-compile", marks=pytest.mark.slow),
]


def answer(name, subject, folder, images, **settings):
    engine = registry("engine").build(name)
    path = engine.write(subject, folder)
    settings = {"batch_size": len(images), "num_threads": 1} | settings
    return engine.open(path, subject.input_shape, **settings)(images), path


@torch.no_grad()
def expected(subject, images):
    return subject.model(torch.from_numpy(images)).numpy()


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("subject", [example.operators(), example.sparse()], ids=["all", "sparse"])
def test_an_exact_engine_answers_like_torch(name, subject, tmp_path):
    if name == "openvino":
        pytest.importorskip("openvino")
    images = subject.random_images(3).numpy()
    wanted = expected(subject, images)
    found, path = answer(name, subject, tmp_path, images)
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() <= 2e-6 * np.abs(wanted).max()
    assert path.stat().st_size > 0
    assert registry("engine").build(name).exact


def test_int8_answers_nearly_like_torch_and_is_not_called_exact(tmp_path):
    subject = example.sparse(sparsity=0.5)
    images = subject.random_images(3).numpy()
    wanted = expected(subject, images)
    found, path = answer("onnxruntime-int8", subject, tmp_path, images)
    difference = np.abs(found - wanted).max() / np.abs(wanted).max()
    assert 1e-5 < difference < 0.2
    assert not registry("engine").build("onnxruntime-int8").exact
    assert path.stat().st_size < (tmp_path / "float32.onnx").stat().st_size / 2


def test_a_network_without_dead_channels_is_not_called_shrunk(tmp_path):
    with pytest.raises(UserError, match="no channel is dead"):
        registry("engine").build("onnxruntime-shrunk").write(example.sparse(sparsity=0.1), tmp_path)


def test_a_shrunk_network_answers_like_the_whole_one_and_is_smaller(tmp_path):
    subject = example.sparse(dead=True, sparsity=0.1)
    images = subject.random_images(3).numpy()
    wanted = expected(subject, images)
    found, small = answer("onnxruntime-shrunk", subject, tmp_path, images)
    _, whole = answer("onnxruntime", subject, tmp_path, images)
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()
    assert small.stat().st_size < whole.stat().st_size / 1.5


@pytest.mark.parametrize("sparsity", [0.5, 0.9, 0.99])
def test_a_channel_pruned_network_has_nearly_as_many_weights_as_the_sparse_one(sparsity):
    subject = example.sparse("resnet18", sparsity, (3, 8, 8))
    small = with_few_channels(subject)
    num_small = sum(w.numel() for w in prunable(small.model).values())
    assert 0.8 * subject.num_nonzero() < num_small <= subject.num_nonzero()


def test_the_channels_that_stay_are_the_strongest():
    subject = example.sparse("mlp", 0.0, (1, 8, 8))
    group = channel_groups(subject.model)[0]
    (weight,) = (n for n in group.outputs if n in prunable(subject.model))
    with torch.no_grad():
        prunable(subject.model)[weight][7:] *= 0.01
        for name, value in prunable(subject.model).items():
            if name != weight:
                value[:, value.shape[1] // 2 :] = 0  # half of the weights are counted
    before = prunable(subject.model)[weight][:7].clone()
    after = prunable(with_few_channels(subject).model)[weight]
    rows = {tuple(row.tolist()) for row in after}
    assert all(tuple(row.tolist()) in rows for row in before)
    assert 7 < len(after) < group.size


def test_peak_memory_is_that_of_a_process_of_its_own(tmp_path):
    if sys.platform != "linux":
        pytest.skip("read from /proc")
    subject = example.sparse()
    sizes = Counter()
    for name in ("wiry", "torch"):
        engine = registry("engine").build(name)
        path = engine.write(subject, tmp_path)
        arguments = {"batch_size": 2, "num_threads": 1}
        found = peak_memory(engine, path, subject.input_shape, **arguments)
        assert found is not None
        sizes[name] = found
    assert 10e6 < sizes["wiry"] < sizes["torch"] / 2  # no torch in it


def test_a_missing_package_is_named_with_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(UserError, match=r"onnx is not installed: pip install 'wiry\[onnx\]'"):
        registry("engine").build("onnxruntime").write(example.sparse(), tmp_path)
