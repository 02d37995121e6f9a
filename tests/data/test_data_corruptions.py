"""Common corruptions: what each does by hand, and what holds for all of them."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from wiry.core.errors import UserError
from wiry.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt

NAMES = list(CORRUPTIONS)
DRAWN = [
    "gaussian_noise", "shot_noise", "impulse_noise", "glass_blur", "motion_blur", "snow", "frost",
    "fog", "elastic_transform",
]  # fmt: skip
SCATTERED = {"glass_blur", "elastic_transform", "snow", "motion_blur", "frost"}
"""Their severities change several parameters against each other; the published ones do too."""


def pictures(num=5, channels=3, height=32, width=32):
    """Smooth colourful pictures with an edge, in 256 levels."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(num, channels, 4, 4, generator=generator)
    x = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear")
    x[:, :, : height // 2, : width // 3] *= 0.5
    return x.mul(255).round().div(255)


def levels(rows):
    return torch.tensor(rows, dtype=torch.float32).div(255)[None, None]


def test_there_are_the_fifteen_of_the_paper_in_its_order():
    assert NAMES == [
        "gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "glass_blur",
        "motion_blur", "zoom_blur", "snow", "frost", "fog", "brightness", "contrast",
        "elastic_transform", "pixelate", "jpeg_compression",
    ]  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 20, 33)])
@pytest.mark.parametrize("name", NAMES)
def test_images_keep_shape_and_range_and_come_in_256_levels(name, shape):
    x = pictures(3, *shape)
    before = x.clone()
    for severity in (1, 5):
        y = corrupt(x, name, severity)
        assert y.shape == x.shape and y.dtype == torch.float32
        assert float(y.min()) >= 0 and float(y.max()) <= 1
        assert torch.equal(y.mul(255).round().div(255), y)
    assert torch.equal(x, before)
    assert corrupt(x[:0], name, 3).shape == x[:0].shape


@pytest.mark.parametrize("name", NAMES)
def test_an_image_depends_on_its_index_and_not_on_its_batch(name):
    x = pictures(7)
    for severity in (2, 5):
        whole = corrupt(x, name, severity, seed=3)
        assert torch.equal(whole, corrupt(x, name, severity, seed=3))
        for rows in ([4], [6, 1, 3]):
            part = corrupt(x[rows], name, severity, seed=3, index=torch.tensor(rows))
            assert torch.equal(part, whole[rows])


@pytest.mark.parametrize("name", NAMES)
def test_seed_index_and_severity_change_what_is_drawn(name):
    x = pictures(1)
    first = corrupt(x, name, 3)
    others = [corrupt(x, name, 3, seed=1), corrupt(x, name, 3, index=torch.tensor([1]))]
    for other in others:
        assert torch.equal(first, other) == (name not in DRAWN)


def test_the_global_generator_is_left_alone():
    before = torch.random.get_rng_state()
    for name in NAMES:
        corrupt(pictures(1), name, 4)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("name", NAMES)
def test_images_change_more_with_severity(name):
    texture = torch.rand(40, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    x = 0.8 * pictures(40) + 0.2 * texture
    changes = [float((corrupt(x, name, s) - x).square().mean()) for s in SEVERITIES]
    assert changes[0] > 0
    if name not in SCATTERED:
        assert changes == sorted(changes)
    elif name != "elastic_transform":  # its stretching shrinks while its waves get shorter
        assert max(changes) > changes[0]


def test_brightness_by_hand():
    grey = levels([[0, 100], [200, 255]])
    assert torch.equal(corrupt(grey, "brightness", 3), levels([[38, 138], [238, 255]]))  # + 38.25
    colour = torch.tensor([100.0, 50.0, 0.0]).div(255).view(1, 3, 1, 1)
    # the largest channel 100 becomes 100 + 0.3 * 255 = 176.5; the others keep their ratio to it
    assert torch.allclose(
        corrupt(colour, "brightness", 5).flatten() * 255,
        torch.tensor([176.5, 88.25, 0.0]),
        atol=0.5,
    )
    black = torch.zeros(1, 3, 1, 1)
    assert corrupt(black, "brightness", 2).mul(255).round().flatten().tolist() == [26, 26, 26]


def test_contrast_by_hand():
    x = levels([[0, 0, 40, 40], [0, 0, 40, 40], [80, 80, 120, 120], [80, 80, 120, 120]])  # mean 60
    half = [[30, 30, 50, 50], [30, 30, 50, 50], [70, 70, 90, 90], [70, 70, 90, 90]]
    assert torch.equal(corrupt(x, "contrast", 2), levels(half))


def test_pixelate_by_hand():
    x = levels([[0, 4, 8, 8], [8, 4, 8, 8], [100, 100, 0, 200], [100, 100, 0, 200]])
    blocks = [[4, 4, 8, 8], [4, 4, 8, 8], [100, 100, 100, 100], [100, 100, 100, 100]]
    assert torch.equal(corrupt(x, "pixelate", 5), levels(blocks))  # int(4 * 0.65) = 2 blocks a side


def test_jpeg_is_that_of_pillow_and_keeps_even_grey():
    assert torch.equal(corrupt(torch.full((1, 3, 8, 8), 128 / 255), "jpeg_compression", 5),
                       torch.full((1, 3, 8, 8), 128 / 255))  # fmt: skip


def test_noise_has_the_strength_it_says():
    x = torch.full((4, 3, 64, 64), 0.5)
    assert float(corrupt(x, "gaussian_noise", 5).std()) == pytest.approx(0.10, rel=0.02)
    counted = corrupt(x, "shot_noise", 5)  # Poisson of mean 25, over 50
    assert float(counted.mean()) == pytest.approx(0.5, abs=0.002)
    assert float(counted.std()) == pytest.approx(math.sqrt(25) / 50, rel=0.02)
    salted = corrupt(x, "impulse_noise", 5)
    assert float((salted == 0).float().mean()) == pytest.approx(0.035, rel=0.1)
    assert float((salted == 1).float().mean()) == pytest.approx(0.035, rel=0.1)


@pytest.mark.parametrize("name", ["defocus_blur", "glass_blur", "motion_blur", "zoom_blur",
                                  "pixelate", "elastic_transform", "contrast"])  # fmt: skip
def test_what_moves_pixels_leaves_an_even_image(name):
    x = torch.full((2, 3, 32, 32), 100 / 255)
    for severity in SEVERITIES:
        assert torch.equal(corrupt(x, name, severity), x)


def test_defocus_of_a_point_is_a_disk():
    x = torch.zeros(1, 1, 32, 32)
    x[..., 16, 16] = 1
    shape = corrupt(x, "defocus_blur", 5)[0, 0]  # radius 1.5 and hardly an edge: 3 x 3
    assert torch.equal(shape[15:18, 15:18].mul(255).round(), torch.full((3, 3), 28.0))
    assert int((shape > 0).sum()) == 9


def test_glass_blur_moves_colours_up_to_one_pixel_right_and_down_in_a_round():
    x = torch.zeros(30, 1, 32, 32)
    x[..., 16, 16] = 1
    found = corrupt(x, "glass_blur", 1).sum(0)[0] > 0
    places = {tuple(place) for place in found.nonzero().tolist()}
    assert places == {(16, 16), (16, 17), (17, 16), (17, 17)}


def test_snow_falls_and_whitens():
    x = torch.full((4, 3, 32, 32), 0.2)
    y = corrupt(x, "snow", 1)
    whitened = 0.95 * 0.2 + 0.05 * (0.2 * 1.5 + 0.5)  # where there is no flake
    assert float(y.min()) == pytest.approx(whitened, abs=0.5 / 255)
    assert float(y.max()) > 0.4 and torch.equal(y[:, 0], y[:, 2])


def test_fog_keeps_the_brightest_value_and_brightens_black():
    x = torch.zeros(3, 1, 32, 32)
    x[..., :4, :4] = 0.8
    y = corrupt(x, "fog", 3)
    assert float(y.max()) <= 0.8 + 1 / 255
    # a cloud between 0 and 1 adds up to 0.75, and all is multiplied by 0.8 / (0.8 + 0.75)
    assert 0.2 < float(y[..., 8:, 8:].amax()) <= 0.75 * 0.8 / 1.55 + 1 / 255


def test_box_pixelation_is_that_of_pillow():
    x = pictures(1)
    picture = Image.fromarray(x[0].mul(255).round().byte().permute(1, 2, 0).numpy())
    small = picture.resize((27, 27), Image.Resampling.BOX)  # int(32 * 0.85)
    expected = np.asarray(small.resize((32, 32), Image.Resampling.BOX))
    found = corrupt(x, "pixelate", 3)[0].mul(255).round().byte().permute(1, 2, 0).numpy()
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "severity", "channels", "message"),
    [
        ("fgo", 1, 3, "no corruption 'fgo'; closest: 'fog'"),
        ("fog", 0, 3, "severity of a corruption is 1, 2, 3, 4 or 5, got 0"),
        ("fog", 6, 3, "got 6"),
        ("fog", 1, 2, "got 2 channels"),
    ],
)
def test_what_cannot_be_corrupted_is_refused(name, severity, channels, message):
    with pytest.raises(UserError, match=message):
        corrupt(pictures(1, channels), name, severity)
