"""Distances and Lipschitz constants: closed forms, and the corollaries of Guo et al. 2018."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.rng import stream
from wiry.evaluation.distance import BoundaryDistances, boundary_distances
from wiry.evaluation.judge import frozen
from wiry.evaluation.lipschitz import (
    condition_numbers,
    margin_bound,
    margin_gradient_norms,
    product_lipschitz,
    sampled_lipschitz,
)
from wiry.models.base import build_model

DUAL = {1: torch.inf, 2: 2}


def images(n: int = 30) -> Tensor:
    return torch.rand(n, 1, 6, 6, generator=stream(0, "images"))


def network(widths: list[int], *, normalize: bool = False) -> nn.Module:
    spec = {"name": "mlp", "widths": widths, "bias": False, "normalize": normalize}
    statistics = (torch.tensor([0.4]), torch.tensor([0.3]))
    size = (1, 6, 6)
    return build_model(spec, input_shape=size, num_classes=5, seed=1, statistics=statistics).eval()


def apart(model: nn.Module, predicted: Tensor) -> Tensor:
    weight = model.get_parameter("head.weight").detach()
    return weight[predicted][:, None] - weight[None]


@pytest.mark.parametrize("order", [1, 2])
def test_every_constant_of_a_linear_model_is_its_weights_norm(order):
    model, x = network([]), images()
    predicted = model(x).argmax(1)
    expected = apart(model, predicted).norm(p=order, dim=2)
    sampled = sampled_lipschitz(
        model, x, order=order, radius=0.3, num_samples=3, generator=stream(0, "ball")
    )
    torch.testing.assert_close(sampled, expected)
    torch.testing.assert_close(product_lipschitz(model, order=order)[predicted], expected)


def test_the_bound_on_a_linear_model_is_the_distance_that_deepfool_finds():
    """Corollaries (iii) and (iv), with equality."""
    model, x = network([]), images()
    y = model(x).argmax(1)
    found = boundary_distances(model, x, y, overshoot=0.0)
    bound = margin_bound(model, x, product_lipschitz(model, order=2)[y])
    torch.testing.assert_close(bound, found.distance, rtol=1e-3, atol=1e-5)
    lengthened = boundary_distances(model, x, y)
    assert lengthened.crossed.all()
    torch.testing.assert_close(lengthened.distance, 1.02 * bound, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("norm", ["paper", "spectral"])
def test_the_lower_bound_never_exceeds_the_distance_that_deepfool_finds(norm, normalize):
    """Corollary (iv), with a bound that is honest."""
    model, x = network([40, 30], normalize=normalize), images(200)
    y = model(x).argmax(1)
    found = boundary_distances(model, x, y)
    bound = margin_bound(model, x, product_lipschitz(model, order=2, norm=norm)[y])
    assert found.crossed.all() and (bound > 0).all()
    assert (bound <= found.distance).all()


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("normalize", [False, True])
def test_what_is_sampled_is_below_what_is_proved_and_grows_with_the_ball(order, normalize):
    model, x = network([40, 30], normalize=normalize), images()
    predicted = model(x).argmax(1)

    def sampled(radius: float, num: int) -> Tensor:
        ball = stream(0, "ball")
        return sampled_lipschitz(
            model, x, order=order, radius=radius, num_samples=num, generator=ball
        )

    at_image = margin_gradient_norms(model, x, predicted, order=order)
    torch.testing.assert_close(sampled(0.0, 50), at_image)
    wide = sampled(0.5, 8)
    assert (wide >= at_image).all() and (wide > at_image).any()
    assert (sampled(0.5, 16) >= wide).all()
    paper = product_lipschitz(model, order=order)[predicted]
    spectral = product_lipschitz(model, order=order, norm="spectral")[predicted]
    assert (wide <= spectral + 1e-5).all() and (spectral <= paper + 1e-5).all()
    assert (wide.gather(1, predicted[:, None]) == 0).all()


@pytest.mark.parametrize("order", [1, 2])
def test_no_step_inside_the_ball_eats_up_more_margin_than_the_bound_says(order):
    model, x = network([40, 30]), images()
    logits = model(x).detach()
    own, predicted = logits.max(1)
    constants = product_lipschitz(model, order=order)[predicted]
    for seed in range(20):
        step = 0.2 * torch.randn(x.shape, generator=stream(seed, "step"))
        size = step.flatten(1).norm(p=DUAL[order], dim=1)
        there = model(x + step).detach()
        lost = (own[:, None] - logits) - (there.gather(1, predicted[:, None]) - there)
        assert (lost <= constants * size[:, None] + 1e-5).all()


@pytest.mark.parametrize("order", [1, 2])
def test_the_mean_constant_of_randomly_masked_networks_falls_with_their_sparsity(order):
    """Corollary (ii), Theorem 3.2: W' is fixed, masks are independent Bernoulli draws."""
    model, x = network([40, 20]), images(10)
    whole = {name: p.detach().clone() for name, p in model.named_parameters()}
    predicted = model(x).argmax(1)  # of the whole network; the theorem fixes the class
    means = []
    for sparsity in (0.0, 0.25, 0.5, 0.75, 0.9):
        generator, values = stream(5, "masks"), []
        for _ in range(30):
            for name, parameter in model.named_parameters():
                mask = torch.rand(parameter.shape, generator=generator) >= sparsity
                last = name.startswith("head")  # the last layer is not masked in the theorem
                parameter.data.copy_(whole[name] * (torch.ones_like(mask) if last else mask))
            with frozen(model):
                norms = margin_gradient_norms(model, x, predicted, order=order)
            values.append(norms.mean())
        means.append(float(torch.stack(values).mean()))
    assert all(later < 0.9 * earlier for earlier, later in itertools.pairwise(means))


def test_the_bound_is_at_most_the_radius():
    model, x = network([8]), images(5)
    constants = torch.full((5, 5), 1e-6)
    assert margin_bound(model, x, constants, radius=0.25).tolist() == [0.25] * 5


def test_condition_numbers_of_diagonal_weights_written_out():
    model = nn.Sequential(nn.Linear(3, 3), nn.Conv2d(1, 2, (1, 2)))
    model[0].weight.data.copy_(torch.diag(torch.tensor([4.0, 2.0, 0.0])))
    model[1].weight.data.copy_(torch.tensor([[3.0, 0.0], [0.0, 6.0]]).view(2, 1, 1, 2))
    linear, convolution = condition_numbers(model)
    assert linear == {
        "name": "0.weight",
        "largest": 4.0,
        "smallest": 0.0,
        "condition": torch.inf,
        "condition_of_rank": 2.0,
        "rank": 2,
    }
    assert convolution["condition"] == pytest.approx(2.0) and convolution["rank"] == 2


def test_a_network_that_is_not_a_chain_of_linear_layers_is_refused():
    model = build_model("cnn-small", input_shape=(1, 8, 8), num_classes=3, seed=0)
    with pytest.raises(UserError, match="found BatchNorm2d, Conv2d"):
        product_lipschitz(model, order=2)
    jumping = {"name": "mlp", "activation": "k-wta"}
    with pytest.raises(UserError, match="found Winners"):
        product_lipschitz(
            build_model(jumping, input_shape=(1, 4, 4), num_classes=3, seed=0), order=1
        )


def test_rho_2_and_r_2_written_out():
    found = BoundaryDistances(
        distance=torch.tensor([1.0, 3.0, 2.0]),
        length=torch.tensor([2.0, 10.0, 8.0]),
        crossed=torch.tensor([True, True, True]),
        prediction=torch.tensor([0, 1, 2]),
        label=torch.tensor([0, 1, 1]),
    )
    assert found.rho_2() == pytest.approx((0.5 + 0.3 + 0.25) / 3)
    assert found.r_2() == pytest.approx((1.0 + 3.0) / 3)
    assert found.correct.tolist() == [True, True, False]
    assert set(found.arrays()) == {"distance", "length", "crossed", "prediction", "label"}


def test_distances_do_not_depend_on_the_batches_and_leave_the_model_alone():
    model, x = network([40, 30]).train(), images()
    y = torch.zeros(30, dtype=torch.int64)
    one = boundary_distances(model, x, y)
    other = boundary_distances(model, x, y, batch_size=7)
    torch.testing.assert_close(one.distance, other.distance, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(one.length, x.flatten(1).norm(dim=1))
    assert model.training and all(p.grad is None for p in model.parameters())
