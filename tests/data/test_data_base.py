"""The container of a data set, its statistics and the ways to part it."""

import pytest
import torch

from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.data.base import (
    Dataset,
    build_dataset,
    first_split,
    limited,
    mean_std,
    stratified_split,
)


def tiny(train_x: torch.Tensor) -> Dataset:
    train_y = torch.zeros(len(train_x), dtype=torch.int64)
    other_x, other_y = torch.zeros(1, *train_x.shape[1:]), torch.ones(1, dtype=torch.int64)
    return Dataset("tiny", train_x, train_y, other_x, other_y, other_x + 1, other_y, ("a", "b"))


def test_dataset_tells_its_shape_and_number_of_classes():
    dataset = tiny(torch.zeros(3, 2, 4, 5))
    assert dataset.input_shape == (2, 4, 5)
    assert dataset.num_classes == 2
    assert dataset.augment == "none"


def test_split_returns_images_and_labels_of_the_named_split():
    dataset = tiny(torch.zeros(3, 2, 4, 5))
    assert dataset.split("train")[0] is dataset.train_x
    assert dataset.split("validation")[0] is dataset.validation_x
    assert dataset.split("test")[0] is dataset.test_x
    assert dataset.split("train")[1] is dataset.train_y


def test_an_unknown_split_is_refused_with_the_closest_name():
    with pytest.raises(ValueError, match=r"no split 'validate'; closest: 'validation'"):
        tiny(torch.zeros(3, 1, 2, 2)).split("validate")


def test_mean_and_std_are_those_of_each_channel_over_the_training_pixels():
    first = torch.tensor([[0.0, 1.0], [0.0, 1.0]])  # mean 1/2, deviation 1/2
    second = torch.tensor([[0.2, 0.2], [0.2, 0.6]])  # mean 0.3, variance (3 * 0.01 + 0.09) / 4
    mean, std = mean_std(tiny(torch.stack([first, second]).unsqueeze(0)))
    torch.testing.assert_close(mean, torch.tensor([0.5, 0.3]))
    torch.testing.assert_close(std, torch.tensor([0.5, 0.03**0.5]))


def test_a_constant_channel_gets_a_deviation_of_one():
    _, std = mean_std(tiny(torch.zeros(2, 1, 3, 3)))
    assert std.tolist() == [1.0]


def test_first_split_parts_the_first_samples_from_the_rest():
    first, rest = first_split(5, 2)
    assert first.tolist() == [0, 1]
    assert rest.tolist() == [2, 3, 4]


@pytest.mark.parametrize("num_first", [0, 5, 6, -1])
def test_first_split_refuses_an_empty_part(num_first):
    with pytest.raises(ValueError, match=r"choose 1 to 4"):
        first_split(5, num_first)


def test_limited_keeps_the_first_indices_and_refuses_more_than_there_are():
    assert limited(torch.arange(4), 2).tolist() == [0, 1]
    assert limited(torch.arange(4), None).tolist() == [0, 1, 2, 3]
    with pytest.raises(ValueError, match=r"num_train is 5, but only 4"):
        limited(torch.arange(4), 5)


def test_stratified_split_takes_alike_from_every_class():
    y = torch.tensor([0] * 20 + [1] * 40 + [2] * 60)
    first, second, rest = stratified_split(y, (30, 60), seed=0)
    assert y[first].bincount().tolist() == [5, 10, 15]
    assert y[second].bincount().tolist() == [10, 20, 30]
    assert y[rest].bincount().tolist() == [5, 10, 15]
    assert torch.cat([first, second, rest]).sort().values.tolist() == list(range(120))


def test_stratified_split_depends_on_its_seed_only():
    y = torch.arange(40) % 4
    again = [stratified_split(y, (8, 16), seed=0)[0].tolist() for _ in range(2)]
    torch.manual_seed(1)
    assert again[0] == again[1] == stratified_split(y, (8, 16), seed=0)[0].tolist()
    assert again[0] != stratified_split(y, (8, 16), seed=1)[0].tolist()


@pytest.mark.parametrize("counts", [(4, 6), (0, 5), (11,)])
def test_stratified_split_refuses_an_empty_part(counts):
    with pytest.raises(ValueError, match=r"each part needs at least 1 sample"):
        stratified_split(torch.zeros(10, dtype=torch.int64), counts, seed=0)


def test_the_four_data_sets_are_registered():
    assert {"digits", "mnist", "fashion-mnist", "cifar10"} <= set(registry("dataset").names())


@pytest.mark.parametrize(
    ("name", "field"),
    [
        (name, field)
        for name in registry("dataset").names()
        for field in registry("dataset").signature(name)
        if field in ("num_validation", "num_train")
    ],
)
def test_a_count_below_one_is_refused_before_anything_is_read(name, field):
    with pytest.raises(UserError, match=rf"dataset '{name}': {field}"):
        registry("dataset").normalize({"name": name, field: 0})


def test_an_unknown_data_set_is_refused_with_the_closest_name():
    with pytest.raises(UserError, match=r"closest: 'digits'"):
        build_dataset("digit")
