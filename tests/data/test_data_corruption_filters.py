"""What the corruptions are made of: shifted sums, resampling, clouds and ice."""

import math

import numpy as np
import pytest
import torch

from wiry.core.draws import draws_of
from wiry.data.corruptions import weather
from wiry.data.corruptions.filters import blurred, filtered, moved, resized, smeared, zoomed


def levels(rows):
    return torch.tensor(rows, dtype=torch.float32).div(255)[None, None]


def draws(num):
    return draws_of(0, "test", index=torch.arange(num))


@pytest.mark.parametrize("side", [1, 2, 5, 32])
def test_clouds_reach_from_0_to_1(side):
    cloud = weather.plasma(draws(3), side, 2.0)
    assert cloud.shape[1] >= side and cloud.isfinite().all()
    assert torch.equal(cloud.amin((1, 2)), torch.zeros(3))
    assert torch.equal(cloud.amax((1, 2)), torch.ones(3))


def test_a_cloud_of_faster_decay_is_smoother():
    rough, smooth = (weather.plasma(draws(20), 32, decay) for decay in (1.5, 3.0))
    assert float(smooth.diff(dim=1).abs().mean()) < 0.5 * float(rough.diff(dim=1).abs().mean())


def test_ice_is_between_none_and_full():
    ice = weather.ice_texture(draws(8), 32, 32)
    assert ice.shape == (8, 32, 32) and float(ice.min()) >= 0 and float(ice.max()) <= 1
    assert float(ice.std()) > 0.1
    assert not torch.equal(ice[0], ice[1])


def test_pixels_are_moved_as_told_and_the_border_stays():
    x = levels([[1, 2], [3, 4]])
    right = torch.ones(1, 1, 1, dtype=torch.long)
    assert torch.equal(moved(x, 0 * right, right), levels([[2, 2], [4, 4]]))
    assert torch.equal(moved(x, -right, 0 * right), levels([[1, 2], [1, 2]]))


def test_smearing_takes_from_one_side():
    x = torch.zeros(2, 1, 1, 9)
    x[..., 4] = 1
    east = smeared(x, 1, 1.0, torch.tensor([0.0, math.pi]))
    weights = [1, math.exp(-0.5), math.exp(-2)]
    expected = torch.tensor([0, 0, weights[2], weights[1], weights[0], 0, 0, 0, 0]) / sum(weights)
    assert torch.allclose(east[0, 0, 0], expected)
    assert torch.allclose(east[1, 0, 0], expected.flip(0))  # the point is in the middle


def test_blur_is_that_of_scipy():
    ndimage = pytest.importorskip("scipy.ndimage")
    x = torch.rand(1, 1, 9, 12, generator=torch.Generator().manual_seed(0))
    expected = ndimage.gaussian_filter(x[0, 0].double().numpy(), 1.3, mode="nearest")
    assert np.allclose(blurred(x, 1.3)[0, 0].numpy(), expected, atol=1e-6)


def test_a_kernel_is_resized_to_the_image():
    plus = [[0.0, 1, 0], [1, 1, 1], [0, 1, 0]]
    assert resized(plus, 1) == plus
    half = resized(plus, 0.5)  # four taps at half a pixel: each gives half to the middle
    assert half == [[0.0, 0.5, 0.0], [0.5, 3.0, 0.5], [0.0, 0.5, 0.0]]
    double = resized([[1.0]], 2)
    assert double == [[0.25, 0.5, 0.25], [0.5, 1.0, 0.5], [0.25, 0.5, 0.25]]
    x = levels([[0, 0, 0], [0, 30, 0], [0, 0, 0]])
    assert torch.allclose(filtered(x, plus), levels([[0, 6, 0], [6, 6, 6], [0, 6, 0]]))


def test_zooming_enlarges_the_middle():
    x = levels([[0, 0, 0], [0, 90, 0], [0, 0, 0]])
    # the upper left 2 x 2 pixels become 4 x 4, of which the upper left 3 x 3 are kept
    assert torch.allclose(zoomed(x, 2), levels([[0, 0, 0], [0, 10, 20], [0, 20, 40]]))
    assert torch.allclose(zoomed(x, 1.0), x, atol=1e-6)
