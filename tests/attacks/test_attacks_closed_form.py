"""On a linear model the best perturbation is known, so attacks are compared with it."""

import pytest
import torch
from torch import Tensor, nn

from wiry.attacks.apgd import APGD
from wiry.attacks.fgsm import FGSM
from wiry.attacks.pgd import PGD
from wiry.attacks.projections import lengths
from wiry.attacks.square import Square
from wiry.core.rng import stream

DUAL = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}  # order of the norm that bounds the gain
NORMS = ("linf", "l2", "l1")
SHAPE = (1, 4, 4)


class Linear(nn.Module):
    """Logits that are linear in the pixels."""

    def __init__(self, num_classes: int, seed: int = 0) -> None:
        super().__init__()
        draw = torch.randn(num_classes, 16, generator=stream(seed, "linear"))
        self.weight = nn.Parameter(draw)

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight.T  # grey has no class


def images(n: int, low: float = 0.3, high: float = 0.7) -> Tensor:
    return torch.rand(n, *SHAPE, generator=stream(1, "images")) * (high - low) + low


def margins(model: Linear, x: Tensor, y: Tensor) -> Tensor:
    """The logit of every class minus that of the label, (n, classes)."""
    with torch.no_grad():
        logits = model(x)
    return logits - logits.gather(1, y[:, None])


def best_margins(model: Linear, x: Tensor, y: Tensor, eps: float, norm: str) -> Tensor:
    """The same at the best point for each class, where the box is out of reach."""
    apart = model.weight.detach()[None] - model.weight.detach()[y][:, None]
    return margins(model, x, y) + eps * apart.norm(p=DUAL[norm], dim=2)


def largest_other(values: Tensor, y: Tensor) -> Tensor:
    return values.scatter(1, y[:, None], -torch.inf).amax(1)


def confident_binary(norm: str) -> tuple[Linear, Tensor, Tensor, float]:
    """Two classes, images that no point of their ball misclassifies."""
    eps = {"linf": 0.02, "l2": 0.1, "l1": 0.2}[norm]
    model, x = Linear(2), images(40)
    y = model(x).argmax(1)
    safe = largest_other(best_margins(model, x, y, eps, norm), y) < -1e-3
    assert safe.sum() > 10
    return model, x[safe], y[safe], eps


REACHING = [
    *(FGSM(norm=norm) for norm in NORMS),
    *(PGD(norm=norm, steps=100, step_size=0.02) for norm in ("linf", "l2")),
    PGD(norm="l1", steps=100, step_size=0.05),
    *(PGD(norm="l2", steps=100, step_size=0.02, loss=loss) for loss in ("margin", "dlr")),
    PGD(norm="linf", restarts=3, drop_fooled=True, loss="margin"),
    *(APGD(norm=norm, loss=loss) for norm in ("linf", "l2") for loss in ("ce", "dlr")),
    *(APGD(norm=norm, loss="targeted-dlr") for norm in ("linf", "l2")),
    Square(norm="linf", num_queries=2000),
]


@pytest.mark.parametrize("attack", REACHING, ids=repr)
def test_attack_reaches_the_known_optimum_of_a_linear_model_with_two_classes(attack):
    model, x, y, eps = confident_binary(attack.norm)
    attack = type(attack)(**{**vars(attack), "eps": eps})
    found = attack(model, x, y, stream(0, "attack"))
    reached = largest_other(margins(model, found, y), y)
    best = largest_other(best_margins(model, x, y, eps, attack.norm), y)
    torch.testing.assert_close(reached, best, rtol=0, atol=1e-3)


@pytest.mark.parametrize("norm", NORMS)
def test_pgd_reaches_the_optimum_of_a_linear_model_with_five_classes(norm):
    eps = {"linf": 0.004, "l2": 0.02, "l1": 0.04}[norm]
    model, x = Linear(5), images(400)
    y = model(x).argmax(1)
    best = best_margins(model, x, y, eps, norm)
    # images for which one class is the nearest throughout the ball and is not reached
    first, second = best.scatter(1, y[:, None], -torch.inf).topk(2, 1).values.T
    spread = 2 * (best - margins(model, x, y)).amax(1)
    clear = (first < -1e-3) & (first - second > spread)
    assert clear.sum() > 10
    x, y, first = x[clear], y[clear], first[clear]
    attack = PGD(eps, norm, steps=100, step_size=eps / 5, loss="margin")
    found = attack(model, x, y, stream(0, "attack"))
    torch.testing.assert_close(largest_other(margins(model, found, y), y), first, rtol=0, atol=2e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_targeted_apgd_fools_exactly_the_images_that_can_be_fooled(norm):
    eps = {"linf": 0.012, "l2": 0.04}[norm]
    model, x = Linear(5), images(150)
    y = model(x).argmax(1)
    best = largest_other(best_margins(model, x, y, eps, norm), y)
    x, y, best = (t[best.abs() > 0.002] for t in (x, y, best))
    assert 20 < (best > 0).sum() < len(x) - 20
    found = APGD(eps, norm, loss="targeted-dlr", steps=50)(model, x, y, stream(0, "attack"))
    assert torch.equal(model(found).argmax(1) != y, best > 0)


def test_square_gets_the_robust_set_of_a_linear_model_right_in_linf():
    model, x = Linear(3), images(60)
    y = model(x).argmax(1)
    best = largest_other(best_margins(model, x, y, 0.02, "linf"), y)
    x, y, best = (t[best.abs() > 0.01] for t in (x, y, best))
    assert 10 < (best > 0).sum() < len(x) - 10
    found = Square(0.02, num_queries=2000)(model, x, y, stream(0, "attack"))
    assert torch.equal(model(found).argmax(1) != y, best > 0)


def test_square_in_l2_finds_most_of_what_a_linear_model_gives_way_to():
    model, x = Linear(2), images(60)
    y = model(x).argmax(1)
    clean = largest_other(margins(model, x, y), y)
    gain = largest_other(best_margins(model, x, y, 0.05, "l2"), y) - clean
    found = Square(0.05, "l2", num_queries=1000)(model, x, y, stream(0, "attack"))
    fooled = model(found).argmax(1) != y
    assert 5 < fooled.sum() < 55
    assert not bool(fooled[clean + gain < -1e-4].any())
    assert bool(fooled[clean + 0.75 * gain > 0].all())  # squares cannot take every shape


def test_linf_optimum_respects_the_box():
    model, x = Linear(2), images(30, low=0, high=1)
    y = model(x).argmax(1)
    apart = model.weight.detach()[1 - y] - model.weight.detach()[y]
    expected = (x + 0.3 * apart.view(x.shape).sign()).clamp(0, 1)
    for attack in (FGSM(0.3), PGD(0.3)):
        torch.testing.assert_close(attack(model, x, y, stream(0, "attack")), expected)


def test_l1_optimum_fills_the_entries_in_the_order_of_their_weight():
    """With the box in reach the best l1 point spends the budget greedily."""
    model, x = Linear(2), images(20, low=0, high=1)
    y = model(x).argmax(1)
    eps = 1.5
    apart = (model.weight.detach()[1 - y] - model.weight.detach()[y]).double()
    flat = x.flatten(1).double()
    room = torch.where(apart > 0, 1 - flat, flat)
    order = apart.abs().argsort(dim=1, descending=True)
    spent = room.gather(1, order).cumsum(1).clamp(max=eps).diff(dim=1, prepend=flat[:, :1] * 0)
    gain = (spent * apart.abs().gather(1, order)).sum(1)
    expected = largest_other(margins(model, x, y), y) + gain.float()
    found = PGD(eps, "l1", steps=3000, step_size=0.02)(model, x, y, stream(0, "attack"))
    reached = largest_other(margins(model, found, y), y)
    assert lengths(found - x, "l1").max() <= eps + 1e-5
    # the last step may have moved the entry that is full already or the one that fills
    torch.testing.assert_close(reached, expected, rtol=0, atol=0.02)


def test_predicted_label_moves_a_misclassified_image_away_from_its_wrong_class():
    model, x = Linear(2), images(20)
    predicted = model(x).argmax(1)
    wrong = 1 - predicted
    for attack in (FGSM(0.02), PGD(0.02), PGD(0.02, drop_fooled=True)):
        own = type(attack)(**{**vars(attack), "label": "predicted"})
        against_wrong = own(model, x, wrong, stream(0, "attack"))
        against_own = attack(model, x, predicted, stream(0, "attack"))
        torch.testing.assert_close(against_wrong, against_own)
        # with the given label the same image goes the other way
        given = attack(model, x, wrong, stream(0, "attack"))
        assert not torch.allclose(given, against_wrong)
