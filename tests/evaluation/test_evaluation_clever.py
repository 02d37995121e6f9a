"""CLEVER: planted Weibull samples, exact distances of linear models, SciPy's fit as the oracle."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from torch import Tensor, nn

from wiry.core.draws import draws_of
from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.evaluation.clever import choose_targets, clever
from wiry.evaluation.examine import measured
from wiry.evaluation.judge import frozen
from wiry.evaluation.measures.clever import Clever
from wiry.evaluation.subject import Subject
from wiry.evaluation.weibull import SHAPE_PENALTY, fit_reverse_weibull
from wiry.models.base import build_model

NORMS = {"linf": 1, "l2": 2, "l1": math.inf}  # order of the dual norm
each_norm = pytest.mark.parametrize("norm", sorted(NORMS))
SIZE, CLASSES = (1, 4, 4), 4


def network(widths: list[int]) -> nn.Module:
    spec = {"name": "mlp", "widths": widths}
    return build_model(spec, input_shape=SIZE, num_classes=CLASSES, seed=1).eval()


def images(n: int = 6) -> Tensor:
    return torch.rand(n, *SIZE, generator=stream(0, "images"))


def scores(model: nn.Module, x: Tensor, norm: str, **changes):
    settings = {"radius": 2.0, "num_batches": 12, "num_points": 8, **changes}
    draws = draws_of(0, "clever", index=torch.arange(len(x)))
    with frozen(model):
        return clever(model, x, model(x).argmax(1), norm=norm, draws=draws, **settings)


def subject(model: nn.Module, x: Tensor, y: Tensor, **changes) -> Subject:
    names = tuple(map(str, range(CLASSES)))
    settings = {"eps": 0.1, "norm": "l2", **changes}
    return Subject(model, x, y, model(x).argmax(1) == y, CLASSES, names, **settings)


def planted(location: float, shape: float, scale: float, num: int = 500, seed: int = 0) -> Tensor:
    generator = np.random.default_rng(seed)
    drawn = stats.weibull_min.rvs(shape, scale=scale, size=num, random_state=generator)
    return torch.as_tensor(location - drawn)[None]


@pytest.mark.parametrize(("location", "shape", "scale"), [(5, 3, 1), (0.02, 2, 0.005), (100, 4, 7)])
def test_the_location_of_a_planted_sample_is_recovered(location, shape, scale):
    fit = fit_reverse_weibull(planted(location, shape, scale))
    assert fit.fitted.all() and float(fit.p_value) > 0.05
    assert float(fit.location) == pytest.approx(location, abs=0.3 * scale)
    assert float(fit.shape) == pytest.approx(shape, rel=0.3)
    assert float(fit.scale) == pytest.approx(scale, rel=0.3)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of SciPy's search outside the support
@pytest.mark.parametrize("shape", [1.5, 3, 8, 20])
def test_no_fit_of_scipy_from_the_published_initial_shapes_is_likelier(shape):
    sample = planted(3, shape, 1, num=100, seed=7)
    fit, top, width = fit_reverse_weibull(sample), sample.max(), float(np.ptp(sample.numpy()))
    x = ((top - sample) / width)[0].numpy()  # as the published code rescales

    def cost(c, location, scale):
        logs = stats.weibull_min.logpdf(x, c, location, scale)
        return -logs.sum() + SHAPE_PENALTY * c**2

    ours = cost(float(fit.shape), float(top - fit.location) / width, float(fit.scale) / width)

    def search(function, start, args, disp):
        def penalised(values, sample):
            return function(values, sample) + SHAPE_PENALTY * values[0] ** 2

        return optimize.fmin(penalised, start, args, disp=disp)

    starts = (0.1, 1, 5, 10, 20, 50, 100)
    fits = [stats.weibull_min.fit(x, start, optimizer=search) for start in starts]
    assert ours <= min(cost(*found) for found in fits) + 1e-5


def test_the_p_value_is_that_of_scipys_test():
    sample = planted(3, 2, 1, num=80)
    fit = fit_reverse_weibull(sample)
    arguments = (float(fit.shape), -float(fit.location), float(fit.scale))
    expected = stats.kstest(-sample[0].numpy(), "weibull_min", args=arguments).pvalue
    assert float(fit.p_value) == pytest.approx(expected, rel=1e-6)


def test_a_constant_sample_and_one_of_two_lumps_fall_back_to_their_largest_value():
    constant = torch.full((1, 60), 0.7)
    lumps = torch.cat([torch.linspace(0, 0.01, 30), torch.linspace(1, 1.01, 30)])[None]
    fit = fit_reverse_weibull(torch.cat([constant, lumps]))
    assert fit.fitted.tolist() == [False, False]
    torch.testing.assert_close(fit.location, torch.tensor([0.7, 1.01]).double())
    assert fit.p_value[0] == 0 and fit.p_value[1] < 0.001


def test_rows_are_fitted_as_if_alone():
    rows = torch.cat([planted(3, 2, 1, seed=seed) for seed in range(20)])
    together = fit_reverse_weibull(rows)
    alone = torch.cat([fit_reverse_weibull(row[None]).location for row in rows])
    torch.testing.assert_close(together.location, alone)


@each_norm
def test_on_a_linear_model_the_score_is_the_exact_distance_and_every_fit_falls_back(norm):
    model, x = network([]), images()
    found = scores(model, x, norm, radius=100.0)
    weight, logits = model.get_parameter("head.weight").detach(), model(x).detach()
    own, predicted = logits.max(1)
    apart = (weight[predicted][:, None] - weight[None]).norm(p=NORMS[norm], dim=2)
    exact = (own[:, None] - logits) / apart.clamp_min(1e-12)
    torch.testing.assert_close(found.by_target, exact.gather(1, found.targets), rtol=1e-3, atol=0)
    nearest = exact.scatter(1, predicted[:, None], math.inf).amin(1)
    torch.testing.assert_close(found.score, nearest, rtol=1e-3, atol=0)
    assert not found.fitted.any()


class Rising(nn.Module):
    """Margin x + x^2 / 2 of one pixel: its slope 1 + x is largest at the upper end of the ball."""

    def forward(self, x: Tensor) -> Tensor:
        pixel = x.flatten(1)
        margin = pixel + pixel**2 / 2
        return torch.cat([margin, torch.zeros_like(margin)], 1)


def test_the_largest_slope_of_a_parabola_is_estimated():
    """Uniform points of [0.2, 0.6]: maxima of 8 are 1.6 - 0.4 min(8 uniform), a bounded tail."""
    x = torch.full((3, 1, 1, 1), 0.4)
    found = scores(Rising(), x, "linf", radius=0.2, num_batches=200, num_points=8)
    assert found.fitted.all()
    torch.testing.assert_close(found.constants, torch.full((3, 1), 1.6), atol=0.01, rtol=0)
    assert found.score.tolist() == [pytest.approx(0.2)] * 3  # 0.48 / 1.6 = 0.3 is over the radius


@each_norm
def test_scores_depend_neither_on_batches_nor_on_neighbours(norm):
    model, x = network([12]), images()
    whole = scores(model, x, norm, batch_size=1000)
    for size in (1, 5, 20):
        torch.testing.assert_close(
            scores(model, x, norm, batch_size=size).constants, whole.constants, rtol=1e-3, atol=0
        )
    alone = scores(model, x[:1], norm)
    torch.testing.assert_close(alone.constants, whole.constants[:1], rtol=1e-3, atol=0)


def test_targets_written_out():
    logits, y = torch.tensor([[5.0, 1.0, 3.0, 0.0], [0.0, 9.0, 1.0, 2.0]]), torch.tensor([0, 1])
    draws = draws_of(0, "targets", index=torch.arange(2))

    def chosen(targets):
        return choose_targets(logits, y, targets, draws).tolist()

    assert chosen("all") == [[1, 2, 3], [0, 2, 3]]
    assert chosen("second") == [[2], [3]] and chosen("least") == [[3], [0]]
    drawn = [choose_targets(logits, y, "random", draws) for _ in range(60)]
    assert [set(row.tolist()) for row in torch.cat(drawn, 1)] == [{1, 2, 3}, {0, 2, 3}]


def test_a_target_that_leads_already_scores_0_and_a_flat_network_its_radius():
    model, x = network([12]), images(2)
    with frozen(model):
        found = clever(
            model, x, model(x).argmin(1), norm="l2", radius=0.5, num_batches=12, num_points=4,
            draws=draws_of(0, "clever", index=torch.arange(2)),
        )  # fmt: skip
    assert found.score.tolist() == [0.0, 0.0]
    for parameter in model.parameters():
        parameter.data.zero_()
    model.get_parameter("head.bias").data[0] = 1.0
    assert scores(model, x, "l2", radius=0.5).score.tolist() == [0.5, 0.5]


def test_the_measure_reports_right_images_and_0_for_wrong_ones():
    model, x = network([12]), images()
    y = model(x).argmax(1)
    y[0] = (y[0] + 1) % CLASSES
    one = Clever(radius=2.0, num_batches=12, num_points=8)
    ((_, found),) = measured(subject(model, x, y), [one])
    by_image = found.arrays["clever"]
    assert by_image[0] == 0 and (by_image[1:] > 0).all() and len(by_image) == len(x)
    assert found.values["score"] == pytest.approx(by_image[1:].mean())
    assert found.values["smallest"] == pytest.approx(by_image[1:].min())
    expected = scores(model, x, "l2", batch_size=3).score[1:]  # same streams: keyed by the image
    np.testing.assert_allclose(by_image[1:], expected, rtol=1e-3)
    curve = found.curves[0]
    assert curve.y[0] == pytest.approx(5 / 6) and curve.y[-1] == 0 and "not a bound" in found.remark


def test_an_evaluation_without_a_right_image_has_no_score():
    model, x = network([12]), images()
    y = (model(x).argmax(1) + 1) % CLASSES
    ((_, found),) = measured(subject(model, x, y), ["clever"])
    assert found.values["score"] is None and not found.arrays


def test_settings_that_make_no_sense_are_refused():
    build = registry("measure").build
    for wrong, says in (
        ({"num_batches": 5}, "num_batches must be at least 10"),
        ({"radius": 0.0}, "radius must be positive"),
        ({"num_points": 0}, "num_points must be at least 1"),
        ({"num_samples": 0}, "num_samples must be at least 1"),
        ({"targets": "top"}, "targets"),
    ):
        with pytest.raises(UserError, match=says):
            build({"name": "clever", **wrong})
    model, x = network([12]), images()
    with pytest.raises(UserError, match="give its field `norm`"):
        Clever()(subject(model, x, model(x).argmax(1), norm="l0"))
