"""The penalty on activity: its value, its gradient, and what it leaves to the inner objective."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.evaluation.activity import activation_sparsity
from wiry.objectives.activity import Activity
from wiry.objectives.adversarial import Adversarial
from wiry.objectives.free import Free
from wiry.objectives.natural import Natural


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 24), nn.ReLU(), nn.Linear(24, 12), nn.ReLU(),
            nn.Linear(12, 3),
        )  # fmt: skip


def batch() -> Batch:
    generator = stream(3, "batch")
    y = torch.randint(0, 3, (30,), generator=generator)
    x = torch.rand(30, 1, 4, 4, generator=generator) * 0.5
    x[torch.arange(30), 0, y] += 0.5
    return Batch(x, y, torch.arange(30))


def loss(objective, model: nn.Module):
    return objective(model, model, batch(), stream(0, "attack"))


def taught(objective):
    """The objective with a teacher, if it (or the one it wraps) takes one."""
    try:
        return objective.with_teacher(network().eval())
    except (AttributeError, UserError):
        return objective


class Two(nn.Module):
    """One activation of two units whose values are the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.scale, self.active = nn.Parameter(torch.ones(2)), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.active(self.scale * x.flatten(1))


def test_the_penalty_is_the_weight_times_the_mean_of_all_activations():
    model = Two()
    x = torch.tensor([[[[1.0, 3.0]]], [[[0.0, 4.0]]]])
    images = Batch(x, torch.tensor([1, 1]), torch.arange(2))
    plain = Natural()(model, model, images, stream(0, "attack"))
    punished = Activity(weight=0.5)(model, model, images, stream(0, "attack"))
    torch.testing.assert_close(punished.total - plain.total, torch.tensor(0.5 * 8 / 4))
    assert punished.metrics["activity"] == 2
    (gradient,) = torch.autograd.grad(punished.total - plain.total.detach(), model.scale)
    (plain_gradient,) = torch.autograd.grad(plain.total, model.scale)
    torch.testing.assert_close(gradient - plain_gradient, 0.5 * torch.tensor([1.0, 7.0]) / 4)


def test_the_mean_is_over_all_layers_together():
    model, seen = network(), []
    for place in (2, 4):
        model[place].register_forward_hook(lambda _, __, out: seen.append(out.detach()))
    measured = loss(Activity(), model).metrics["activity"]
    expected = (seen[0].sum() + seen[1].sum()) / (30 * 24 + 30 * 12)
    torch.testing.assert_close(measured, expected)


def test_only_forwards_of_the_loss_are_counted_and_no_hook_stays():
    model = network()
    objective = Activity(Adversarial(PGD(0.1, steps=3)), 0.2)
    images = Adversarial(PGD(0.1, steps=3)).attack(model, batch().x, batch().y, stream(0, "attack"))
    alone = Activity(Natural())(
        model, model, Batch(images, batch().y, batch().index), stream(0, "attack")
    )
    measured = loss(objective, model)
    torch.testing.assert_close(measured.metrics["activity"], alone.metrics["activity"])
    assert not any(module._forward_hooks for module in model.modules())


def test_hooks_go_also_after_an_error():
    model = network()

    def broken(x: Tensor) -> Tensor:
        model(x)
        raise RuntimeError("this forward fails")

    with pytest.raises(RuntimeError, match="this forward fails"):
        Activity()(broken, model, batch(), stream(0, "attack"))
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize(
    "inner",
    [o for o in registry("objective").defaults() if not isinstance(o, Activity)],
    ids=repr,
)
def test_weight_zero_is_the_inner_objective(inner):
    plain = loss(taught(dataclasses.replace(inner)), network())
    wrapped = loss(taught(Activity(dataclasses.replace(inner), 0.0)), network())
    assert torch.equal(plain.total, wrapped.total)
    assert plain.metrics.items() <= wrapped.metrics.items()


def test_replays_and_the_hook_after_the_backward_pass_are_those_of_the_inner_objective():
    objective, model = Activity(Free(eps=0.1, replays=3), 0.1), network()
    assert objective.replays == 3 and Activity().replays == 1
    images, totals = batch(), []
    for _ in range(3):
        measured = objective(model, model, images, stream(0, "attack"))
        measured.total.backward()
        objective.after_backward()
        totals.append(measured.total.item())
    assert totals[0] < totals[1] < totals[2]  # the perturbation climbs, the model stands still


def test_more_weight_gives_more_zeros():
    shares = []
    for weight in (0.0, 1.0, 10.0):
        model = network()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
        for _ in range(60):
            optimizer.zero_grad()
            loss(Activity(weight=weight), model).total.backward()
            optimizer.step()
        shares.append(activation_sparsity(model, batch().x)["sparsity"])
    assert shares[0] + 0.03 < shares[1] and shares[1] + 0.03 < shares[2]


def test_a_teacher_goes_to_the_inner_objective_or_is_refused():
    @dataclasses.dataclass(frozen=True)
    class Learning(Natural):
        teacher: object = None

        def with_teacher(self, teacher: nn.Module) -> "Learning":
            return dataclasses.replace(self, teacher=teacher)

    model = network()
    found = Activity(Learning(), 0.3).with_teacher(model)
    assert found.objective.teacher is model and found.weight == 0.3
    with pytest.raises(UserError, match="does not learn from a teacher"):
        Activity().with_teacher(model)


def test_a_model_without_activation_modules_and_a_negative_weight_are_refused():
    with pytest.raises(UserError, match="no activation module"):
        loss(Activity(), nn.Sequential(nn.Flatten(), nn.Linear(16, 3)))
    with pytest.raises(UserError, match="weight must be at least 0, got -1"):
        registry("objective").build({"name": "activity", "weight": -1})
