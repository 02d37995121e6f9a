"""A stream an image: known answers, fair numbers, and no dependence on the rest of the batch."""

import pytest
import torch

from wiry.core.draws import Draws, as_draws, draws_of
from wiry.core.rng import stream


def test_the_hash_gives_the_published_numbers_of_splitmix64():
    bits = Draws(torch.tensor([0])).integers(3)[0].tolist()
    found = [value & (2**64 - 1) for value in bits]
    assert found == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]


def test_an_image_draws_the_same_alone_and_among_others():
    index = torch.tensor([7, 3, 11])
    together, alone = draws_of(1, "a", index=index), draws_of(1, "a", index=index[1:2])
    for _ in range(3):
        assert torch.equal(together.uniform(2, 2)[1:2], alone.uniform(2, 2))
        assert torch.equal(together.normal(3)[1:2], alone.normal(3))


def test_a_selection_goes_on_where_the_whole_was():
    draws = draws_of(0, "a", index=torch.arange(5))
    draws.uniform(4)
    some = draws.select(torch.tensor([True, False, False, True, False]))
    assert torch.equal(some.signs(6), draws.signs(6)[[0, 3]])


def test_numbers_have_their_moments_and_images_are_unrelated():
    draws = draws_of(0, "moments", index=torch.arange(400))
    uniform, normal, signs = draws.uniform(500), draws.normal(500), draws.signs(500)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.003)
    assert uniform.min() >= 0 and uniform.max() < 1
    assert normal.mean().item() == pytest.approx(0, abs=0.01)
    assert normal.std().item() == pytest.approx(1, abs=0.01)
    assert signs.unique().tolist() == [-1, 1] and abs(signs.mean().item()) < 0.01
    correlations = torch.corrcoef(uniform) - torch.eye(400)
    assert correlations.abs().mean() < 1.1 * (2 / torch.pi / 500) ** 0.5  # of independent draws


def test_other_names_seeds_and_indices_give_other_numbers():
    index = torch.arange(3)
    seen = [draws_of(s, n, index=index).uniform(1) for s, n in ((0, "a"), (0, "b"), (1, "a"))]
    assert torch.cat(seen).unique().numel() == 9


def test_a_generator_gives_each_image_a_key_of_its_own():
    images = torch.zeros(4, 1, 2, 2)
    first, again = (as_draws(stream(5), images).uniform(3) for _ in range(2))
    assert torch.equal(first, again) and first.unique().numel() == 12
