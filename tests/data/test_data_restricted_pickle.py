"""A pickle of arrays is read, and nothing that it asks for is run."""

import os
import pickle

import numpy as np
import pytest
import torch
from tests.data.test_data_pseudo_labelled import IMAGES, LABELS, published, spec, written

from wiry.core.errors import UserError
from wiry.data.base import build_dataset
from wiry.data.restricted_pickle import load_arrays


class Attack:
    """An object whose pickle asks for a call."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def test_names_of_old_and_new_numpy_are_read_alike(tmp_path):
    """Files of numpy 1 say numpy.core where numpy 2 says numpy._core."""
    content = pickle.dumps({"data": IMAGES}, 2)
    assert b"numpy._core.multiarray" in content or b"numpy.core.multiarray" in content
    old = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    new = old.replace(b"numpy.core.multiarray", b"numpy._core.multiarray")
    for text in (old, new):
        path = tmp_path / "x.pickle"
        path.write_bytes(text)
        np.testing.assert_array_equal(load_arrays(path)["data"], IMAGES)


def test_order_in_memory_and_byte_order_are_kept(tmp_path):
    arrays = {
        "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big": np.array([1, 2, 300], dtype=">i4"),
        "number": np.int64(7),
        "wide": np.arange(12.0).reshape(3, 4)[:, ::2],
        "note": "left out",
    }
    for protocol in (2, 5):
        found = load_arrays(written(tmp_path / "x.pickle", arrays, protocol))
        assert found.keys() == arrays.keys() - {"note"}
        for name, value in found.items():
            np.testing.assert_array_equal(value, arrays[name])


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_runs_a_command_is_refused_by_name_and_runs_nothing(tmp_path, protocol):
    proof = tmp_path / "proof"
    bad = {"data": Attack(os.system, f"touch {proof}"), "extrapolated_targets": LABELS}
    path = written(tmp_path / "bad.pickle", bad, protocol)
    with pytest.raises(UserError, match=r"bad\.pickle is refused: it asks for (posix|nt)\.system"):
        build_dataset(spec(path))
    assert not proof.exists()


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (Attack(eval, "1"), "eval"),
        (Attack(getattr, "x", "upper"), "getattr"),
        (Attack(np.load, "x"), r"numpy\.load"),
        (Attack(np.asarray, [1]), r"numpy\.asarray"),
        (torch.nn.Identity(), r"torch\.nn\.modules\.linear\.Identity"),
        (set, r"builtins\.set"),
    ],
)
def test_every_other_name_is_refused_too(tmp_path, content, name):
    with pytest.raises(UserError, match=f"it asks for .*{name}"):
        load_arrays(written(tmp_path / "x.pickle", {"data": content}))


def test_an_array_of_objects_is_refused(tmp_path):
    path = written(tmp_path / "x.pickle", {"data": np.array([None, "a"], dtype=object)})
    with pytest.raises(UserError, match="array of type 'O8'; only plain numbers"):
        load_arrays(path)


def test_the_state_of_what_stands_for_a_name_cannot_be_set(tmp_path):
    """The opcodes GLOBAL, an empty dictionary, and BUILD, by hand."""
    path = tmp_path / "x.pickle"
    path.write_bytes(b"cnumpy.core.multiarray\n_reconstruct\n}b.")
    with pytest.raises(UserError, match="sets the state of a function"):
        load_arrays(path)


@pytest.mark.parametrize("length", [0, 1, 10, 100, 300])
def test_a_pickle_that_is_cut_short_is_an_error_of_one_line(tmp_path, length):
    path = published(tmp_path / "x.pickle")
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match=r"^[^\n]*is not a readable pickle[^\n]*$"):
        load_arrays(path)


def test_an_array_with_too_few_bytes_is_refused(tmp_path):
    path = tmp_path / "x.pickle"
    content = pickle.dumps({"data": np.arange(4, dtype=np.uint8).reshape(2, 2)}, 4)
    shape = b"K\x02K\x02\x86"
    assert content.count(shape) == 1
    path.write_bytes(content.replace(shape, b"K\x02K\x09\x86"))
    with pytest.raises(UserError, match="bytes do not fit"):
        load_arrays(path)
