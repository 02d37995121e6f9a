"""Bounds written out by hand, exact ones on linear models, and the two kinds against each other."""

import pytest
import torch
from tests.bounds.nets import images, network
from torch import Tensor, nn, tensor

from wiry.bounds.certify import certified, margins
from wiry.bounds.graph import trace
from wiry.bounds.interval import ball, interval_bounds, propagate
from wiry.bounds.layers import Interval
from wiry.bounds.nonlinear import MaxPool, Rectifier
from wiry.core.rng import stream
from wiry.data.digits import digits
from wiry.models.base import build_model

over_methods = pytest.mark.parametrize("method", ["ibp", "crown-ibp"])


def two_two_two() -> nn.Module:
    """h = relu(x1 - x2, x1 + x2 - 1); logits (h1 + h2 + 1/8, h1 - h2)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(tensor([[1.0, -1.0], [1.0, 1.0]]))
        model[1].bias.copy_(tensor([0.0, -1.0]))
        model[3].weight.copy_(tensor([[1.0, 1.0], [1.0, -1.0]]))
        model[3].bias.copy_(tensor([0.125, 0.0]))
    return model


IMAGE, LABEL = tensor([0.75, 0.5]).view(1, 1, 1, 2), tensor([0])


def test_boxes_of_the_hand_example():
    """x in [1/2, 1] x [1/4, 3/4] at radius 1/4."""
    boxes = [
        (box.lower.flatten().tolist(), box.upper.flatten().tolist())
        for _, box in interval_bounds(two_two_two(), IMAGE, 0.25)
    ]
    assert boxes == [
        ([0.5, 0.25], [1.0, 0.75]),
        ([0.5, 0.25], [1.0, 0.75]),
        ([-0.25, -0.25], [0.75, 0.75]),
        ([0.0, 0.0], [0.75, 0.75]),
        ([0.125, -0.75], [1.625, 0.75]),
    ]


def test_margins_of_the_hand_example():
    """logit 0 - logit 1 is 2 h2 + 1/8: the shared h1 cancels only if the layers are merged.

    IBP: 2 * 0 + 1/8 (from the boxes of the logits it would be 1/8 - 3/4). CROWN: h2 has the box
    [-1/4, 3/4], so its lower line has slope 1, and 2 (x1 + x2 - 1) + 1/8 >= 2 (-1/4) + 1/8 = -3/8.
    For label 1 it is -2 h2 - 1/8: IBP -2 * 3/4 - 1/8; CROWN takes the chord 3/4 (z + 1/4), which
    is at most 3/4 in the ball: the same -13/8.
    """
    model = two_two_two()
    ibp, crown = margins(model, IMAGE, LABEL, 0.25, "ibp", "crown-ibp")
    assert ibp.tolist() == [[0.0, 0.125]] and crown.tolist() == [[0.0, -0.375]]
    ibp, crown = margins(model, IMAGE, LABEL + 1, 0.25, "ibp", "crown-ibp")
    assert ibp.tolist() == [[-1.625, 0.0]] and crown.tolist() == [[-1.625, 0.0]]


def test_crown_keeps_what_boxes_forget():
    """logits (h1 + h2, 0) with h1 = relu(x), h2 = relu(1 - x): the sum is 1, boxes say 1/2."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.copy_(tensor([[1.0], [-1.0]]))
        model[1].bias.copy_(tensor([0.0, 1.0]))
        model[3].weight.copy_(tensor([[1.0, 1.0], [0.0, 0.0]]))
        model[3].bias.copy_(tensor([-0.75, 0.0]))
    x = tensor([0.5]).view(1, 1, 1, 1)
    ibp, crown = margins(model, x, LABEL, 0.25, "ibp", "crown-ibp")
    assert ibp[0, 1].item() == -0.25 and crown[0, 1].item() == 0.25
    assert certified(model, x, LABEL, 0.25).tolist() == [False]
    assert certified(model, x, LABEL, 0.25, "crown-ibp").tolist() == [True]


def test_certified_takes_the_larger_of_both_bounds():
    """In the hand example only the interval bound proves the label."""
    assert certified(two_two_two(), IMAGE, LABEL, 0.25, "crown-ibp").tolist() == [True]


@over_methods
def test_bounds_of_a_linear_model_are_exact(method):
    """Margin - eps * |w_y - w_j|_1 where no pixel is cut; with cut pixels the best corner."""
    model = build_model(
        {"name": "mlp", "widths": []},
        input_shape=(1, 4, 4),
        num_classes=3,
        seed=0,
        statistics=(tensor([0.3]), tensor([0.4])),
    ).double()
    x = torch.rand(5, 1, 4, 4, generator=stream(0, "x")).double()
    y, eps = tensor([0, 1, 2, 0, 1]), 0.1
    weight = model.head.weight / 0.4
    logits = model(x)
    rows = weight[y][:, None] - weight
    clean = logits.gather(1, y[:, None]) - logits
    inside = x * 0.8 + 0.1
    moved = model(inside).gather(1, y[:, None]) - model(inside) - eps * rows.abs().sum(2)
    (bound,) = margins(model, inside, y, eps, method)
    torch.testing.assert_close(bound, moved)
    step = torch.where(rows > 0, -(x.flatten(1)[:, None]), 1 - x.flatten(1)[:, None])
    step = step.clamp(-eps, eps)
    (bound,) = margins(model, x, y, eps, method)
    torch.testing.assert_close(bound, clean + (rows * step).sum(2))


def test_rectifier_lines():
    """Boxes [-1, 3] (slope 1 below), [-3, 1] (slope 0), [1, 2] and [-2, -1]."""
    box = Interval(tensor([[-1.0, -3.0, 1.0, -2.0]]), tensor([[3.0, 1.0, 2.0, -1.0]]))
    (below,), no_height = Rectifier().backward(torch.ones(1, 1, 4), box)
    assert below.tolist() == [[[1.0, 0.0, 1.0, 0.0]]] and no_height.tolist() == [[0.0]]
    (above,), height = Rectifier().backward(-torch.ones(1, 1, 4), box)
    assert above.tolist() == [[[-0.75, -0.25, -1.0, 0.0]]]
    assert height.tolist() == [[-0.75 - 0.75]]


def test_max_pool_lines():
    """Left window: the 5 wins for sure. Right: the largest lower bound is 2, the ceiling 4."""
    lower = tensor([[0.0, 5.0, 2.0, 1.0]]).view(1, 1, 1, 4)
    upper = tensor([[1.0, 6.0, 3.0, 4.0]]).view(1, 1, 1, 4)
    pool = MaxPool(nn.MaxPool2d((1, 2)))
    box = pool.interval(Interval(lower, upper))
    assert (box.lower.flatten().tolist(), box.upper.flatten().tolist()) == ([5.0, 2.0], [6.0, 4.0])
    (below,), added = pool.backward(torch.ones(1, 1, 1, 1, 2), Interval(lower, upper))
    assert below.flatten().tolist() == [0.0, 1.0, 1.0, 0.0] and added.item() == 0
    (above,), added = pool.backward(-torch.ones(1, 1, 1, 1, 2), Interval(lower, upper))
    assert above.flatten().tolist() == [0.0, -1.0, 0.0, 0.0] and added.item() == -4


@pytest.mark.parametrize("seed", range(4))
def test_overlapping_and_padded_pools_bound_what_they_pool(seed):
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    center = torch.randn(2, 3, 7, 6, generator=stream(seed, "center"))
    box = Interval(center - 0.3, center + 0.3)
    a = torch.randn(2, 4, 3, 4, 3, generator=stream(seed, "a"))
    (coefficients,), added = MaxPool(pool).backward(a, box)
    for draw in range(20):
        noise = torch.rand(center.shape, generator=stream(seed, "noise", draw)) * 2 - 1
        x = center + 0.3 * (noise.sign() if draw % 2 else noise)
        value = (a * pool(x)[:, None]).flatten(2).sum(2)
        bound = (coefficients * x[:, None]).flatten(2).sum(2) + added
        assert bool((value >= bound - 1e-4).all())


def test_crown_ibp_is_tighter_on_average_once_trained():
    """What holds exactly: on single margins either may win; the mean over images is CROWN's.

    On a net of two hidden layers after 60 steps of plain training on digits.
    """
    data = digits(num_train=256)
    model = build_model(
        {"name": "mlp", "widths": [24, 24]}, input_shape=(1, 8, 8), num_classes=10, seed=0
    )
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(data.train_x), data.train_y).backward()
        optimizer.step()
    x, y = data.test_x[:100], data.test_y[:100]
    assert (model(x).argmax(1) == y).float().mean() > 0.7
    wrong = torch.arange(10) != y[:, None]
    with torch.no_grad():
        for eps in (0.01, 0.05):
            ibp, crown = margins(model, x, y, eps, "ibp", "crown-ibp")
            assert crown[wrong].mean() > ibp[wrong].mean()
            assert (crown >= ibp - 1e-4)[wrong].float().mean() > 0.9


@over_methods
def test_residual_branches_add_up(method):
    """A block x + relu(w x) with w >= 0 is linear on positive x, so its bounds are exact."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.head = nn.Linear(3, 3), nn.Linear(3, 2)
            self.inner.weight.data.abs_()
            self.inner.bias.data.abs_()
            self.head.weight.data.copy_(tensor([[1.0, -1.0, 2.0], [0.0, 0.0, 0.0]]))

        def forward(self, x: Tensor) -> Tensor:
            x = x.flatten(1)
            return self.head(x + torch.relu(self.inner(x)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Block().double()
    x = tensor([0.4, 0.5, 0.6]).double().view(1, 1, 1, 3)
    whole = model.head.weight @ (torch.eye(3) + model.inner.weight)
    difference = whole[0] - whole[1]
    clean = model(x)[0, 0] - model(x)[0, 1]
    (bound,) = margins(model, x, LABEL, 0.1, method)
    exact = clean - 0.1 * difference.abs().sum()
    if method == "crown-ibp":
        torch.testing.assert_close(bound[0, 1], exact)
    else:  # boxes lose that both branches see the same x
        assert bound[0, 1] < exact


def test_every_step_of_a_resnet_has_a_name_and_a_box():
    named = interval_bounds(network("resnet18"), images("resnet18")[0], 0.01)
    names = [name for name, _ in named]
    assert len(set(names)) == len(names) and {"image", "blocks.2.shortcut.0", "head"} <= set(names)
    graph = trace(network("resnet18"))
    assert len(propagate(graph, ball(images("resnet18")[0], 0.01))) == len(names)
