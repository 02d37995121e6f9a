"""Batches, halved where memory runs out until one image does not fit; and the time left."""

import dataclasses

import pytest
import torch
from tests.evaluation.example import UP, Shift, Threshold, X, Y
from torch import nn

from wiry.attacks.apgd import APGD
from wiry.attacks.square import Square
from wiry.core.errors import UserError
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.batching import CPU_BATCH, Batching, automatic, fitting
from wiry.evaluation.progress import TimeLeft, work


class Small(nn.Module):
    """A network that runs out of memory with more images than `most`, in its own words."""

    def __init__(self, most, error):
        super().__init__()
        self.most, self.error, self.sizes = most, error, []

    def forward(self, x):
        self.sizes.append(len(x))
        if len(x) > self.most:
            raise self.error
        return torch.stack([0.5 - x.flatten(1)[:, 0], x.flatten(1)[:, 0] - 0.5], 1)


ERRORS = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
)


@dataclasses.dataclass(frozen=True)
class ByImage(Shift):
    """A shift that may be cut into any batches."""

    draws_per_image = True


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_a_batch_that_does_not_fit_is_halved_and_the_rows_are_the_same(error):
    model = Small(2, error)
    table = attack_images(model, X, Y, [ByImage(0.2)], batch_size=5)
    assert table.by_attack[repr(ByImage(0.2))].tolist() == [True, False, True, True, False]
    assert model.sizes[:4] == [5, 2, 2, 1], "the clean look; later batches start small"
    assert max(model.sizes[4:]) <= 2


def test_one_image_that_does_not_fit_is_said():
    with pytest.raises(UserError, match="one image at a time"):
        attack_images(Small(0, MemoryError()), X, Y, [])


def test_another_error_is_not_taken_for_want_of_memory():
    with pytest.raises(RuntimeError, match="shapes"):
        attack_images(Small(2, RuntimeError("shapes do not fit")), X, Y, [])


def test_automatic_size_on_a_cpu_is_fixed_and_on_a_gpu_what_fits():
    sizes = {
        side: automatic(Threshold(), torch.zeros(2, 3, side, side)) for side in (8, 16, 32, 64)
    }
    assert sizes == {8: 1024, 16: 512, 32: CPU_BATCH, 64: CPU_BATCH}
    assert [fitting(free, 100) for free in (0, 170, 1000, 10**9)] == [1, 1, 4, 4096]
    for size in ("many", 0, -3):
        with pytest.raises(UserError, match="at least 1"):
            Batching(size, Threshold(), X)


def test_the_time_left_is_work_left_at_the_speed_so_far():
    now = iter([0.0, 10.0, 13.0])
    left = TimeLeft([APGD(0.1, steps=10), Square(0.1, num_queries=60)], clock=lambda: next(now))
    assert left.seconds(4, 4) is None
    left.begin()
    left.end(2)  # two images, 30 passes each, in 3 seconds
    assert left.seconds(4, 4) == pytest.approx((4 * 30 + 4 * 60) * 3 / 60)
    left.next_part()
    assert left.seconds(3, 3) == pytest.approx(3 * 60 * 3 / 60)


def test_work_counts_steps_thrice_and_queries_once():
    assert work(APGD(0.1, steps=10, restarts=2, num_passes=5)) == 300
    assert work(Square(0.1, num_queries=60)) == 60 and work(UP) == 3
