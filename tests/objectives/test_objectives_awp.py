"""Adversarial weight perturbation: the step, what it leaves alone, and what it can stand around."""

import dataclasses
import math

import pytest
import torch
from tests.objectives.test_objectives_invariants import batch as images
from tests.objectives.test_objectives_invariants import network
from tests.objectives.test_objectives_values import HALF, call
from tests.objectives.test_objectives_wrappers import FGSM_RS, Teacher, taught
from torch import Tensor, nn, tensor

from wiry.attacks.fgsm import FGSM
from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch, Loss
from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.registry import component, registry
from wiry.core.rng import stream
from wiry.objectives.adversarial import Adversarial
from wiry.objectives.awp import Awp, weight_perturbation
from wiry.objectives.distillation import Distillation
from wiry.objectives.free import Free
from wiry.objectives.mart import Mart
from wiry.objectives.natural import Natural
from wiry.objectives.noise import Noise
from wiry.objectives.trades import Trades


class Matrix(nn.Module):
    """Logits (0, w . x) with one weight matrix of two entries and a bias."""

    def __init__(self, *weights: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(tensor([weights]))
        self.bias = nn.Parameter(tensor([0.5]))

    def forward(self, x: Tensor) -> Tensor:
        logit = x.flatten(1) @ self.weight.T + self.bias
        return torch.cat([torch.zeros_like(logit), logit], 1)


def two_pixels() -> Batch:
    return Batch(tensor([1.0, 0.5]).view(1, 1, 1, 2), tensor([1]), tensor([0]))


def test_a_layer_moves_up_its_gradient_by_the_share_of_its_length():
    """The gradient is a multiple of minus the pixels (1, 1/2); |w| = 5."""
    model, batch = Matrix(3.0, 4.0), two_pixels()
    total = call(Natural(), model, batch).total
    shifts = weight_perturbation(model, total, gamma=0.1)
    length = math.sqrt(1.25)
    assert set(shifts) == {"weight"}
    torch.testing.assert_close(shifts["weight"], tensor([[-0.5 / length, -0.25 / length]]))


def test_an_entry_that_is_zero_is_not_moved_and_the_others_take_the_whole_length():
    model, batch = Matrix(3.0, 0.0), two_pixels()
    shifts = weight_perturbation(model, call(Natural(), model, batch).total, gamma=0.1)
    torch.testing.assert_close(shifts["weight"], tensor([[-0.3, 0.0]]))


def test_a_layer_without_gradient_is_not_moved():
    model, batch = Matrix(3.0, 4.0), two_pixels()
    shifts = weight_perturbation(model, call(Natural(), model, batch).total * 0, gamma=0.1)
    assert shifts["weight"].tolist() == [[0.0, 0.0]]


def test_the_loss_and_its_gradient_are_those_at_the_perturbed_weights():
    model, batch = Matrix(3.0, 4.0), two_pixels()
    loss = call(Awp(Natural(), gamma=0.1, warmup=0.0), model, batch)
    loss.total.backward()
    length = math.sqrt(1.25)
    moved = Matrix(3.0 - 0.5 / length, 4.0 - 0.25 / length)
    expected = call(Natural(), moved, batch).total
    expected.backward()
    assert loss.total.item() == pytest.approx(expected.item(), rel=1e-6)
    torch.testing.assert_close(model.weight.grad, moved.weight.grad)
    torch.testing.assert_close(model.bias.grad, moved.bias.grad)


WRAPPED = [
    Natural(),
    Adversarial(PGD(eps=0.1, steps=2)),
    Adversarial(FGSM_RS, natural_weight=0.5),
    Adversarial(FGSM_RS, mix="halves"),
    Trades(PGD(eps=0.1, steps=2, loss="kl", random_start=False)),
    Mart(PGD(eps=0.1, steps=2)),
    Noise(),
]


def awp(objective, **fields) -> Awp:
    return Awp(objective, **{"gamma": 0.02, "warmup": 0.0, **fields})


def use(objective, model: nn.Module, seed: int = 0) -> Loss:
    return objective(model, model, images(), stream(seed, "attack"))


@pytest.mark.parametrize("wrapped", [*WRAPPED, Free(replays=2)], ids=repr)
def test_weights_are_the_same_bits_before_within_and_after(wrapped):
    """Before, between loss and backward, and after; statistics are updated once."""
    model, plain = network(), network()
    before = {name: value.clone() for name, value in model.named_parameters()}
    objective = awp(wrapped)
    loss = use(objective, model)
    for stage in ("within", "after"):
        assert all(torch.equal(p, before[name]) for name, p in model.named_parameters()), stage
        if stage == "within":
            loss.total.backward()
            objective.after_backward()
    use(dataclasses.replace(wrapped), plain)
    assert int(model[1].num_batches_tracked) == int(plain[1].num_batches_tracked) > 0
    assert model[1].track_running_stats


@pytest.mark.parametrize("wrapped", WRAPPED, ids=repr)
def test_perturbed_weights_have_a_higher_loss_on_the_same_images_and_noise(wrapped):
    """To first order the loss rises by gamma * sum of |w| |g|: here within a quarter of that."""
    gamma = 1e-3
    plain, objective = use(wrapped, network()), awp(wrapped, gamma=gamma)
    model = network()
    weights = [p for p in model.parameters() if p.dim() >= 2]
    gradients = torch.autograd.grad(use(wrapped, model).total, weights)
    rise = gamma * sum(
        float(w.detach().norm() * g.norm()) for w, g in zip(weights, gradients, strict=True)
    )
    found = float((use(objective, network()).total - plain.total).detach())
    assert found == pytest.approx(rise, rel=0.25)


@pytest.mark.parametrize("wrapped", WRAPPED, ids=repr)
def test_without_a_perturbation_it_is_what_it_wraps_bit_for_bit(wrapped):
    plain = use(wrapped, network())
    for objective in (awp(wrapped, gamma=0.0), awp(wrapped, warmup=0.1)):
        found = use(objective, network())
        assert torch.equal(found.total, plain.total)
        assert found.metrics == plain.metrics


@pytest.mark.parametrize("wrapped", WRAPPED, ids=repr)
def test_it_draws_what_the_wrapped_objective_draws_and_reports_its_accuracies(wrapped):
    generators = stream(0, "attack"), stream(0, "attack")
    found = awp(wrapped)(model := network(), model, images(), generators[0])
    plain = wrapped(model := network(), model, images(), generators[1])
    assert torch.equal(generators[0].get_state(), generators[1].get_state())
    assert found.metrics == plain.metrics


def test_the_attack_searches_once():
    model, forwards = network(), []
    handle = model.register_forward_hook(lambda module, inputs, output: forwards.append(1))
    use(awp(Adversarial(PGD(steps=5))), model)
    handle.remove()
    assert len(forwards) == 5 + 2


@dataclasses.dataclass(frozen=True)
class ThenNoise:
    """An objective that draws after its attack has drawn."""

    attack: component("attack") = PGD(eps=0.1, steps=2)  # noqa: RUF009 - it is frozen
    seen: list = dataclasses.field(default_factory=list)

    def __call__(self, forward, model, batch, generator):
        found = self.attack(model, batch.x, batch.y, generator)
        self.seen.append(torch.rand(3, generator=generator).tolist())
        return Loss(nn.functional.cross_entropy(forward(found), batch.y), {})


def test_what_is_drawn_after_the_attack_is_the_same_in_both_passes():
    wrapped = ThenNoise()
    use(awp(wrapped), network())
    first, second = wrapped.seen
    assert first == second


def test_the_warm_up_is_a_share_of_the_stage():
    objective = Awp(Natural(), gamma=0.02, warmup=0.05)
    batches = [dataclasses.replace(images(), progress=share) for share in (0.0, 0.049, 0.05, 1.0)]
    totals = []
    for batch in batches:
        model = network()
        totals.append(float(objective(model, model, batch, stream(0, "a")).total.detach()))
    assert totals[0] == totals[1] < totals[2] == totals[3]


def test_a_pruned_network_is_only_perturbed_where_it_has_weights():
    """What the mask removed takes no part: the loss equals that of the smaller network."""
    model = network()
    generator = stream(0, "mask")
    mask = Mask(
        {
            name: torch.rand(p.shape, generator=generator) > 0.7
            for name, p in model.named_parameters()
            if p.dim() >= 2
        }
    )
    mask.apply_(model)
    shifts = weight_perturbation(model, use(Natural(), model).total, gamma=0.1)
    for name, kept in mask.items():
        assert not shifts[name][~kept].any() and shifts[name][kept].any()
        relative = shifts[name].norm() / model.get_parameter(name).detach().norm()
        assert float(relative) == pytest.approx(0.1, rel=1e-4)


def test_around_free_each_replay_perturbs_anew_and_moves_the_image():
    """The image climbs at the perturbed weights as it does at the plain ones: to the bound."""
    model, batch = Matrix(3.0, 4.0), two_pixels()
    objective, losses = awp(Free(eps=0.25, replays=3)), []
    assert objective.replays == 3
    for _ in range(3):
        loss = call(objective, model, batch)
        loss.total.backward()
        objective.after_backward()
        losses.append(loss.total.item())
    assert losses[0] < losses[1] <= losses[2]
    shifted = Batch(batch.x - 0.25, batch.y, batch.index)
    assert losses[2] == pytest.approx(call(awp(Natural()), model, shifted).total.item(), rel=1e-5)


def test_an_error_inside_leaves_the_model_as_found():
    """Nothing is written to the model, so there is nothing to put back but layers' statistics."""
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def forward(x: Tensor) -> Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        awp(Natural())(forward, model, images(), stream(0, "attack"))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(isinstance(p, nn.Parameter) for p in model.parameters())
    assert model[1].track_running_stats


def test_a_teacher_is_handed_on_and_asked_for():
    objective = awp(Distillation(HALF))
    with pytest.raises(UserError, match="has no teacher"):
        call(objective)
    loss = call(objective.with_teacher(Teacher(3.0)))
    assert loss.total.item() == pytest.approx(call(taught()).total.item())  # no matrix to perturb
    with pytest.raises(UserError, match=r"wraps Natural\(.*\), which takes no teacher"):
        awp(Natural()).with_teacher(Teacher(3.0))


def test_wrappers_nest_in_a_recipe():
    spec = {"name": "awp", "objective": {"name": "adversarial", "attack": {"name": "fgsm"}}}
    assert registry("objective").build(spec) == Awp(Adversarial(FGSM()))
    assert registry("objective").normalize(spec) == spec
    assert registry("objective").normalize({"name": "awp", "objective": "trades"}) == {
        "name": "awp"
    }
