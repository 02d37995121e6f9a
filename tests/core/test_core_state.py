"""A loaded state fills the tensors that are there, so an optimizer keeps hold of them."""

import pytest
import torch

from wiry.core.channels import channel_groups
from wiry.core.errors import UserError
from wiry.core.state import SparseState


def test_loading_fills_present_tensors_in_place():
    leaf = torch.zeros(2, requires_grad=True)
    state = SparseState(tensors={"scores": leaf})
    state.load_state_dict(SparseState(tensors={"scores": torch.tensor([1.0, 2.0])}).state_dict())
    assert state.tensors["scores"] is leaf
    assert leaf.tolist() == [1.0, 2.0] and leaf.requires_grad


def test_a_tensor_of_another_shape_or_type_is_replaced():
    state = SparseState(tensors={"a": torch.zeros(3), "b": torch.zeros(2)})
    saved = {"a": torch.ones(2), "b": torch.ones(2, dtype=torch.int64), "c": torch.ones(1)}
    state.load_state_dict(SparseState(tensors=saved).state_dict())
    assert {n: v.tolist() for n, v in state.tensors.items()} == {"a": [1, 1], "b": [1, 1], "c": [1]}
    assert state.tensors["b"].dtype == torch.int64


def test_what_is_saved_has_no_graph_and_no_transient_part():
    state = SparseState(tensors={"scores": torch.zeros(2, requires_grad=True)})
    state.transient["effective"] = object()
    saved = state.state_dict()
    assert not saved["tensors"]["scores"].requires_grad
    assert "transient" not in saved


def test_a_model_without_channel_groups_is_refused_by_name():
    with pytest.raises(UserError, match="Linear has no channel_groups"):
        channel_groups(torch.nn.Linear(2, 2))
