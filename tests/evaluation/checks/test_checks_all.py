"""All checks at once: sound networks are not blamed, odd ones crash nothing, nothing is changed."""

import dataclasses
import gc
import weakref

import pytest
import torch
from tests.evaluation.checks.planted import (
    EPS,
    LONG,
    SHORT,
    Reversed,
    Spoiled,
    check,
    digits,
    subject_of,
    trained,
)
from torch import nn

from wiry.attacks.pgd import PGD
from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.evaluation.checks.probe import once
from wiry.evaluation.examine import findings_of

NEAR = (PGD(EPS / 3, steps=20, loss="margin"),)
ALL = registry("check").names()


def robust():
    return trained("adversarial")


def pruned():
    """Return the robust network with the smaller half of its weights at zero, and its mask."""
    model = robust()
    masks = {
        name: parameter.abs() > parameter.abs().median()
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1
    }
    sparse = type(model)()
    sparse.load_state_dict(model.state_dict())
    mask = Mask(masks)
    mask.apply_(sparse)
    return sparse.eval(), mask


@pytest.mark.parametrize("kind", ["natural", "adversarial"])
@pytest.mark.parametrize("attacks", [NEAR, LONG], ids=["pgd", "autoattack"])
def test_no_check_speaks_of_a_sound_network(kind, attacks):
    subject = subject_of(trained(kind), attacks, cascade=True)
    assert findings_of(subject) == []


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_no_check_speaks_of_a_sound_network_in_other_norms(norm):
    eps = {"l2": 0.5, "l1": 1.0}[norm]
    subject = subject_of(robust(), (PGD(eps, norm, steps=40, loss="margin", restarts=2),))
    assert findings_of(subject) == []


def test_no_check_speaks_of_a_sound_sparse_network():
    model, mask = pruned()
    assert findings_of(subject_of(model, LONG, cascade=True, mask=mask)) == []


def test_a_constant_network_is_called_so_and_nothing_else():
    constant = Spoiled(trained(), after=lambda logits: 0 * logits + 2 * torch.eye(10)[7])
    assert [finding.check for finding in findings_of(subject_of(constant, SHORT))] == ["chance"]


def test_a_random_network_is_not_blamed_for_what_luck_does():
    class Noise(nn.Module):
        generator = torch.Generator().manual_seed(0)

        def forward(self, x):
            return x + 0.3 * torch.randn(x.shape, generator=self.generator)

    subject = subject_of(Spoiled(trained(), before=Noise()), (PGD(EPS, steps=3),))
    names = {finding.check for finding in findings_of(subject)}
    assert "randomness" in names and not names & {"single-step", "black-box", "more-iterations"}


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize(
    "after",
    [
        lambda logits: (logits, logits),
        lambda logits: logits / 0,
        lambda logits: logits.flatten(),
        lambda logits: logits.double(),
        lambda logits: 0 * logits,
    ],
    ids=["tuple", "infinite", "flat", "double", "zero"],
)
def test_no_check_crashes_on_odd_answers(name, after):
    subject = dataclasses.replace(
        subject_of(trained(), SHORT), model=Spoiled(trained(), after=after)
    )
    check(name, subject)


@pytest.mark.parametrize("num", [1, 2])
def test_no_check_crashes_on_few_images_or_two_classes(num):
    x, y = digits()[2][:num], digits()[3][:num] % 2
    model = Spoiled(trained(), after=lambda logits: logits[:, :2])
    findings = findings_of(subject_of(model, SHORT, x=x, y=y, num_classes=2))
    assert all(finding.severity != "error" for finding in findings)


def test_findings_repeat_and_depend_on_no_batch_size():
    model = Spoiled(trained(), before=Reversed.apply)
    subject = subject_of(model, SHORT)
    first = findings_of(subject)
    again = findings_of(dataclasses.replace(subject, batch_size=7))
    assert [dataclasses.asdict(finding) for finding in first] == [
        dataclasses.asdict(finding) for finding in again
    ]


def test_the_model_comes_back_as_it_was():
    model = trained("adversarial")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    findings_of(subject_of(model, SHORT))
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is not None for p in model.parameters())


def test_what_is_found_out_is_kept_as_long_as_the_subject():
    calls = []

    @once
    def counted(subject):
        calls.append(1)
        return len(calls)

    subject = subject_of(trained(), table=False)
    assert (counted(subject), counted(subject)) == (1, 1)
    assert counted(dataclasses.replace(subject, seed=1)) == 2
    gone = weakref.ref(subject)
    check("single-step", subject)
    del subject
    gc.collect()
    assert gone() is None
