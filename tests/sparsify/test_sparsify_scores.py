"""Searches by trained scores (HYDRA, scratch tickets): written-out and independent answers."""

import pytest
import torch
from torch import nn, tensor
from torch.nn.utils import parametrize

from wiry.core.errors import UserError
from wiry.core.mask import Mask, density, prunable
from wiry.core.recipe import Stage
from wiry.core.state import SparseState
from wiry.sparsify.hydra import Hydra
from wiry.sparsify.magnitude import Magnitude
from wiry.sparsify.plan import plan
from wiry.sparsify.score_search import scaled_score, straight_through
from wiry.sparsify.scratch_ticket import ScratchTicket


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def small_network():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(96, 5)
        )


def images(step):
    generator = seeded(step)
    return torch.rand(8, 1, 6, 6, generator=generator), torch.randint(5, (8,), generator=generator)


def run(method, model, num_steps, *, lr=0.05, mask=None, state=None, until=None):
    """Take steps of plain SGD as the loop does, and return the state."""
    fresh = state is None
    state = state or SparseState(mask or Mask(), total_steps=num_steps, generator=seeded(7))
    if fresh:
        method.setup(model, state)
    optimizer = torch.optim.SGD(method.trainable(model, state).values(), lr=lr, momentum=0.9)
    for _ in range(num_steps if until is None else until):
        method.before_forward(model, state)
        x, y = images(state.step)
        optimizer.zero_grad()
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        method.after_backward(model, state)
        optimizer.step()
        method.after_step(model, state)
        state.step += 1
    return state


def test_a_search_by_scores_written_out():
    """Two inputs' weights -2 and 1 are kept of (-2, 0.5, 1, 0); a step makes 0.5 overtake 1."""
    model = nn.Linear(4, 1, bias=False)
    model.weight.data = tensor([[-2.0, 0.5, 1.0, 0.0]])
    method, state = Hydra(sparsity=0.5), SparseState(total_steps=1)
    method.setup(model, state)
    scores = state.tensors["score/weight"]
    scale = (6 / 4) ** 0.5
    assert torch.allclose(scores, tensor([[-1.0, 0.25, 0.5, 0.0]]) * scale)
    method.before_forward(model, state)
    assert model.weight.tolist() == [[-2.0, 0.0, 1.0, 0.0]]
    model(tensor([[1.0, 2.0, 3.0, 4.0]])).sum().backward()  # the weights' gradient is the input
    method.after_backward(model, state)
    # input * weight * sign of the score, also where the mask is zero
    assert scores.grad is not None and scores.grad.tolist() == [[2.0, 1.0, 3.0, 0.0]]
    assert model.weight.grad is None
    with torch.no_grad():
        scores -= tensor([[0.0, -1.0, 0.0, 0.0]])
    method.after_step(model, state)
    assert state.mask["weight"].tolist() == [[True, True, False, False]]
    assert model.weight.tolist() == [[-2.0, 0.5, 0.0, 0.0]]


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.87])
def test_the_first_mask_is_that_of_the_largest_weights_of_each_layer(sparsity):
    model, magnitude = small_network(), SparseState()
    Magnitude(sparsity=sparsity, allocation="layerwise").setup(model, magnitude)
    method, state = Hydra(sparsity=sparsity), SparseState(total_steps=1)
    method.setup(model, state)
    method.before_forward(model, state)
    assert state.mask.equal(magnitude.mask)


class MaskedByScores(nn.Module):
    """The usual way: weight times mask in each forward pass, by a full sort."""

    def __init__(self, weight, scores, num_kept):
        super().__init__()
        self.scores, self.num_kept = nn.Parameter(scores), num_kept
        weight.requires_grad_(False)

    def forward(self, weight):
        sizes = self.scores.abs()
        order = sizes.flatten().argsort(descending=True)
        mask = torch.zeros(weight.numel()).index_fill(0, order[: self.num_kept], 1.0)
        return weight * (mask.view_as(weight) + (sizes - sizes.detach()))


def test_gradients_and_updates_equal_those_of_parametrised_layers():
    ours, theirs, method = small_network(), small_network(), Hydra(sparsity=0.6)
    state = SparseState(total_steps=4)
    method.setup(ours, state)
    mine = torch.optim.SGD(method.trainable(ours, state).values(), lr=0.1, momentum=0.9)
    method.before_forward(ours, state)
    for name in ("0", "4"):
        layer = theirs.get_submodule(name)
        count = int(state.mask[f"{name}.weight"].sum())
        masked = MaskedByScores(layer.weight, scaled_score(layer.weight.detach()), count)
        parametrize.register_parametrization(layer, "weight", masked)
        layer.bias.requires_grad_(False)
    trained = [p for p in theirs.parameters() if p.requires_grad]
    yours = torch.optim.SGD(trained, lr=0.1, momentum=0.9)
    for step in range(4):
        x, y = images(step)
        method.before_forward(ours, state)
        for model, optimizer in ((ours, mine), (theirs, yours)):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
        method.after_backward(ours, state)
        for name in ("0", "4"):
            expected = theirs.get_submodule(name).parametrizations.weight[0].scores.grad
            assert torch.equal(state.tensors[f"score/{name}.weight"].grad, expected)
        mine.step()
        yours.step()
        method.after_step(ours, state)
        state.step += 1
    assert torch.equal(ours[1].weight, theirs[1].weight)
    assert torch.equal(ours[4].weight, theirs[4].weight)


@pytest.mark.parametrize("method", [Hydra(sparsity=0.7), ScratchTicket(sparsity=0.7, init="as-is")])
def test_weights_are_the_same_bits_after_the_search(method):
    model, before = small_network(), small_network()
    state = run(method, model, 20)
    mask = method.finish(model, state)
    first = SparseState(total_steps=1, generator=seeded(7))
    method.setup(before, first)
    method.before_forward(before, first)
    assert not mask.equal(first.mask), "the search did nothing"
    for name, start in prunable(small_network()).items():
        now = model.get_parameter(name).detach()
        assert torch.equal(now[mask[name]], start.detach()[mask[name]])
        assert not now[~mask[name]].any()
    assert torch.equal(model[4].bias, small_network()[4].bias)


def test_the_search_trains_normalisation_layers_and_a_scratch_ticket_does_not():
    start = small_network()
    searched, scratch = small_network(), small_network()
    run(Hydra(sparsity=0.5), searched, 5)
    state = run(ScratchTicket(sparsity=0.5), scratch, 5)
    assert not torch.equal(searched[1].weight, start[1].weight)
    assert torch.equal(scratch[1].weight, start[1].weight)
    assert torch.equal(scratch[1].bias, start[1].bias)
    assert all(name.startswith("score/") for name in ScratchTicket().trainable(scratch, state))


@pytest.mark.parametrize("allocation", ["layerwise", "global", "erk"])
@pytest.mark.parametrize("scaled", [True, False])
def test_the_budget_is_exact_at_every_step_and_layers_keep_their_counts(allocation, scaled):
    model = small_network()
    method = Hydra(sparsity=0.77, allocation=allocation, scaled_init=scaled)
    total = sum(p.numel() for p in prunable(model).values())
    state, counts = SparseState(total_steps=6, generator=seeded()), set()
    method.setup(model, state)
    for _ in range(6):
        state = run(method, model, 6, state=state, until=1)
        assert state.mask.num_kept() == total - round(0.77 * total)
        counts.add(tuple(int(value.sum()) for value in state.mask.values()))
    assert len(counts) == 1


@pytest.mark.parametrize("method", [Hydra(sparsity=0.8), ScratchTicket(sparsity=0.8)])
def test_a_stage_without_steps_keeps_the_first_mask(method):
    model, state = small_network(), SparseState(generator=seeded())
    method.setup(model, state)
    mask = method.finish(model, state)
    assert density(model, mask) == pytest.approx(0.2, abs=0.002)
    for name, kept in mask.items():
        assert model.get_parameter(name).detach().ne(0).equal(kept)


def test_a_search_stays_inside_the_start_mask():
    model = small_network()
    alive = Mask({"4.weight": torch.rand(5, 96, generator=seeded()) < 0.5})
    alive.apply_(model)
    method = Hydra(sparsity=0.6)
    state = run(method, model, 8, mask=alive)
    assert not bool((state.mask["4.weight"] & ~alive["4.weight"]).any())
    total = sum(p.numel() for p in prunable(model).values())
    assert state.mask.num_kept() == total - round(0.6 * total)


def test_a_start_mask_with_too_few_weights_is_refused_before_the_search():
    model = small_network()
    state = SparseState(Mask({"4.weight": torch.zeros(5, 96)}), total_steps=1)
    with pytest.raises(UserError, match="denser mask"):
        Hydra(sparsity=0.5).setup(model, state)


def test_weights_of_another_stage_may_be_scored():
    """With `start.score` the set-up sees other weights than the search then starts from."""
    model, method = nn.Linear(3, 1, bias=False), Hydra(sparsity=0.6)
    state = SparseState(total_steps=1)
    model.weight.data = tensor([[1.0, 9.0, 2.0]])
    method.setup(model, state)
    model.weight.data = tensor([[7.0, 0.5, 8.0]])
    method.before_forward(model, state)
    assert model.weight.tolist() == [[0.0, 0.5, 0.0]]


@pytest.mark.parametrize("method", [Hydra(sparsity=0.7), ScratchTicket(sparsity=0.7)])
def test_a_state_taken_up_again_goes_on_bit_for_bit(method):
    first, fresh = small_network(), small_network()
    state = run(method, first, 6, until=3)
    again = SparseState(total_steps=6, generator=seeded(1))
    method.setup(fresh, again)
    leaves = method.trainable(fresh, again)
    fresh.load_state_dict(first.state_dict())
    again.load_state_dict(state.state_dict())
    held = method.trainable(fresh, again)
    assert all(leaf is leaves[name] and leaf.requires_grad for name, leaf in held.items())
    run(method, first, 6, state=state, until=3)
    run(method, fresh, 6, state=again, until=3)
    assert again.mask.equal(state.mask)
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, fresh.get_parameter(name))


def test_scratch_weights_have_random_signs_and_one_size_and_never_change():
    model = small_network()
    method, state = ScratchTicket(sparsity=0.5), SparseState(total_steps=9, generator=seeded())
    method.setup(model, state)
    constants = {n: v.clone() for n, v in state.tensors.items() if n.startswith("weight/")}
    run(method, model, 9, state=state)
    assert torch.equal(constants["weight/4.weight"].abs(), torch.full((5, 96), (2 / 96) ** 0.5))
    assert 0.4 < constants["weight/4.weight"].gt(0).float().mean() < 0.6
    for name, mask in state.mask.items():
        assert torch.equal(model.get_parameter(name), constants[f"weight/{name}"] * mask)
    wider = ScratchTicket(sparsity=0.75, scale_fan=True)
    other = SparseState(total_steps=1, generator=seeded())
    wider.setup(model, other)
    torch.testing.assert_close(
        other.tensors["weight/4.weight"], 2 * constants["weight/4.weight"], rtol=1e-6, atol=0
    )


def test_the_gradient_of_a_rate_is_the_sum_over_its_mask():
    scores = tensor([3.0, 1.0, 2.0], requires_grad=True)
    rate = tensor(0.7, requires_grad=True)
    out = straight_through(tensor([True, False, True]), scores, rate)
    assert out.tolist() == [1.0, 0.0, 1.0]
    (out * tensor([5.0, -1.0, 2.0])).sum().backward()
    assert scores.grad is not None and scores.grad.tolist() == [5.0, -1.0, 2.0]
    assert rate.grad is not None and rate.grad.item() == 6.0


@pytest.mark.parametrize("epochs, lengths", [(10, [2, 8]), (2, [1, 1]), (1, [1, 0]), (0, [0, 0])])
def test_hydra_is_dense_search_and_finetune_in_the_same_epochs(epochs, lengths):
    stages = plan("hydra", [0.5, 0.1], Stage(name="dense"), epochs)
    assert [s.name for s in stages] == ["dense", "hydra-search-0.1", "hydra-0.1"]
    assert [s.epochs for s in stages[1:]] == lengths
    assert stages[1].sparsifier == {"name": "hydra"}  # 0.9 is the default
    assert stages[1].start.weights == "dense" and stages[1].start.mask == "none"
    assert stages[2].start.weights == stages[2].start.mask == "hydra-search-0.1"
    assert stages[2].sparsifier == {"name": "fixed"}


def test_a_scratch_ticket_is_one_stage_from_the_initial_weights():
    (stage,) = plan("scratch-ticket", [0.25], Stage(name="dense", epochs=3), 2)
    assert stage.epochs == 5 and stage.start.weights == "init"
    assert stage.sparsifier == {"name": "scratch-ticket", "sparsity": 0.75}


@pytest.mark.parametrize("kind", [Hydra, ScratchTicket])
def test_a_percentage_is_refused_with_the_share(kind):
    with pytest.raises(ValueError, match=r"Did you mean 0\.95"):
        kind(sparsity=95.0)
