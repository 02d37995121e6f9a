"""The table's files: a bit-equal round trip, damage refused by name."""

import dataclasses

import numpy as np
import pytest
from tests.evaluation.example import DOWN, NAMES, UP, Threshold, X, Y

from wiry.core.errors import UserError
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.table import Table


def saved(folder):
    table = attack_images(Threshold(), X, Y, [UP, DOWN], seed=3)
    table.save(folder, "test", table.summary(split="test", class_names=NAMES))
    return table


def test_table_comes_back_from_its_files_as_it_was(tmp_path):
    table, loaded = saved(tmp_path), Table.load(tmp_path, "test")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.json", "test.npz"]
    before, after = table.arrays(), loaded.arrays()
    assert before.keys() == after.keys()
    for key, value in before.items():
        assert value.dtype == after[key].dtype and np.array_equal(value, after[key])
    kwargs = {"split": "test", "class_names": NAMES}
    assert loaded.summary(**kwargs) == table.summary(**kwargs)


@pytest.mark.parametrize("file", ["test.json", "test.npz"])
@pytest.mark.parametrize("damage", ["missing", "empty", "half", "foreign", "flipped"])
def test_damaged_table_is_refused_by_name(tmp_path, file, damage):
    saved(tmp_path)
    path = tmp_path / file
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        middle = len(content) // 2
        path.write_bytes(
            {
                "empty": b"",
                "half": content[:middle],
                "foreign": b"[1, 2]",
                "flipped": content[:middle] + b"\xff" + content[middle + 1 :],
            }[damage]
        )
    with pytest.raises(UserError, match=r"test\.(json|npz)"):
        Table.load(tmp_path, "test")


def test_pickled_arrays_are_refused(tmp_path):
    table = saved(tmp_path)
    summary = table.summary(split="test", class_names=NAMES)
    pickled = dataclasses.replace(table, label=np.array([object()], dtype=object))
    pickled.save(tmp_path, "test", summary)
    with pytest.raises(UserError, match=r"test\.npz"):
        Table.load(tmp_path, "test")
