"""Materialise and pull back: the gradients are those of a parametrised layer."""

import dataclasses

import torch
from torch import nn
from torch.nn.utils import parametrize

from wiry.core.state import SparseState
from wiry.sparsify.reparametrise import Reparametrised
from wiry.sparsify.score_search import straight_through
from wiry.sparsify.select import keep_largest


def top_two(scores):
    return straight_through(keep_largest(scores, 2), scores)


@dataclasses.dataclass(frozen=True)
class _TopScores(Reparametrised):
    """Weights times a mask of the two largest scores."""

    def setup(self, model, state):
        state.tensors["weight"] = model.weight.detach().clone()
        state.tensors["scores"] = torch.tensor([[3.0, 1.0], [2.0, 0.0]]).requires_grad_()

    def trainable(self, model, state):
        return {"scores": state.tensors["scores"]}

    def effective(self, model, state):
        mask = top_two(state.tensors["scores"])
        return {"weight": state.tensors["weight"] * mask}


class _Masked(nn.Module):
    def __init__(self, scores):
        super().__init__()
        self.scores = nn.Parameter(scores)

    def forward(self, weight):
        return weight * top_two(self.scores)


def layer():
    model = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    return model


def test_effective_weights_are_written_and_gradients_come_back():
    model, state, method = layer(), SparseState(), _TopScores()
    method.setup(model, state)
    method.before_forward(model, state)
    assert model.weight.tolist() == [[1, 0], [3, 0]]
    model(torch.tensor([[1.0, 10.0]])).sum().backward()
    method.after_backward(model, state)
    # d loss / d weight is the input; times the weight it is the gradient of the mask
    assert state.tensors["scores"].grad.tolist() == [[1, 20], [3, 40]]
    assert model.weight.grad is None and "effective" not in state.transient


def test_after_a_step_the_model_shows_the_new_weights_without_a_graph():
    model, state, method = layer(), SparseState(), _TopScores()
    method.setup(model, state)
    with torch.no_grad():
        state.tensors["scores"].copy_(torch.tensor([[0.0, 1.0], [2.0, 0.0]]))
    method.after_step(model, state)
    assert model.weight.tolist() == [[0, 2], [3, 0]]
    assert model.weight.is_leaf and "effective" not in state.transient


def test_score_gradients_are_bit_equal_to_those_of_parametrized_layers():
    x, y = torch.randn(16, 2), torch.randint(2, (16,))
    model, state, method = layer(), SparseState(), _TopScores()
    method.setup(model, state)
    twin = layer()
    scores = state.tensors["scores"].detach().clone()
    parametrize.register_parametrization(twin, "weight", _Masked(scores))
    nn.functional.cross_entropy(twin(x), y).backward()
    method.before_forward(model, state)
    nn.functional.cross_entropy(model(x), y).backward()
    method.after_backward(model, state)
    wanted = twin.parametrizations.weight[0].scores.grad
    assert torch.equal(state.tensors["scores"].grad, wanted)
