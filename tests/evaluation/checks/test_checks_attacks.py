"""Checks of gradients and attacks: planted faults are found, sound networks are not blamed."""

import dataclasses

import numpy as np
import pytest
from tests.evaluation.checks.planted import (
    EPS,
    LONG,
    SHORT,
    Reversed,
    Spoiled,
    check,
    subject_of,
    trained,
)

from wiry.attacks.pgd import PGD
from wiry.attacks.square import Square
from wiry.evaluation.checks.large_eps import large
from wiry.evaluation.checks.more_iterations import severity_of
from wiry.evaluation.table import Table


def robust():
    return trained("adversarial")


def test_a_network_without_gradient_is_an_error_unless_an_attack_needs_none():
    model = Spoiled(trained(), before=lambda x: x.detach())
    subject = subject_of(model, (Square(EPS, num_queries=5),))
    assert check("gradients", subject).severity == "warning"
    white = dataclasses.replace(subject, attacks=(PGD(EPS),))
    finding = check("gradients", white)
    assert finding.severity == "error" and "no gradient" in finding.message


def test_steps_in_the_input_are_an_error():
    model = Spoiled(trained(), before=lambda x: (x * 4).round() / 4)
    finding = check("gradients", subject_of(model, SHORT))
    assert finding.severity == "error" and finding.evidence["zero_margin"] == 1


def test_saturation_of_the_cross_entropy_is_told_from_steps():
    model = Spoiled(trained(), after=lambda logits: 1e4 * logits)
    finding = check("gradients", subject_of(model, (PGD(EPS, steps=2),)))
    assert finding.severity == "warning" and "too sure" in finding.message
    assert finding.evidence["zero_margin"] == 0 and finding.evidence["zero_cross_entropy"] > 0.5
    assert check("gradients", subject_of(model, SHORT)).severity == "note"


def test_gradients_that_are_no_numbers_are_an_error():
    # the root has an infinite slope at 0, where many pixels are, and 0 * inf is nan
    model = Spoiled(trained(), before=lambda x: x + 0 * x.sqrt())
    finding = check("gradients", dataclasses.replace(subject_of(model), attacks=SHORT))
    assert finding.severity == "error" and finding.evidence["non_finite"] > 0.5


def test_steps_that_lose_their_way_are_found_by_three_checks():
    model = Spoiled(trained(), before=Reversed.apply)  # right at images of the data, else reversed
    subject = subject_of(model, SHORT)
    assert check("single-step", subject).evidence["fgsm"] > 0.5
    assert check("large-eps", subject).evidence["standing"] > 0.5
    found = check("black-box", subject)
    assert found.severity == "warning" and found.evidence["only_square"] > 0.3
    assert subject.table is not None and subject.table.robust.mean() > 0.8  # and yet


def test_more_steps_break_what_a_short_attack_left():
    subject = subject_of(trained(), (PGD(EPS, steps=10, step_size=EPS / 100, random_start=False),))
    finding = check("more-iterations", subject)
    assert finding.severity == "warning" and finding.evidence["fooled"] > 0.5
    assert subject.table is not None
    left = subject.table.robust
    broken = finding.evidence["fooled"] * left.mean()
    assert finding.evidence["at_stake"] == pytest.approx(broken)


@pytest.mark.parametrize(
    ("at_stake", "share", "severity"),
    [(0.05, 0.1, "note"), (0.1, 0.2, "warning"), (0.03, 0.3, "warning")],
)
def test_some_points_are_a_note_and_many_a_warning(at_stake, share, severity):
    assert severity_of(at_stake, share) == severity


def test_few_steps_are_noted_even_if_more_do_not_help():
    few = subject_of(robust(), (PGD(EPS / 3, steps=9, loss="margin"),))
    finding = check("more-iterations", few)
    assert finding.severity == "note" and "9 gradient steps" in finding.message
    many = subject_of(robust(), (PGD(EPS / 3, steps=10, loss="margin"),))
    assert check("more-iterations", many) is None


def test_an_evaluation_without_perturbation_loses_all_to_more_steps():
    subject = subject_of(trained(), (PGD(EPS * 2, steps=1, step_size=1e-9, random_start=False),))
    assert check("more-iterations", subject).evidence["fooled"] == 1
    assert check("black-box", subject) is None  # nothing is left to try


def test_the_attacks_of_autoattack_are_not_repeated():
    hidden = Spoiled(trained(), before=Reversed.apply)
    subject = dataclasses.replace(subject_of(hidden, SHORT), attacks=LONG)
    assert check("more-iterations", subject) is None


def table(columns, cascade):
    count = len(next(iter(columns.values())))
    ones = np.ones(count, dtype=bool)
    return Table(
        index=np.arange(count),
        label=np.zeros(count, dtype=int),
        prediction=np.zeros(count, dtype=int),
        clean_correct=ones,
        by_attack={key: np.array(value, dtype=bool) for key, value in columns.items()},
        attacks=(),
        seed=0,
        cascade=cascade,
        examples={},
    )


@pytest.mark.parametrize(
    ("cascade", "pgd", "square", "taken"),
    [
        (True, [1, 1, 1, 0], [1, 0, 0, 0], 2),
        (True, [1, 1, 1, 0], [1, 1, 0, 0], 0),
        (False, [0, 0, 1, 1], [1, 1, 0, 0], 2),
        (False, [0, 0, 1, 1], [0, 0, 1, 1], 0),
    ],
)
def test_what_only_square_took_is_read_from_the_table(cascade, pgd, square, taken):
    rows = table({"pgd": pgd, "square": square}, cascade)
    subject = subject_of(trained(), table=False, attacks=(PGD(EPS), Square(EPS)))
    finding = check("black-box", dataclasses.replace(subject, table=rows))
    assert (finding.evidence["only_square"] * 4 if finding else 0) == taken


def test_one_image_of_a_thousand_is_no_reason_to_doubt():
    left = np.arange(1000) > 0
    rows = table({"pgd": np.ones(1000), "square": left}, True)
    subject = subject_of(trained(), table=False, attacks=(PGD(EPS), Square(EPS)))
    assert check("black-box", dataclasses.replace(subject, table=rows)) is None


@pytest.mark.parametrize(("norm", "radius"), [("linf", 0.5), ("l2", 4.0), ("l1", 32.0)])
def test_the_large_radius_moves_each_of_64_pixels_by_a_half(norm, radius):
    assert large(norm, 64) == pytest.approx(radius)
