"""When the detector of catastrophic overfitting speaks, and when it is quiet."""

import pytest
from tests.train.tiny import tiny_recipe

from wiry.core.recipe_file import parse_recipe
from wiry.core.run import read_metrics
from wiry.train.overfitting import OverfittingDetector
from wiry.train.stages import train


def heard(pairs, **fields):
    """Return the numbers of the rows at which the detector speaks, for pairs (train, val)."""
    detector = OverfittingDetector(**fields)
    rows = [
        {"step": step, "train_robust_accuracy": train, "validation_robust_accuracy": value}
        for step, (train, value) in enumerate(pairs)
    ]
    return [row["step"] for row in rows if detector(row) is not None]


HEALTHY = {
    "multi-step training": [(0.25, 0.28), (0.33, 0.36), (0.38, 0.4), (0.41, 0.43), (0.43, 0.44)],
    "a step of the learning rate, then robust overfitting": [
        (0.42, 0.43),
        (0.45, 0.46),
        (0.58, 0.52),
        (0.7, 0.48),
        (0.85, 0.44),
        (0.95, 0.42),
    ],
    "a collapse of both": [(0.4, 0.4), (0.5, 0.45), (0.1, 0.1), (0.1, 0.1)],
    "noise near chance": [(0.1, 0.11), (0.12, 0.04), (0.13, 0.09), (0.15, 0.02)],
    "a dip at the beginning": [(0.1, 0.2), (0.2, 0.12), (0.3, 0.25), (0.4, 0.35)],
    "one row with bad running statistics": [(0.45, 0.05), (0.5, 0.4), (0.55, 0.45)],
}


@pytest.mark.parametrize("pairs", HEALTHY.values(), ids=HEALTHY.keys())
def test_the_detector_is_quiet(pairs):
    assert heard(pairs) == []


def test_it_speaks_at_the_row_of_the_collapse_and_once():
    """The shape of figure 5 in Wong et al. 2020: PGD accuracy to zero within one epoch."""
    pairs = [(0.3, 0.3), (0.4, 0.38), (0.45, 0.42), (0.85, 0.02), (0.95, 0.0), (0.97, 0.0)]
    assert heard(pairs) == [3]


def test_it_speaks_of_a_slow_collapse_when_half_of_the_best_is_lost():
    pairs = [(0.4, 0.4), (0.45, 0.35), (0.5, 0.29), (0.55, 0.23), (0.6, 0.19), (0.65, 0.1)]
    assert heard(pairs) == [4]


def test_a_jump_of_the_training_side_is_a_sign_before_half_is_lost():
    assert heard([(0.4, 0.4), (0.42, 0.42), (0.6, 0.3)]) == [2]
    assert heard([(0.4, 0.4), (0.42, 0.42), (0.45, 0.3)]) == []


def test_accuracy_that_never_came_off_the_ground_is_a_sign_in_the_second_row():
    assert heard([(0.2, 0.0), (0.45, 0.01), (0.6, 0.01), (0.8, 0.0), (0.9, 0.0)]) == [2]


def test_it_speaks_again_after_a_recovery():
    pairs = [(0.4, 0.4), (0.8, 0.05), (0.9, 0.0), (0.5, 0.38), (0.9, 0.05), (0.9, 0.0)]
    assert heard(pairs) == [1, 4]


def test_rows_without_an_attack_on_either_side_say_nothing():
    detector = OverfittingDetector()
    assert detector({"step": 1, "train_robust_accuracy": 0.9}) is None
    assert detector({"step": 2, "validation_robust_accuracy": 0.5}) is None
    assert detector({"step": 3, "validation_robust_accuracy": 0.0}) is None


def test_the_sentence_has_the_numbers_and_what_to_do():
    detector = OverfittingDetector(split="test")
    rows = [
        {"step": 70, "train_robust_accuracy": 0.4, "test_robust_accuracy": 0.4},
        {"step": 140, "train_robust_accuracy": 0.9, "test_robust_accuracy": 0.05},
    ]
    assert detector(rows[0]) is None
    sentence = detector(rows[1])
    assert sentence is not None and "\n" not in sentence
    for part in ("at step 140", "on test fell from 0.400 to 0.050", "0.900", "random_start"):
        assert part in sentence


def test_the_latest_row_of_a_resumed_run_is_judged_like_that_of_an_uninterrupted_one():
    """A resumed run feeds the detector the rows already written."""
    pairs = [(0.4, 0.4), (0.8, 0.05), (0.9, 0.0)]
    assert heard(pairs) == heard(pairs[:2]) == [1]


def rows_of(attack, out):
    recipe = tiny_recipe(
        epochs=24, objective={"name": "adversarial", "attack": attack}, batch_size=64
    ).model_dump(exclude_defaults=True)
    recipe["model"]["widths"] = [64]
    recipe["stages"][0]["optimizer"] = {"name": "adam", "lr": 0.003}
    recipe["monitor"] = {
        "every": "4ep",
        "num_samples": 100,
        "attack": {"name": "pgd", "eps": 0.3, "steps": 5},
    }
    run = train(parse_recipe(recipe), out)
    return read_metrics(run.stage_dir("dense") / "metrics.jsonl")


def test_one_step_training_with_a_large_budget_is_caught_and_multi_step_training_is_not(tmp_path):
    """On the digits at eps 0.3: FGSM is held off, PGD never is."""
    told = {}
    for name, fields in (("fgsm", {}), ("pgd", {"steps": 5})):
        detector = OverfittingDetector()
        rows = rows_of({"name": name, "eps": 0.3, **fields}, tmp_path / name)
        told[name] = [sentence for row in rows if (sentence := detector(row)) is not None]
    assert len(told["fgsm"]) == 1 and "catastrophic overfitting" in told["fgsm"][0]
    assert told["pgd"] == []


def test_a_row_in_which_weights_were_pruned_is_no_sign():
    """Validation is measured after the cut, training before it."""
    detector = OverfittingDetector()
    rows = [(1.0, 0.8, 0.7), (1.0, 0.82, 0.75), (0.05, 0.84, 0.09), (0.05, 0.3, 0.28)]
    for density, right, value in rows:
        row = {"train_robust_accuracy": right, "validation_robust_accuracy": value}
        assert detector(row | {"density": density}) is None
