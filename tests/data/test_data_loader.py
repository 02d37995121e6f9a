"""Batches: order, resuming and augmentation."""

import pytest
import torch

from wiry.data.loader import Loader, crop_flip


def loader(num: int = 10, **options) -> Loader:
    x = torch.arange(num * 2 * 6 * 5, dtype=torch.float32).view(num, 2, 6, 5) / (num * 60)
    settings = {"batch_size": 4, "seed": 0, "stage": "dense", **options}
    return Loader(x, torch.arange(num) % 3, **settings)


def test_an_epoch_holds_every_image_once_and_keeps_the_smaller_last_batch():
    batches = list(loader().epoch(0))
    assert [len(batch.x) for batch in batches] == [4, 4, 2]
    assert loader().steps_per_epoch == 3
    assert torch.cat([batch.index for batch in batches]).sort().values.tolist() == list(range(10))


def test_an_even_division_has_no_extra_step():
    assert loader(8).steps_per_epoch == len(list(loader(8).epoch(0))) == 2


def test_images_and_labels_are_those_of_the_index():
    source = loader()
    for batch in source.epoch(3):
        assert torch.equal(batch.x, source.x[batch.index])
        assert torch.equal(batch.y, batch.index % 3)


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
@pytest.mark.parametrize("first_step", [0, 1, 2, 3])
def test_a_resumed_epoch_equals_the_rest_of_an_uninterrupted_one(augment, first_step):
    whole = list(loader(augment=augment).epoch(2))
    rest = list(loader(augment=augment).epoch(2, first_step=first_step))
    assert len(rest) == 3 - first_step
    for expected, batch in zip(whole[first_step:], rest, strict=True):
        assert torch.equal(batch.x, expected.x)
        assert torch.equal(batch.index, expected.index)


@pytest.mark.parametrize("options", [{"seed": 1}, {"stage": "finetune"}])
def test_the_order_depends_on_seed_and_stage(options):
    one = torch.cat([batch.index for batch in loader(100).epoch(0)])
    other = torch.cat([batch.index for batch in loader(100, **options).epoch(0)])
    assert not torch.equal(one, other)


def test_the_order_depends_on_the_epoch():
    one, other = (torch.cat([b.index for b in loader(100).epoch(epoch)]) for epoch in (0, 1))
    assert not torch.equal(one, other)


def test_augmentation_leaves_order_labels_and_stored_images_alone():
    plain, augmented = loader(), loader(augment="crop-flip")
    before = augmented.x.clone()
    for expected, batch in zip(plain.epoch(0), augmented.epoch(0), strict=True):
        assert torch.equal(batch.index, expected.index)
        assert torch.equal(batch.y, expected.y)
        assert not torch.equal(batch.x, expected.x)
    assert torch.equal(augmented.x, before)


def test_augmentation_differs_from_step_to_step():
    x = torch.rand(1, 1, 8, 8).expand(40, 1, 8, 8)
    source = Loader(
        x, torch.zeros(40).long(), batch_size=20, seed=0, stage="a", augment="crop-flip"
    )
    first, second = source.epoch(0)
    assert not torch.equal(first.x, second.x)


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    list(loader(augment="crop-flip").epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


def test_crop_flip_shifts_by_up_to_the_padding_and_mirrors():
    x = torch.arange(1, 13, dtype=torch.float32).view(1, 1, 3, 4)
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1))[0, 0]
    windows = [padded[i : i + 3, j : j + 4] for i in range(3) for j in range(3)]
    possible = [window.flatten().tolist() for window in windows]
    possible += [window.flip(1).flatten().tolist() for window in windows]
    generator = torch.Generator().manual_seed(0)
    drawn = crop_flip(x.expand(400, 1, 3, 4), generator, padding=1).flatten(1).tolist()
    assert all(image in drawn for image in possible)  # each of the 18 outcomes comes up
    assert all(image in possible for image in drawn)


def test_crop_flip_treats_the_channels_of_an_image_alike():
    x = torch.rand(20, 1, 6, 6).expand(20, 3, 6, 6)
    y = crop_flip(x, torch.Generator().manual_seed(0))
    assert y.shape == x.shape
    assert torch.equal(y[:, 0], y[:, 2])


@pytest.mark.parametrize(
    ("num", "options", "text"),
    [
        (0, {}, "needs images"),
        (3, {"batch_size": 0}, "batch_size must be at least 1, got 0"),
        (3, {"augment": "mixup"}, "'none' or 'crop-flip', got 'mixup'"),
    ],
)
def test_a_loader_that_makes_no_sense_is_refused(num, options, text):
    with pytest.raises(ValueError, match=text):
        loader(num, **options)
