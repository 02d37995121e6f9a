"""Accuracy under corruptions: shares written out, the baseline, and published files."""

import json

import numpy as np
import pytest
import torch
from tests.evaluation.example import NAMES, pixels
from torch import nn

from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.data.cifar10 import CLASSES
from wiry.data.corruptions import CORRUPTIONS
from wiry.data.corruptions.official import official_files
from wiry.evaluation import corruption
from wiry.evaluation.examine import measured
from wiry.evaluation.judge import predict
from wiry.evaluation.measures.corruptions import Corruptions
from wiry.evaluation.subject import Subject

X = pixels([100 / 255, 120 / 255])  # grey images of one pixel; above 0.5 the model says bright
Y = torch.tensor([0, 0])
BASELINE = corruption.Baseline(
    what="by hand",
    class_names=NAMES,
    shape=(1, 1, 1),
    clean_error=0.0,
    error={"brightness": (0.1, 0.2, 0.3, 0.2, 0.2), "contrast": (0.1, 0.1, 0.1, 0.1, 0.1)},
)


class Bright(nn.Module):
    """Says 1 where the first pixel is above 0.5."""

    def forward(self, x):
        pixel = x.flatten(1)[:, :1]
        return torch.cat([0.5 - pixel, pixel - 0.5], dim=1)


def subject(x=X, y=Y, class_names=NAMES, batch_size=128):
    model = Bright()
    right = predict(model, x) == y
    return Subject(model, x, y, right, 2, class_names, batch_size=batch_size)


def examined(measure, **kwargs):
    ((_, found),) = measured(subject(**kwargs), [measure])
    return found


def test_shares_are_those_written_out():
    # brightness adds 0.05, 0.1, 0.15, 0.2 and 0.3: the first image passes 0.5 at severity 3, the
    # second at once; contrast leaves an even image as it is
    found = examined(Corruptions(names=["brightness", "contrast"]))
    assert found.arrays["right"].shape == (2, 2, 5)
    assert found.arrays["right"][0].tolist() == [[True, True, False, False, False], [True] * 5]
    assert found.arrays["right"][1].tolist() == [[False] * 5, [True] * 5]
    assert found.values == {
        "clean_accuracy": 1.0,
        "corrupted_accuracy": 0.6,
        "mean_error": pytest.approx(0.4),
        "mean_corruption_error": None,
        "baseline": "there is no baseline for this data set",
        "brightness": 0.2,
        "contrast": 1.0,
    }
    (curve,) = found.curves
    assert curve.x == [0, 1, 2, 3, 4, 5]
    assert curve.y == [1.0, 0.75, 0.75, 0.5, 0.5, 0.5]
    json.dumps(found.values)


def test_severities_are_chosen_and_come_in_order():
    found = examined(Corruptions(names=["brightness"], severities=[3, 1], num_samples=1))
    assert found.arrays["right"].tolist() == [[[True, False]]]
    assert found.curves[0].x == [0, 1, 3]
    assert "severity 1, 3 on 1 images" in found.remark


def test_the_mean_corruption_error_is_that_written_out(monkeypatch):
    error = np.array([[0.5, 0.5, 1, 1, 1], [0, 0, 0, 0, 0.25]])
    names = ["brightness", "contrast"]
    ratio = corruption.mean_corruption_error(error, names, [1, 2, 3, 4, 5], BASELINE)
    assert ratio == pytest.approx((4.0 / 1.0 + 0.25 / 0.5) / 2)
    chosen = corruption.mean_corruption_error(error[:1, [0, 4]], names[:1], [1, 5], BASELINE)
    assert chosen == pytest.approx(1.5 / 0.3)

    where = "wiry.evaluation.measures.corruptions.stored_baseline"
    monkeypatch.setattr(where, lambda: BASELINE)
    found = examined(Corruptions(names=names))
    assert found.values["mean_corruption_error"] == pytest.approx((4.0 + 0) / 2)
    assert found.values["baseline"] == "by hand"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, None),
        ({"class_names": ("a", "b")}, "there is no baseline for this data set"),
        ({"shape": (3, 1, 1)}, "there is no baseline for this data set"),
        ({"is_published": True}, "not on the published files"),
        ({"names": ["brightness", "fog", "snow"]}, "the baseline has no fog, snow"),
    ],
)
def test_a_baseline_is_used_only_for_what_it_is_of(change, reason):
    given = {"names": ["contrast"], "class_names": NAMES, "shape": (1, 1, 1), "is_published": False}
    given |= change
    found = corruption.unfit(BASELINE, given.pop("names"), **given)
    assert found is None if reason is None else reason in found


def test_the_stored_baseline_is_of_cifar10_and_all_corruptions():
    baseline = corruption.stored_baseline()
    assert baseline.class_names == CLASSES and baseline.shape == (3, 32, 32)
    assert list(baseline.error) == list(CORRUPTIONS)
    assert 0 < baseline.clean_error < 0.3
    for row in baseline.error.values():
        assert len(row) == 5 and all(0 < share < 1 for share in row)
    rows = np.array(list(baseline.error.values()))
    own = corruption.mean_corruption_error(rows, list(CORRUPTIONS), [1, 2, 3, 4, 5], baseline)
    assert own == pytest.approx(1.0)
    assert (np.diff(rows.mean(axis=0)) > 0).all()  # worse with severity


def test_verdicts_do_not_depend_on_the_batch_size():
    x = torch.rand(9, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    y = torch.arange(9) % 2
    measure = Corruptions(names=["gaussian_noise", "frost", "elastic_transform"])
    whole, parts = (examined(measure, x=x, y=y, batch_size=size) for size in (128, 2))
    assert np.array_equal(whole.arrays["right"], parts.arrays["right"])
    assert whole.values == parts.values


def plant(folder, labels, grey):
    """One file of fog: one-pixel colour images, of this level at each severity."""
    np.save(folder / "labels.npy", np.array(list(labels) * 5, np.uint8))
    images = np.repeat(np.array(grey, np.uint8), len(labels))
    np.save(folder / "fog.npy", np.tile(images[:, None, None, None], (1, 1, 1, 3)))
    return folder


def test_published_files_are_read_and_not_made(tmp_path):
    folder = plant(tmp_path, [0, 0, 1], [0, 100, 200, 200, 100])
    measure = Corruptions(names=["fog"], folder=str(folder))
    x, y = torch.zeros(3, 3, 1, 1), torch.tensor([0, 0, 1])
    found = examined(measure, x=x, y=y)
    assert found.arrays["right"][:, 0].tolist() == [
        [True, True, False, False, True],
        [True, True, False, False, True],
        [False, False, True, True, False],
    ]
    assert "of the published files" in found.remark


def test_published_files_of_other_images_are_refused(tmp_path):
    files = official_files(plant(tmp_path, [0, 0, 1], [0] * 5))
    x = torch.zeros(3, 3, 1, 1)
    corruption.published(files, ["fog"], x[:2], torch.tensor([0, 0]))
    for labels in ([1, 0, 1], [0, 0, 1, 0]):
        with pytest.raises(UserError, match="not those of the"):
            corruption.published(files, ["fog"], x, torch.tensor(labels))
    with pytest.raises(UserError, match=r"has no snow.npy"):
        corruption.published(files, ["fog", "snow"], x, torch.tensor([0, 0, 1]))


def test_the_measure_is_found_and_its_spec_is_plain_data():
    spec = {"name": "corruptions", "names": ["fog"], "severities": [5], "num_samples": 10}
    measure = registry("measure").build(spec)
    assert measure == Corruptions(["fog"], [5], 10)
    assert registry("measure").normalize(measure) == spec
    assert registry("measure").normalize("corruptions") == {"name": "corruptions"}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"names": ["fgo"]}, "closest: 'fog'"),
        ({"names": []}, "names must be one or more"),
        ({"severities": [2, 2]}, "severities must be one or more different"),
        ({"severities": [0]}, "severity of a corruption is 1, 2, 3, 4 or 5"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
    ],
)
def test_fields_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(UserError, match=message):
        registry("measure").build({"name": "corruptions", **fields})
