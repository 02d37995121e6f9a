"""Half-batch training, one-step attacks and distillation on numbers that can be written out."""

import math

import pytest
import torch
from tests.objectives.test_objectives_invariants import batch as images
from tests.objectives.test_objectives_invariants import network
from tests.objectives.test_objectives_values import (
    HALF,
    OneWeight,
    call,
    divergence,
    one_pixel,
    sigmoid,
)
from torch import Tensor, nn, tensor

from wiry.attacks.fgsm import FGSM
from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.objectives.adversarial import Adversarial
from wiry.objectives.distillation import Distillation

FGSM_RS = FGSM(0.25, random_start=True)

# --- half of the batch attacked


def pixels(*values: float, label: int = 1) -> Batch:
    x = tensor(values).view(-1, 1, 1, 1)
    return Batch(x, torch.full((len(values),), label), torch.arange(len(values)))


def test_halves_attacks_the_images_at_even_places_and_weighs_all_alike():
    loss = call(Adversarial(HALF, mix="halves"), batch=pixels(1.0, 0.9, 0.8))
    seen = (0.5, 0.9, 0.3)
    expected = sum(-math.log(sigmoid(2 * pixel)) for pixel in seen) / 3
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
    assert {n: float(v) for n, v in loss.metrics.items()} == {"accuracy": 1, "robust_accuracy": 1}


def test_halves_reports_each_accuracy_on_its_own_half():
    """The network says 1 for every positive pixel, so label 0 is right only at 0 and below."""
    model = OneWeight(-2.0)  # now it says 0
    loss = call(Adversarial(HALF, mix="halves"), model, pixels(1.0, 1.0, label=0))
    assert {n: float(v) for n, v in loss.metrics.items()} == {"accuracy": 1, "robust_accuracy": 1}
    loss = call(Adversarial(FGSM(1.0), mix="halves"), OneWeight(), pixels(0.5, 0.5))
    assert loss.metrics["accuracy"] == 1  # attacked to 0, where the two logits are equal
    assert loss.metrics["robust_accuracy"] == 0


def test_a_batch_of_one_is_attacked_and_has_no_clean_half():
    loss = call(Adversarial(HALF, mix="halves"))
    assert loss.total.item() == pytest.approx(-math.log(sigmoid(2 * 0.5)))
    assert set(loss.metrics) == {"robust_accuracy"}


def test_halves_leaves_the_images_of_the_batch_as_they_are():
    batch = pixels(1.0, 0.9)
    call(Adversarial(HALF, mix="halves"), batch=batch)
    assert batch.x.flatten().tolist() == [1.0, pytest.approx(0.9)]


def test_halves_costs_half_the_attack_and_one_plain_forward():
    model, seen = network(), []
    handle = model.register_forward_hook(lambda module, inputs, output: seen.append(len(output)))
    objective = Adversarial(PGD(steps=3), mix="halves")
    objective(model, model, images(), stream(0, "attack"))
    handle.remove()
    assert seen == [12, 12, 12, 24]


# --- one step from a random point


def test_fgsm_with_a_random_start_moves_by_five_quarters_of_the_radius():
    """Wong et al. 2020: alpha = 1.25 eps, projected; from anywhere it ends beyond the centre."""
    assert FGSM_RS.resolved_step_size() == 1.25 * 0.25
    batch = pixels(*[0.5] * 200)
    found = FGSM_RS(OneWeight(), batch.x, batch.y, stream(0, "attack")).flatten()
    assert float(found.min()) == 0.25  # the ball's bound, reached from the nearer 3/4 of it
    assert 0.25 <= float(found.max()) <= 0.5 + 0.25 - 1.25 * 0.25
    assert 0.45 < float((found == 0.25).float().mean()) < 0.8  # 5/8 of the starts


# --- distillation


class Teacher(OneWeight):
    """A network that is asked only."""

    def __init__(self, weight: float) -> None:
        super().__init__(weight)
        self.eval().requires_grad_(False)


def taught(weight: float = 3.0, **fields) -> Distillation:
    return Distillation(HALF, **fields).with_teacher(Teacher(weight))


def test_ard_is_the_divergence_of_the_softened_predictions_times_the_temperature_squared():
    loss = call(taught(temperature=2.0))
    expected = 4 * divergence(sigmoid(3 / 2), sigmoid(2 * 0.5 / 2))
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
    assert set(loss.metrics) == {"robust_accuracy"}


def test_ard_mixes_in_the_cross_entropy_of_the_clean_image():
    loss = call(taught(temperature=2.0, share=0.75))
    expected = 0.75 * 4 * divergence(sigmoid(1.5), sigmoid(0.5)) - 0.25 * math.log(sigmoid(2))
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
    assert set(loss.metrics) == {"accuracy", "robust_accuracy"}


def test_rslad_compares_both_predictions_with_the_teacher_and_uses_no_label():
    """The student is above the teacher, so its divergence grows with the pixel: up to 1."""
    totals = []
    for label in (0, 1):
        objective = taught(weight=1.0, variant="rslad")
        loss = call(objective, batch=one_pixel(0.5, label))
        target = sigmoid(1.0 * 0.5)
        expected = 5 / 6 * divergence(target, sigmoid(2.0)) + 1 / 6 * divergence(
            target, sigmoid(1.0)
        )
        assert loss.total.item() == pytest.approx(expected, rel=1e-4)
        totals.append(loss.total.item())
    assert totals[0] == totals[1]


def test_the_attack_of_rslad_finds_more_divergence_than_that_on_the_labels():
    student, teacher = network(), network().eval().requires_grad_(False)
    with torch.no_grad():
        teacher[4].weight.mul_(-1)
    batch = images()
    target = teacher(batch.x).softmax(1)

    def reached(attack_labels: Tensor) -> float:
        found = PGD(eps=0.1)(student, batch.x, attack_labels, stream(0, "attack"))
        student.eval()
        divergence = nn.functional.kl_div(
            student(found).log_softmax(1), target, reduction="batchmean"
        )
        student.train()
        return float(divergence.detach())

    assert reached(target) > reached(batch.y)


@pytest.mark.parametrize(("variant", "share", "temperature"), [("ard", 1, 30), ("rslad", 5 / 6, 1)])
def test_fields_that_are_left_out_are_the_published_ones(variant, share, temperature):
    plain, written = (
        call(taught(variant=variant, **fields)).total.item()
        for fields in ({}, {"share": share, "temperature": temperature})
    )
    assert plain == written


def test_a_student_equal_to_its_teacher_has_only_the_divergence_that_the_attack_makes():
    assert call(
        Distillation(FGSM(0.0), variant="rslad").with_teacher(Teacher(2.0))
    ).total.item() == pytest.approx(0, abs=1e-6)


def test_the_teacher_gets_no_gradient_and_the_original_no_teacher():
    teacher, student = Teacher(3.0), OneWeight()
    original = Distillation(HALF)
    call(original.with_teacher(teacher), student).total.backward()
    assert teacher.weight.grad is None and student.weight.grad is not None
    with pytest.raises(UserError, match="has no teacher; set `teacher: STAGE` on the stage"):
        call(original)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "adversarial", "mix": "halfs"}, "mix: Input should be 'both' or 'halves'"),
        (
            {"name": "adversarial", "mix": "halves", "natural_weight": 0.5},
            "mix 'halves' weighs all images of a batch alike",
        ),
        ({"name": "awp", "gamma": -1}, "gamma must be at least 0, got -1"),
        ({"name": "awp", "warmup": 10}, r"warmup must be in \[0, 1\), got 10"),
        ({"name": "awp", "objective": "tradse"}, "closest: 'trades'"),
        ({"name": "distillation", "share": 1.5}, r"share must be in \[0, 1\], got 1.5"),
        ({"name": "distillation", "temperature": 0}, "temperature must be above 0, got 0"),
        (
            {"name": "distillation", "variant": "rslad", "attack": "apgd"},
            "needs the attack 'pgd' with loss 'ce' or 'fgsm'",
        ),
        (
            {
                "name": "distillation",
                "variant": "rslad",
                "attack": {"name": "fgsm", "label": "predicted"},
            },
            "and label 'true'",
        ),
    ],
)
def test_a_field_that_makes_no_sense_is_refused_with_the_reason(spec, message):
    with pytest.raises(UserError, match=message):
        registry("objective").build(spec)
