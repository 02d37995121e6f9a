"""Curves from distances that are written out, and the measures that find distances."""

import dataclasses
import json
import math

import pytest
import torch
from torch import Tensor, nn

from wiry.attacks.minimum_norm import MinimumNorm
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.examine import measure_rows, measured
from wiry.evaluation.minimum_norm import distance_values, minimum_norms
from wiry.evaluation.security_curve import accuracy_at, curve_from_distances, radii
from wiry.evaluation.subject import Subject
from wiry.evaluation.tuned import Trial, chosen, search, trials, tuned

INF = math.inf
DISTANCE = torch.tensor([0.0, 0.1, 0.2, 0.2, 0.5])
CORRECT = torch.tensor([False, True, True, True, True])


class Linear(nn.Module):
    """Two logits, linear in 16 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(2, 16, generator=stream(0, "linear")))

    def forward(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - 0.5) @ self.weight.T


class Masked(Linear):
    """The same classes, without a gradient."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sign() + 0 * x.sum()


def subject(model: nn.Module | None = None, n: int = 40) -> Subject:
    model = model or Linear()
    x = torch.rand(n, 1, 4, 4, generator=stream(1, "images")) * 0.4 + 0.3
    with torch.no_grad():
        y = model(x).argmax(1)
    y[:4] = 1 - y[:4]
    correct = torch.arange(n) >= 4
    return Subject(model, x, y, correct, 2, ("0", "1"), eps=0.02, norm="linf", batch_size=16)


def measure(spec, of: Subject):
    ((_, found),) = measured(of, [spec])
    json.dumps(measure_rows([({"name": "x"}, found)]), allow_nan=False)
    return found


def test_the_curve_of_distances_that_are_written_out():
    grid = [0.0, 0.05, 0.1, 0.15, 0.2, 0.5, 1.0]
    curve = curve_from_distances(DISTANCE, CORRECT, norm="l2", grid=grid)
    assert curve.x == grid
    assert curve.y == pytest.approx([0.8, 0.8, 0.6, 0.6, 0.2, 0.0, 0.0])  # falls at the distance
    assert "l2" in curve.name and "l2" in curve.x_label
    assert accuracy_at(DISTANCE, CORRECT, 0.3) == pytest.approx(0.2)


def test_an_image_without_a_distance_is_robust_everywhere_unless_it_is_wrong():
    distance = torch.tensor([INF, INF, 0.1])
    correct = torch.tensor([True, False, True])
    curve = curve_from_distances(distance, correct, norm="linf")
    assert curve.y[0] == pytest.approx(2 / 3) and curve.y[-1] == pytest.approx(1 / 3)
    nothing = curve_from_distances(torch.tensor([INF]), torch.tensor([True]), norm="linf")
    assert set(nothing.y) == {1.0} and nothing.x[-1] == 1.0


@pytest.mark.parametrize("norm", ["linf", "l2", "l1", "l0"])
def test_the_curve_falls_from_the_clean_accuracy_to_about_nothing(norm):
    draw = torch.rand(500, generator=stream(0, "distances"))
    distance = (draw * 30).ceil() if norm == "l0" else draw.exp() - 0.9
    correct = torch.rand(500, generator=stream(1, "right")) < 0.9
    curve = curve_from_distances(distance, correct, norm=norm)
    assert curve.y == sorted(curve.y, reverse=True) and curve.x == sorted(set(curve.x))
    assert curve.x[0] == 0 and curve.y[0] == pytest.approx(float(correct.double().mean()))
    assert curve.y[-1] <= 0.01 and 20 < len(curve.x) <= 52
    assert curve.x[-1] <= float(distance.max()) * 1.1
    if norm == "l0":
        assert all(eps == round(eps) for eps in curve.x)


def test_radii_are_round_and_have_the_radius_that_is_asked_for():
    grid = radii(DISTANCE, CORRECT, norm="linf", eps=8 / 255)
    assert grid[0] == 0 and grid[-1] == pytest.approx(0.5) and 8 / 255 in grid and len(grid) == 52
    assert radii(DISTANCE, CORRECT, norm="linf", eps=0.7)[-1] >= 0.7
    one = torch.tensor([0.0123456])
    assert radii(one, torch.tensor([True]), norm="linf")[-1] == pytest.approx(0.013)


def test_values_of_distances_that_are_written_out():
    values = distance_values(DISTANCE, CORRECT, norm="linf", eps=0.15)
    assert values["clean_accuracy"] == pytest.approx(0.8)
    assert values["median_distance"] == pytest.approx(0.2)
    assert values["mean_distance"] == pytest.approx(0.2)  # 1.0 / 5, the area under the curve
    assert values["accuracy_at_eps"] == pytest.approx(0.6) and values["eps"] == 0.15
    assert values["num_not_found"] == 0 and values["num_samples"] == 5
    grid = [place / 10_000 for place in range(6000)]
    area = sum(curve_from_distances(DISTANCE, CORRECT, norm="linf", grid=grid).y) / 10_000
    assert area == pytest.approx(values["mean_distance"], abs=1e-3)


def test_values_without_a_distance_are_none_and_not_infinite():
    most = torch.tensor([INF, INF, 0.3])
    values = distance_values(most, torch.tensor([True, True, True]), norm="l2")
    assert values["median_distance"] is None and values["mean_distance"] is None
    assert values["num_not_found"] == 2 and "eps" not in values
    wrong = distance_values(torch.zeros(3), torch.zeros(3, dtype=torch.bool), norm="l2")
    assert wrong["median_distance"] is None and wrong["mean_distance"] == 0


def test_the_measure_finds_the_closed_form_of_a_linear_model():
    of = subject()
    weight = of.model.weight.detach()
    gap = of.model(of.x).detach().diff(dim=1).abs().squeeze(1)
    for norm, order in (("linf", 1), ("l2", 2)):
        expected = gap / (weight[0] - weight[1]).norm(p=order)
        expected[~of.clean_correct] = 0
        found = measure({"name": "security-curve", "norm": norm, "num_samples": None}, of)
        distance = torch.from_numpy(found.arrays["distance"])
        torch.testing.assert_close(distance, expected, rtol=0.02, atol=1e-5)
        (curve,) = found.curves
        exact = [float((expected > eps * 1.02).double().mean()) for eps in curve.x]
        assert all(y >= low for y, low in zip(curve.y, exact, strict=True))
        at = curve.y[curve.x.index(0.02)] if norm == "linf" else None
        assert found.values.get("accuracy_at_eps") == at  # another norm, another radius
        assert found.values["median_distance"] == pytest.approx(
            float(expected[4:].quantile(0.5, interpolation="higher")), rel=0.02
        )


@pytest.mark.parametrize("name", ["security-curve", "ddn"])
def test_the_nearest_images_are_right_ones_and_their_neighbours_fool(name):
    of = subject()
    arrays = measure(name, of).arrays
    index = torch.from_numpy(arrays["nearest_index"])
    distance = torch.from_numpy(arrays["distance"])
    assert len(index) == 16 and of.clean_correct[index].all()
    assert torch.equal(distance[index], distance[4:].sort().values[:16])
    assert (arrays["nearest_distance"] == distance[index].numpy()).all()
    assert (arrays["nearest_label"] == of.y[index].numpy()).all()
    assert (arrays["nearest_clean_prediction"] == arrays["nearest_label"]).all()
    assert (arrays["nearest_adversarial_prediction"] != arrays["nearest_label"]).all()
    assert arrays["nearest_clean"].dtype == "uint8"
    assert arrays["nearest_adversarial"].dtype == "float16"
    assert arrays["nearest_adversarial"].shape == (16, 1, 4, 4)


@pytest.mark.parametrize("name", ["security-curve", "ddn", "deepfool"])
def test_distances_do_not_depend_on_the_batch_size(name):
    spec, of = {"name": name, "steps": 30}, subject(n=20)
    first = measure(spec, of)
    for size in (3, 7, 20):
        other = measure(spec, dataclasses.replace(of, batch_size=size))
        torch.testing.assert_close(
            torch.from_numpy(other.arrays["distance"]),
            torch.from_numpy(first.arrays["distance"]),
            rtol=1e-3,
            atol=1e-6,
        )
        if first.curves:
            assert other.curves[0].y == pytest.approx(first.curves[0].y, abs=1 / 20)


def test_what_was_not_found_is_said_and_counts_as_robust():
    of = subject(Masked())
    found = measure("security-curve", of)
    assert found.values["num_not_found"] == 36 and found.values["median_distance"] is None
    assert "For 36 right images nothing was found" in found.remark
    assert set(found.curves[0].y) == {0.9} and found.arrays["nearest_index"].tolist() == []
    assert "nothing was found" not in measure("security-curve", subject()).remark


def test_the_evaluations_own_attacks_stand_beside_the_curve():
    of, pgd = subject(), registry("attack").build({"name": "pgd", "eps": 0.02})
    table = attack_images(of.model, of.x, of.y, [pgd])
    found = measure("security-curve", dataclasses.replace(of, table=table, attacks=(pgd,)))
    assert found.values["attacked_accuracy"] == pytest.approx(float(table.robust.mean()))
    assert f"leave {table.robust.mean():.1%}" in found.remark
    assert "The attacks miss images" not in found.remark
    weak = dataclasses.replace(
        table, by_attack={repr(pgd): table.clean_correct}, attacks=table.attacks
    )
    missed = measure("security-curve", dataclasses.replace(of, table=weak, attacks=(pgd,)))
    assert missed.values["attacked_accuracy"] == pytest.approx(0.9)
    assert "The attacks miss images" in missed.remark
    elsewhere = dataclasses.replace(of, table=table, attacks=(pgd,), eps=0.03)
    assert "attacked_accuracy" not in measure("security-curve", elsewhere).values


def test_a_point_that_fools_no_more_is_moved_away_or_given_up():
    of = subject()
    of = dataclasses.replace(of, y=of.model(of.x).argmax(1))
    gap = of.model(of.x).detach().diff(dim=1)
    weight = of.model.weight.detach()
    step = (gap / (weight[1] - weight[0]).norm() ** 2 * (weight[0] - weight[1])).view_as(of.x)

    def find(model: nn.Module, x: Tensor, y: Tensor, share: float) -> MinimumNorm:
        point = x + share * step
        return MinimumNorm((point - x).flatten(1).norm(dim=1), point)

    for share, is_kept in ((1.001, True), (0.9995, True), (0.97, False)):
        found = minimum_norms(
            of.model,
            of.x,
            of.y,
            lambda m, x, y, share=share: find(m, x, y, share),
            norm="l2",
            batch_size=40,
        )
        assert bool(found.found.all()) == is_kept and bool(found.found.any()) == is_kept
        fools = of.model(found.adversarial).argmax(1) != of.y
        assert fools.tolist() == [is_kept] * 40
        length = (found.adversarial - of.x).flatten(1).norm(dim=1)
        if is_kept:
            torch.testing.assert_close(found.distance, length)


def test_settings_are_added_where_they_shorten_what_is_left():
    logs = torch.tensor([[0.0, 0.0, 4.0], [1.0, 1.0, 0.0], [0.0, 0.0, 3.9], [5.0, 5.0, 5.0]])
    assert chosen(logs, 1) == [1]  # means 4/3, 2/3, 1.3, 5
    assert chosen(logs, 2) == [1, 0]
    assert chosen(logs, 4) == [1, 0]  # nothing more to gain


def test_trials_begin_with_the_default_and_depend_on_the_seed_alone():
    state = torch.get_rng_state()
    assert trials(6, 0) == trials(9, 0)[:6] and trials(6, 0)[0] == Trial()
    assert trials(6, 0)[1:] != trials(6, 1)[1:]
    assert all(0.03 <= t.step_size <= 3 for t in trials(50, 0)[1:])
    assert torch.equal(state, torch.get_rng_state())


def test_tuned_settings_come_no_less_near_than_the_default():
    of = subject()
    right = {"x": of.x[4:], "y": of.y[4:]}
    kept = tuned(
        of.model, **right, norm="l2", num_trials=6, num_kept=2, steps=15, seed=0, batch_size=40
    )
    assert 1 <= len(kept) <= 2

    def median(settings: list[Trial]) -> float:
        find = search("l2", settings, 15, num_targets=1)
        found = minimum_norms(of.model, **right, find=find, norm="l2", batch_size=40)
        return float(found.distance.log().mean())

    assert median(kept) <= median([Trial()]) + 1e-6
    spec = {"name": "security-curve", "tuned": True, "num_trials": 3, "steps": 10}
    found = measure(spec, of)
    assert found.values["num_not_found"] == 0


def test_deepfool_is_the_closed_form_with_its_overshoot():
    of = subject()
    weight = of.model.weight.detach()
    gap = of.model(of.x).detach().diff(dim=1).abs().squeeze(1)
    expected = 1.02 * gap / (weight[0] - weight[1]).norm()
    found = measure("deepfool", of)
    torch.testing.assert_close(torch.from_numpy(found.arrays["distance"]), expected)
    length = of.x.flatten(1).norm(dim=1)
    assert found.values["rho_2"] == pytest.approx(float((expected / length).mean()), rel=1e-4)
    assert found.values["r_2"] == pytest.approx(float(expected[4:].sum()) / 40, rel=1e-4)
    assert found.values["num_not_crossed"] == 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"name": "security-curve", "steps": 0}, "steps must be at least 1, got 0"),
        ({"name": "security-curve", "num_kept": 0}, "num_kept must be at least 1"),
        ({"name": "security-curve", "num_samples": 0}, "num_samples must be at least 1"),
        ({"name": "ddn", "shrink": 0}, "shrink must be above 0"),
        ({"name": "deepfool", "num_classes": 1}, "num_classes must be at least 2"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused(spec, message):
    with pytest.raises(UserError, match=message):
        registry("measure").build(spec)
