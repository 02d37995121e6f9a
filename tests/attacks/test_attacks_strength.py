"""Attacks against each other on a small network trained on real digits."""

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from wiry.attacks.apgd import APGD
from wiry.attacks.fgsm import FGSM
from wiry.attacks.losses import margin
from wiry.attacks.pgd import PGD
from wiry.attacks.projections import Ball
from wiry.attacks.square import Square
from wiry.core.rng import stream


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor, Tensor]:
    """A network trained for a second, and images it gets right."""
    values, labels = load_digits(return_X_y=True)
    x = torch.tensor(values, dtype=torch.float32).div(16).view(-1, 1, 8, 8)
    y = torch.tensor(labels, dtype=torch.int64)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, 10),
        )
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for epoch in range(6):
        for part in torch.randperm(1500, generator=stream(epoch, "order")).split(100):
            loss = nn.functional.cross_entropy(model(x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    right = model(x[1500:]).argmax(1) == y[1500:]
    assert right.float().mean() > 0.85
    return model, x[1500:][right][:100], y[1500:][right][:100]


def robust(attack, digits) -> Tensor:
    model, x, y = digits
    return model(attack(model, x, y, stream(0, "attack"))).argmax(1) == y


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.08), ("l2", 0.5)])
@pytest.mark.parametrize("loss", ["ce", "dlr"])
def test_apgd_leaves_no_more_images_robust_than_pgd(digits, norm, eps, loss):
    pgd = robust(PGD(eps, norm, steps=40, loss=loss), digits)
    apgd = robust(APGD(eps, norm, steps=40, loss=loss), digits)
    assert 5 < pgd.sum() < 95
    assert apgd.sum() <= pgd.sum()


def test_attacks_come_in_the_order_of_their_strength(digits):
    eps = 0.08
    targeted = robust(APGD(eps, loss="targeted-dlr", steps=20), digits).sum()
    assert targeted <= robust(PGD(eps, steps=20), digits).sum() + 1
    assert robust(PGD(eps, steps=20), digits).sum() <= robust(FGSM(eps), digits).sum()
    assert targeted <= robust(Square(eps, num_queries=300), digits).sum() < 90


def test_more_restarts_leave_fewer_images_robust(digits):
    one = robust(PGD(0.08, steps=1, step_size=0.08), digits)
    many = robust(PGD(0.08, steps=1, step_size=0.08, restarts=5), digits)
    assert many.sum() < one.sum()
    assert not bool((many & ~one).any())  # the first restart makes the same draws


def test_restarts_return_the_highest_loss_where_the_model_stands(digits):
    model, x, y = digits
    attack = PGD(0.05, steps=3, restarts=4, loss="margin")
    found = margin(model(attack(model, x, y, stream(0, "attack"))), y)
    one = PGD(0.05, steps=3, loss="margin")
    generator = stream(0, "attack")
    each = torch.stack([margin(model(one(model, x, y, generator)), y) for _ in range(4)])
    standing = each.amax(0) < 0
    assert 5 < standing.sum() < 95
    torch.testing.assert_close(found[standing], each.amax(0)[standing])
    assert bool((found[~standing] > 0).all())


def test_dropping_fooled_images_leaves_the_same_images_robust_or_fewer(digits):
    plain = robust(PGD(0.08, steps=20, loss="margin"), digits)
    dropped = robust(PGD(0.08, steps=20, loss="margin", drop_fooled=True), digits)
    assert not bool((dropped & ~plain).any())


@pytest.mark.parametrize("steps", [1, 7])
def test_pgd_takes_one_forward_a_step(digits, steps):
    model, x, y = digits
    calls = []
    hook = model.register_forward_hook(lambda *_: calls.append(1))
    PGD(0.08, steps=steps)(model, x, y, stream(0, "attack"))
    hook.remove()
    assert len(calls) == steps


def sizes_of_looks(attack, digits) -> list[int]:
    model, x, y = digits
    sizes = []
    hook = model.register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    attack(model, x, y, stream(0, "attack"))
    hook.remove()
    assert sizes[0] == len(x)
    return sizes


def test_apgd_stops_looking_at_images_that_are_fooled(digits):
    sizes = sizes_of_looks(APGD(0.11, steps=20), digits)
    assert sizes[-1] < sizes[0] / 2
    assert sizes == sorted(sizes, reverse=True)


def test_square_stops_looking_at_images_that_are_fooled(digits):
    """One that needs all its queries costs as many looks; looks ahead that are lost are few."""
    num_images, num_robust = 100, int(robust(Square(0.2, num_queries=200), digits).sum())
    assert num_robust < num_images / 2
    looks = sum(sizes_of_looks(Square(0.2, num_queries=200), digits))
    assert 200 * num_robust < looks < 200 * num_images / 2


def algorithm_1(model: nn.Module, start: Tensor, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Auto-PGD in linf for one image and 20 steps, written line by line after the paper."""

    def value(point: Tensor) -> float:
        with torch.no_grad():
            return nn.functional.cross_entropy(model(point), y).item()

    def project(point: Tensor) -> Tensor:
        return point.clamp(x - eps, x + eps).clamp(0, 1)

    def sign(point: Tensor) -> Tensor:
        point = point.clone().requires_grad_()
        return torch.autograd.grad(nn.functional.cross_entropy(model(point), y), point)[0].sign()

    checkpoints = [0, 5, 9, 12, 14, 16, 18, 19, 20]  # ceil of 20 times 0.22, 0.41, 0.57, ...
    size, points, values = 2 * eps, [start], [value(start)]
    points.append(project(start + size * sign(start)))
    values.append(value(points[1]))
    best = points[values.index(max(values))]
    best_value, raised = max(values), int(values[1] > values[0])
    sizes, bests = {0: size}, {0: values[0]}
    for k in range(1, 20):
        now, before = points[-1], points[-2]
        stepped = project(now + size * sign(now))
        points.append(project(now + 0.75 * (stepped - now) + 0.25 * (now - before)))
        values.append(value(points[-1]))
        raised += values[-1] > values[-2]
        if values[-1] > best_value:
            best, best_value = points[-1], values[-1]
        if k + 1 in checkpoints:
            last = checkpoints[checkpoints.index(k + 1) - 1]
            first_condition = raised < 0.75 * (k + 1 - last)
            second_condition = sizes[last] == size and bests[last] == best_value
            sizes[k + 1], bests[k + 1] = size, best_value
            if first_condition or second_condition:
                size /= 2
                points[-1], values[-1] = best, best_value
            raised = 0
    return best


def test_apgd_takes_the_path_of_algorithm_1(digits):
    model, x, y = digits
    attack = APGD(0.05, steps=20)
    found = attack(model, x, y, stream(0, "attack"))
    starts = Ball(x, "linf", 0.05).draw(stream(0, "attack"))
    standing = (model(found).argmax(1) == y).nonzero().flatten().tolist()
    assert len(standing) > 40
    for i in standing[:40]:
        one = slice(i, i + 1)
        expected = algorithm_1(model, starts[one], x[one], y[one], 0.05)
        torch.testing.assert_close(found[one], expected, rtol=0, atol=1e-5)


def test_apgd_keeps_the_best_of_its_restarts(digits):
    model, x, y = digits

    def loss(attack: APGD, generator: torch.Generator) -> Tensor:
        logits = model(attack(model, x, y, generator)).detach()
        return nn.functional.cross_entropy(logits, y, reduction="none")

    generator = stream(0, "attack")
    each = torch.stack([loss(APGD(0.05, steps=3), generator) for _ in range(3)])
    found = APGD(0.05, steps=3, restarts=3)(model, x, y, stream(0, "attack"))
    standing = model(found).argmax(1) == y
    best = nn.functional.cross_entropy(model(found).detach(), y, reduction="none")
    assert bool((each.argmax(0)[standing] == 0).any())
    torch.testing.assert_close(best[standing], each.amax(0)[standing])
