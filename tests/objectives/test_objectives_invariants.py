"""What holds for every objective there is, present and to come."""

import pytest
import torch
from torch import Tensor, nn

from wiry.core.batch import Batch
from wiry.core.registry import registry
from wiry.core.rng import stream

AWP = {"name": "awp", "warmup": 0.0}
SPECS = [
    {"name": "adversarial", "natural_weight": 0.5},
    {"name": "adversarial", "mix": "halves"},
    {"name": "distillation", "variant": "rslad"},
    AWP,
    *(AWP | {"objective": name} for name in ("natural", "mart", "free", "distillation", "noise")),
]


def network() -> nn.Module:
    """A small network with batch normalisation, in training mode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(144, 3),
        ).train()


def batch() -> Batch:
    """Images whose class is the third that is bright."""
    generator = stream(3, "batch")
    y = torch.randint(0, 3, (24,), generator=generator)
    x = torch.rand(24, 1, 6, 6, generator=generator) * 0.5
    for row, label in zip(x, y.tolist(), strict=True):
        row[:, 2 * label : 2 * label + 2] += 0.4
    return Batch(x, y, torch.arange(24))


def step(objective, model: nn.Module, images: Batch, seed: int = 0) -> Tensor:
    """One replay, without the optimizer."""
    loss = objective(model, model, images, stream(seed, "attack"))
    loss.total.backward()
    if hook := getattr(objective, "after_backward", None):
        hook()
    return loss.total.detach()


def taught(objective):
    """Return the objective with a teacher, if it or what it wraps asks for one."""
    inner = getattr(objective, "objective", objective)
    if not hasattr(inner, "with_teacher"):
        return objective
    return objective.with_teacher(network().eval().requires_grad_(False))


OBJECTIVES = [
    taught(objective)
    for objective in (
        *registry("objective").defaults(),
        *(registry("objective").build(spec) for spec in SPECS),
    )
]
over_objectives = pytest.mark.parametrize("objective", OBJECTIVES, ids=repr)


@over_objectives
def test_loss_is_a_finite_scalar_with_a_graph_and_metrics_are_detached_finite_scalars(objective):
    """Any further metric may be reported; the two accuracies are shares, and one is there."""
    model = network()
    loss = objective(model, model, batch(), stream(0, "attack"))
    assert loss.total.shape == () and bool(torch.isfinite(loss.total))
    loss.total.backward()
    assert all(p.grad is not None for p in model.parameters())
    accuracies = loss.metrics.keys() & {"accuracy", "robust_accuracy"}
    assert accuracies
    for value in loss.metrics.values():
        assert value.shape == () and not value.requires_grad and bool(torch.isfinite(value))
    assert all(0 <= loss.metrics[name] <= 1 for name in accuracies)


@over_objectives
@pytest.mark.parametrize("training", [True, False])
def test_mode_gradients_and_global_generator_are_left_as_found(objective, training):
    model = network().train(training)
    model[0].weight.requires_grad_(False)
    model[4].bias.grad = torch.ones(3)
    state = torch.get_rng_state()
    objective(model, model, batch(), stream(0, "attack"))
    assert torch.equal(state, torch.get_rng_state())
    assert [m.training for m in model.modules()] == [training] * 6
    assert [p.requires_grad for p in model.parameters()] == [False, *[True] * 5]
    gradients = [p.grad for p in model.parameters()]
    assert gradients[:-1] == [None] * 5 and torch.equal(gradients[-1], torch.ones(3))


@over_objectives
def test_only_the_forward_that_was_given_computes_the_loss(objective):
    """The loss of several devices goes through their wrapper; the attack's calls do not."""
    model, calls = network(), []

    def forward(x: Tensor) -> Tensor:
        calls.append(len(x))
        return model(x)

    objective(forward, model, batch(), stream(0, "attack"))
    assert sum(calls) in (24, 48)


@over_objectives
def test_same_seed_gives_the_same_loss_and_another_gives_another_where_it_draws(objective):
    def value(seed: int) -> float:
        return step(objective, network(), batch(), seed).item()

    generator, model = stream(0, "attack"), network()
    objective(model, model, batch(), generator)
    draws = not torch.equal(generator.get_state(), stream(0, "attack").get_state())
    assert value(0) == value(0)
    assert (value(0) == value(1)) != draws


@over_objectives
def test_a_few_steps_lower_the_loss(objective):
    model, images = network(), batch()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for seed in range(12):
        for _ in range(objective.replays):
            optimizer.zero_grad()
            losses.append(step(objective, model, images, seed).item())
            optimizer.step()
    assert losses[-1] < 0.7 * losses[0]


@over_objectives
def test_spec_of_an_objective_builds_its_equal(objective):
    spec = registry("objective").normalize(objective)
    assert registry("objective").build(spec) == objective
