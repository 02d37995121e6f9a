"""FMN and DDN: distances known in closed form on linear models, and what holds on any model."""

import pytest
import torch
from torch import Tensor, nn

from wiry.attacks.ddn import DDN, decoupled_direction_norm
from wiry.attacks.fmn import FMN, fast_minimum_norm
from wiry.attacks.minimum_norm import MinimumNorm, distances, halved, limited, nearest_classes
from wiry.attacks.projections import lengths
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream

DUAL = {"linf": 1.0, "l2": 2.0, "l1": torch.inf}
SHAPE = (1, 4, 4)
WAYS = [
    {},
    {"targeted": False},
    {"loss": "dlr"},
    {"loss": "ce"},
    {"scheduler": "plateau"},
    {"num_targets": 1},
]


class Linear(nn.Module):
    """Logits that are linear in 16 pixels."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        draw = torch.randn(num_classes, 16, generator=stream(0, "linear"))
        self.weight = nn.Parameter(draw)

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight.T


class Flat(nn.Module):
    """Always the first class, and no gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([1 + 0 * x.sum((1, 2, 3)), 0 * x.sum((1, 2, 3))], 1)


def images(n: int = 40, low: float = 0.3, high: float = 0.7) -> Tensor:
    return torch.rand(n, *SHAPE, generator=stream(1, "images")) * (high - low) + low


def network() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 5)
        ).eval()  # fmt: skip


def faces(model: Linear, x: Tensor, y: Tensor, norm: str) -> Tensor:
    """Distance of each image to the boundary with each class, where the box is out of reach."""
    logits, weight = model(x).detach(), model.weight.detach()
    apart = (weight[None] - weight[y][:, None]).norm(p=DUAL[norm], dim=2)
    gaps = logits.gather(1, y[:, None]) - logits
    return (gaps / apart).scatter(1, y[:, None], torch.inf)


@pytest.mark.parametrize("way", WAYS, ids=repr)
@pytest.mark.parametrize("norm", DUAL)
def test_distance_on_a_linear_model_with_two_classes_is_the_margin_over_the_dual_norm(norm, way):
    model, x = Linear(2), images()
    y = model(x).argmax(1)
    expected = faces(model, x, y, norm).amin(1)
    inside = expected < 0.28 if norm == "l1" else expected < torch.inf  # one entry has the room
    assert inside.sum() > 20
    found = fast_minimum_norm(model, x, y, norm=norm, **way)
    assert (found.distance[inside] >= expected[inside] - 1e-6).all()
    torch.testing.assert_close(found.distance[inside], expected[inside], rtol=0.02, atol=1e-4)


@pytest.mark.parametrize("norm", DUAL)
def test_distance_on_a_linear_model_with_five_classes_is_that_of_the_nearest_face(norm):
    model, x = Linear(5), images()
    y = model(x).argmax(1)
    expected = faces(model, x, y, norm)
    found = fast_minimum_norm(model, x, y, norm=norm, num_targets=1)
    torch.testing.assert_close(found.distance, expected.amin(1), rtol=0.03, atol=1e-4)
    with torch.enable_grad():
        first, second = nearest_classes(model, x, y, norm, 2)
    assert torch.equal(first, expected.argmin(1))
    assert torch.equal(second, expected.argsort(1)[:, 1])


def test_one_search_goes_to_the_nearest_class_and_not_to_the_one_that_leads():
    """The second class is the likelier one, and ten times as far."""
    weight = torch.zeros(3, 16)
    weight[0, 0], weight[1, 1], weight[2, 2] = 1.0, 1.0, 20.0

    class Three(Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x) + torch.tensor([1.0, 0.8, 0.0])

    model, x = Three(3), torch.full((1, *SHAPE), 0.5)
    model.weight.data = weight
    y = torch.tensor([0])
    near = fast_minimum_norm(model, x, y, norm="linf", num_targets=1)
    assert float(near.distance) == pytest.approx(1 / 21, rel=0.01)
    assert int(model(near.adversarial).argmax()) == 2
    nearest = nearest_classes(model, x, y, "linf", 9)
    assert [int(label) for label in nearest] == [2, 1]  # not the label, and no more than there are


def test_l0_counts_the_entries_that_it_takes_to_cross_the_boundary():
    model, x = Linear(2), images(low=0, high=1)
    y = model(x).argmax(1)
    apart = (model.weight[1 - y] - model.weight[y]).detach()
    room = torch.where(apart > 0, 1 - x.flatten(1), x.flatten(1))
    gains = (apart.abs() * room).sort(dim=1, descending=True).values.cumsum(1)
    logits = model(x).detach()
    gap = (logits.amax(1) - logits.amin(1))[:, None]
    fewest = (gains < gap).sum(1) + 1.0
    assert fewest.max() >= 3
    found = fast_minimum_norm(model, x, y, norm="l0")
    assert (found.distance >= fewest).all()
    assert (found.distance == fewest).float().mean() > 0.8
    assert (found.distance - fewest).max() <= 1


def test_ddn_finds_the_l2_distance_of_a_linear_model():
    x = images()
    for num_classes, excess in ((2, 0.02), (5, 1.5)):  # it pulls all five classes at once
        model = Linear(num_classes)
        y = model(x).argmax(1)
        expected = faces(model, x, y, "l2").amin(1)
        found = decoupled_direction_norm(model, x, y)
        assert (found.distance >= expected - 1e-6).all()
        assert (found.distance <= (1 + excess) * expected + 1e-4).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0", "ddn"])
def test_what_is_found_fools_lies_in_the_box_and_is_as_far_as_is_said(norm):
    model, x = network(), images(low=0, high=1)
    y = model(x).argmax(1)
    y[:5] = (y[:5] + 1) % 5
    found = search(model, x, y, norm)
    assert found.found.all() and (model(found.adversarial).argmax(1) != y).all()
    assert found.adversarial.min() >= 0 and found.adversarial.max() <= 1
    order = "l2" if norm == "ddn" else norm
    torch.testing.assert_close(found.distance, distances(found.adversarial - x, order))
    assert (found.distance[:5] == 0).all() and torch.equal(found.adversarial[:5], x[:5])
    assert (found.distance[5:] > 0).all()


def search(model: nn.Module, x: Tensor, y: Tensor, norm: str) -> MinimumNorm:
    if norm == "ddn":
        return decoupled_direction_norm(model, x, y, steps=40)
    return fast_minimum_norm(model, x, y, norm=norm, steps=40)  # type: ignore[arg-type]


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0", "ddn"])
def test_an_image_does_not_depend_on_its_batch(norm):
    model, x = network(), images(20, low=0, high=1)
    y = model(x).argmax(1)
    together = search(model, x, y, norm)
    for start, end in ((0, 1), (1, 8), (8, 20)):
        apart = search(model, x[start:end], y[start:end], norm)
        torch.testing.assert_close(apart.distance, together.distance[start:end], rtol=1e-3, atol=0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0", "ddn"])
def test_where_nothing_fools_the_distance_is_infinite_and_the_image_comes_back(norm):
    x = images(3)
    y = torch.tensor([0, 0, 1])
    found = search(Flat(), x, y, norm)
    assert found.distance.tolist() == [torch.inf, torch.inf, 0]
    assert found.found.tolist() == [False, False, True]
    assert torch.equal(found.adversarial, x)


def test_as_attacks_they_fool_exactly_where_the_distance_is_within_the_ball():
    model, x = network(), images()
    y = model(x).argmax(1)
    for attack, found in (
        (DDN, decoupled_direction_norm(model, x, y)),
        (FMN, fast_minimum_norm(model, x, y, norm="l2")),
    ):
        eps = float(found.distance.median())
        clear = (found.distance / eps - 1).abs() > 0.03
        adversarial = attack(eps, "l2")(model, x, y, stream(0, "attack"))
        fooled = model(adversarial).argmax(1) != y
        assert torch.equal(fooled[clear], found.distance[clear] <= eps)
        assert torch.equal(adversarial[~fooled], x[~fooled])
        assert lengths(adversarial - x, "l2").max() <= eps


def test_a_budget_ends_the_search_early():
    class Counting(nn.Module):
        num_images = 0

        def forward(self, x: Tensor) -> Tensor:
            self.num_images += len(x)
            return inner(x)

    inner, x = network(), images()
    y = inner(x).argmax(1)
    free, held = Counting(), Counting()
    fast_minimum_norm(free, x, y, norm="linf")
    fast_minimum_norm(held, x, y, norm="linf", within=0.5)
    assert held.num_images < free.num_images / 5


def test_halving_the_way_back_keeps_what_fools():
    model, x = Linear(2), images()
    y = model(x).argmax(1)
    far = fast_minimum_norm(model, x, y, norm="l2", steps=1, num_targets=1).adversarial
    wrong = model(far).argmax(1) != y
    assert wrong.sum() > 5
    x, y, far = x[wrong], y[wrong], far[wrong]
    near = halved(model, x, y, x + 2 * (far - x), 12)
    assert (model(near).argmax(1) != y).all()
    expected = faces(model, x, y, "l2").amin(1)
    assert (lengths(near - x, "l2") / expected).max() < 1.001


def test_offsets_are_cut_to_a_radius_of_their_own():
    x = torch.full((2, 1, 1, 3), 0.5)
    offset = torch.tensor([[0.4, -0.3, 0.1], [0.4, -0.3, 0.1]]).view_as(x)
    radius = torch.tensor([0.2, 2.0])

    def cut(norm: str, radius: Tensor) -> list:
        return (limited(offset, x, radius, norm) - x).flatten(1).tolist()

    whole = offset[0].flatten().tolist()
    assert cut("linf", radius)[0] == pytest.approx([0.2, -0.2, 0.1], abs=1e-6)
    assert cut("l1", radius)[0] == pytest.approx([0.15, -0.05, 0.0], abs=1e-3)
    assert cut("l2", radius)[0] == pytest.approx([0.157, -0.118, 0.039], abs=1e-3)
    assert cut("l0", torch.tensor([1.0, 2.9]))[0] == pytest.approx([0.4, 0, 0], abs=1e-6)
    assert cut("l0", torch.tensor([1.0, 2.9]))[1] == pytest.approx([0.4, -0.3, 0], abs=1e-6)
    for norm in ("linf", "l1", "l2"):
        assert cut(norm, radius)[1] == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "ddn", "norm": "linf"}, "norm must be 'l2', got 'linf'"),
        ({"name": "ddn", "shrink": 1}, "shrink must be above 0 and below 1, got 1"),
        ({"name": "fmn", "num_targets": 0}, "num_targets must be at least 1, got 0"),
        ({"name": "fmn", "step_size": 0}, "step_size must be positive"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(spec, message):
    with pytest.raises(UserError, match=message):
        registry("attack").build(spec)
