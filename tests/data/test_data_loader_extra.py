"""Batches with a share of extra images: counts, order, resuming."""

import pytest
import torch

from wiry.data.base import Dataset
from wiry.data.loader import Loader


def loader(num_labelled=12, num_extra=5, *, batch_size=4, share=0.5, seed=0, **options):
    x = torch.arange(num_labelled + num_extra).float().view(-1, 1, 1, 1) / 100
    x = x.expand(-1, 1, 6, 6)
    y = torch.arange(len(x)) % 3
    return Loader(
        x,
        y,
        batch_size=batch_size,
        seed=seed,
        stage="dense",
        num_extra=num_extra,
        extra_share=share,
        **options,
    )


def test_every_batch_holds_the_share_and_an_epoch_is_one_pass_over_the_labelled_images():
    source = loader(num_labelled=10, num_extra=100, batch_size=8, share=0.25)
    batches = list(source.epoch(0))
    assert [int((batch.index < 10).sum()) for batch in batches] == [6, 4]
    assert [int((batch.index >= 10).sum()) for batch in batches] == [2, 1]  # 4 / 6 of 2
    seen = torch.cat([batch.index for batch in batches])
    assert seen[seen < 10].sort().values.tolist() == list(range(10))
    assert source.steps_per_epoch == 2 and source.last_batch_size == len(batches[-1].y) == 5


def test_half_of_128_is_64_and_an_epoch_has_twice_the_steps():
    """The published setting: 64 labelled and 64 others; 50,000 images make 782 steps, not 391."""
    x = torch.zeros(1, 1, 1, 1).expand(50_000 + 10, 1, 1, 1)
    settings = {"batch_size": 128, "seed": 0, "stage": "s"}
    y = torch.zeros(len(x), dtype=torch.int64)
    source = Loader(x, y, num_extra=10, extra_share=0.5, **settings)
    assert source.steps_per_epoch == 782


def test_extra_images_are_all_drawn_before_one_is_drawn_again():
    source = loader()  # 6 batches of 2 + 2, so 12 draws an epoch of 5 extra images
    drawn = torch.cat([b.index[b.index >= 12] for epoch in range(5) for b in source.epoch(epoch)])
    counts = (drawn - 12).bincount(minlength=5)
    assert counts.tolist() == [12] * 5


def test_passes_over_the_extra_images_run_on_from_epoch_to_epoch():
    """With more extra images than an epoch draws, the next epoch goes on where it ended."""
    source = loader(num_extra=20)
    first, second = (
        torch.cat([b.index[b.index >= 12] for b in source.epoch(epoch)]) for epoch in (0, 1)
    )
    assert len(first) == len(second) == 12
    assert len(first.unique()) == 12
    assert len(torch.cat([first, second[:8]]).unique()) == 20
    again = torch.cat([b.index[b.index >= 12] for e in range(5) for b in source.epoch(e)])
    assert (again - 12).bincount(minlength=20).tolist() == [3] * 20


def test_labels_and_images_are_those_of_the_index():
    source = loader()
    for batch in source.epoch(1):
        assert torch.equal(batch.x, source.x[batch.index])
        assert torch.equal(batch.y, batch.index % 3)


@pytest.mark.parametrize("augment", ["none", "crop-flip"])
@pytest.mark.parametrize("first_step", [0, 1, 5, 6])
def test_a_resumed_epoch_equals_the_rest_of_an_uninterrupted_one(augment, first_step):
    whole = list(loader(augment=augment).epoch(3))
    rest = list(loader(augment=augment).epoch(3, first_step=first_step))
    assert len(rest) == 6 - first_step
    for expected, batch in zip(whole[first_step:], rest, strict=True):
        assert torch.equal(batch.x, expected.x) and torch.equal(batch.index, expected.index)


def test_extra_images_leave_the_order_of_the_labelled_ones_alone():
    """With two labelled a batch either way, the labelled images come in the very same batches."""
    plain = Loader(
        torch.zeros(12, 1, 6, 6), torch.zeros(12).long(), batch_size=2, seed=0, stage="dense"
    )
    for one, other in zip(plain.epoch(2), loader().epoch(2), strict=True):
        labelled = other.index[other.index < 12]
        assert one.index.sort().values.tolist() == labelled.sort().values.tolist()


def test_the_two_sorts_are_mixed_within_a_batch():
    batches = list(loader(num_labelled=40, num_extra=40, batch_size=20).epoch(0))
    assert any(bool((batch.index[:10] >= 40).any()) for batch in batches)


@pytest.mark.parametrize(("batch_size", "share"), [(1, 0.5), (4, 0.1), (4, 0.9)])
def test_a_batch_that_cannot_hold_both_sorts_is_refused(batch_size, share):
    with pytest.raises(ValueError, match=f"a batch of {batch_size} cannot hold a share"):
        loader(batch_size=batch_size, share=share)


def test_without_extra_images_the_last_batch_is_what_is_left():
    source = Loader(
        torch.zeros(10, 1, 2, 2), torch.zeros(10).long(), batch_size=4, seed=0, stage="s"
    )
    assert [len(batch.y) for batch in source.epoch(0)] == [4, 4, 2]
    assert source.last_batch_size == 2


@pytest.mark.parametrize(
    ("num_extra", "share", "text"),
    [
        (3, 0.5, "below the number of training images, 3, got 3"),
        (1, 0.0, r"extra_share must be in \(0, 1\)"),
        (0, 0.5, "there are no extra images"),
    ],
)
def test_a_data_set_with_extra_images_that_make_no_sense_is_refused(num_extra, share, text):
    x, y = torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)
    with pytest.raises(ValueError, match=text):
        Dataset("d", x, y, x, y, x, y, ("a",), num_extra=num_extra, extra_share=share)
