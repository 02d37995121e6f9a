"""MAD: its curvature against factors written out by hand, and what counts as the loss's pass."""

import pytest
import torch
from torch import nn, tensor

from wiry.attacks.pgd import PGD
from wiry.core.batch import Batch
from wiry.core.errors import UserError
from wiry.core.mask import Mask, prunable
from wiry.core.recipe import Stage
from wiry.core.registry import registry
from wiry.core.rng import stream
from wiry.core.state import SparseState
from wiry.sparsify.curvature import Recorder, linear_layers, saliency
from wiry.sparsify.mad import Mad
from wiry.sparsify.plan import plan


def network(*, batch_norm=True):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        norm = nn.BatchNorm2d(3) if batch_norm else nn.Identity()
        conv = nn.Conv2d(1, 3, 3, stride=2, padding=1)
        return nn.Sequential(conv, norm, nn.ReLU(), nn.Flatten(), nn.Linear(27, 4)).train()


def batch():
    generator = stream(1, "batch")
    x, y = torch.rand(8, 1, 6, 6, generator=generator), torch.arange(8) % 4
    return Batch(x, y, torch.arange(8))


def pgd(mode):
    return {"name": "pgd", "eps": 0.2, "steps": 3, "mode": mode}


OBJECTIVES = {
    "natural": {"name": "natural"},
    "adversarial": {"name": "adversarial", "attack": pgd("eval")},
    "attack in training mode": {"name": "adversarial", "attack": pgd("train")},
    "attack as is": {"name": "adversarial", "attack": pgd("as-is")},
    "trades": {"name": "trades", "attack": pgd("train") | {"loss": "kl"}},
    "mart": {"name": "mart", "attack": pgd("train")},
    "free": {"name": "free", "eps": 0.2},
    "awp": {"name": "awp", "warmup": 0.0, "objective": {"name": "natural"}},
}


class Watched(nn.Module):
    """A model that keeps every image batch it is shown, with the mode it was in."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.seen = inner, []

    def forward(self, x):
        self.seen.append(x)
        return self.inner(x)


def test_the_saliency_of_a_linear_layer_equals_the_hand_computation():
    """Two images, two inputs, two outputs: A and G written out."""
    layer = nn.Linear(2, 2)
    x, gradient = tensor([[1.0, 2.0], [3.0, 0.0]]), tensor([[0.5, 0.0], [-0.5, 1.0]])
    change = tensor([[1.0, 2.0], [3.0, -1.0]])
    # A = X'X / 2 = [[5, 1], [1, 2]]; each image's own gradient is twice that of the mean loss:
    # G = diag(mean of squares) = (1, 2)
    # row 1: A dw = (7, 5), 1/2 * 1 * dw * A dw; row 2: A dw = (14, 1), 1/2 * 2 * dw * A dw
    expected = tensor([[3.5, 5.0], [42.0, -1.0]])
    assert torch.allclose(saliency(layer, change, [(x, gradient)]), expected)
    halves = [(x[:1], gradient[:1]), (x[1:], gradient[1:])]  # two passes are one with both
    assert torch.allclose(saliency(layer, change, halves), expected)


def by_hand(layer, change, x, gradient):
    """The definition, with A formed and the dense block of each output."""
    num, rows = len(x), change.flatten(1)
    if isinstance(layer, nn.Conv2d):
        x = nn.functional.unfold(x, layer.kernel_size, 1, layer.padding, layer.stride)
        gradient = gradient.flatten(2)
    else:
        x, gradient = x[..., None], gradient[..., None]
    a = torch.einsum("nit,njt->ij", x, x) / num
    g = torch.einsum("nit,njt->ij", gradient * num, gradient * num) / (num * x.shape[2])
    parts = torch.stack([0.5 * g[i, i] * w * (a @ w) for i, w in enumerate(rows)])
    for i, w in enumerate(rows):  # the parts sum to the quadratic form of the block
        block = torch.kron(g[i : i + 1, i : i + 1], a)
        assert torch.allclose(parts[i].sum(), 0.5 * w @ block @ w, rtol=1e-4)
    return parts.view_as(change)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_only_the_passes_of_the_loss_count(name):
    """What is recorded is what the layer read and got back where the weights' gradient is made."""
    watched = Watched(network()).train()
    model = watched.inner
    objective = registry("objective").build(OBJECTIVES[name])
    recorder = Recorder(linear_layers(model))
    images = batch()
    loss = objective(watched, watched, images, stream(0, "attack"))
    loss.total.backward()
    recorder.stop()
    num_passes = {"trades": 2, "mart": 2}.get(name, 1)
    assert len(watched.seen) >= num_passes
    for key, layer in linear_layers(model).items():
        taken = recorder.taken(key)
        assert len(taken) == num_passes, name
        # the recorded pairs make exactly the weight's gradient, so none is missing or too much
        gradient = torch.zeros_like(layer.weight)
        for x, outgoing in taken:
            weight = layer.weight.detach().clone().requires_grad_()
            if isinstance(layer, nn.Conv2d):
                answer = nn.functional.conv2d(x, weight, None, layer.stride, layer.padding)
            else:
                answer = nn.functional.linear(x, weight)
            gradient += torch.autograd.grad(answer, weight, outgoing)[0]
        assert torch.allclose(gradient, layer.weight.grad, atol=1e-6), name


def test_a_pass_before_the_attack_counts_and_those_of_the_attack_do_not():
    model, images = network(), batch()
    recorder = Recorder(linear_layers(model))
    clean = model(images.x)
    found = PGD(eps=0.2, steps=3, mode="train")(model, images.x, images.y, stream(0))
    moved = model(found)
    (clean.square().mean() + moved.square().mean()).backward()
    recorder.stop()
    (first, _), (second, _) = recorder.taken("0.weight")
    assert torch.equal(first, images.x) and torch.equal(second, found)


def test_nothing_stays_on_the_model_when_recording_has_stopped():
    model = network()
    recorder = Recorder(linear_layers(model))
    model(batch().x).sum().backward()
    recorder.stop()
    before = [len(recorder.taken(name)) for name in linear_layers(model)]
    assert before == [1, 1]
    model(batch().x).sum().backward()
    assert [len(recorder.taken(name)) for name in linear_layers(model)] == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
    assert not any(p._backward_hooks for p in model.parameters())


def one_step(method, model, state, objective, images, optimizer=None):
    method.before_forward(model, state)
    loss = objective(model, model, images, stream(0, "attack", state.step))
    for parameter in model.parameters():
        parameter.grad = None
    loss.total.backward()
    method.after_backward(model, state)
    if optimizer is not None:
        optimizer.step()
        optimizer.zero_grad()
    method.after_step(model, state)
    state.step += 1


def test_a_step_adds_the_saliency_of_the_adversarial_batch():
    """The factors of the method equal those of a plain pass over the images the attack found."""
    model, state = network(), SparseState(total_steps=10)
    method, images = Mad(sparsity=0.5, num_rounds=1), batch()
    method.setup(model, state)
    generator = stream(7, "soft")
    for name in prunable(model):
        soft = state.tensors[f"soft/{name}"]
        soft.data -= torch.rand(soft.shape, generator=generator)
    weights = {n: p.detach().clone() for n, p in prunable(model).items()}
    objective = registry("objective").build(OBJECTIVES["attack in training mode"])
    one_step(method, model, state, objective, images)

    found = PGD(eps=0.2, steps=3, mode="train")(model, images.x, images.y, stream(0, "attack", 0))
    layers = linear_layers(model)
    values = {}
    x = found
    for module in model:  # layer by layer, keeping what each one reads and gives out
        given, x = x, module(x)
        if module in layers.values():
            x.retain_grad()
            values[module] = (given.detach(), x)
    nn.functional.cross_entropy(x, images.y).backward()
    for name, layer in layers.items():
        change = weights[name] - layer.weight.detach()
        assert change.abs().sum() > 0
        given, answer = values[layer]
        expected = by_hand(layer, change, given, answer.grad)
        assert torch.allclose(state.tensors[f"saliency/{name}"], expected, rtol=1e-3, atol=1e-9)


def test_soft_masks_train_in_their_bounds_and_open_at_the_end_of_a_round():
    model, state = network(), SparseState(total_steps=6)
    method, objective = Mad(sparsity=0.5, num_rounds=2), registry("objective").build("natural")
    method.setup(model, state)
    optimizer = torch.optim.Adam(method.trainable(model, state).values(), lr=4.0)
    norm = model[1].weight.detach().clone()
    shares = []
    for _ in range(6):
        one_step(method, model, state, objective, batch(), optimizer)
        soft = nn.functional.softplus(state.tensors["soft/0.weight"].detach())
        assert soft.min() >= 0.9e-4 and soft.max() <= 1 + 1e-6
        shares.append(float(soft.min()))
    assert shares[0] < 0.5 and shares[2] == shares[5] == pytest.approx(1.0)
    assert torch.equal(model[1].weight, norm)


def test_a_round_is_never_so_short_that_only_open_masks_are_scored():
    model, state = network(), SparseState(total_steps=3)
    method = Mad(sparsity=0.5, num_rounds=1000)
    method.setup(model, state)
    optimizer = torch.optim.Adam(method.trainable(model, state).values(), lr=0.5)
    for _ in range(3):
        one_step(method, model, state, registry("objective").build("natural"), batch(), optimizer)
    assert state.tensors["saliency/0.weight"].any() and state.tensors["saliency/4.weight"].any()


def test_the_network_keeps_its_weights_where_they_are_not_pruned():
    model, state = network(), SparseState(total_steps=3)
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    method = Mad(sparsity=0.6)
    method.setup(model, state)
    optimizer = torch.optim.Adam(method.trainable(model, state).values(), lr=0.5)
    for _ in range(3):
        objective = registry("objective").build("natural")
        one_step(method, model, state, objective, batch(), optimizer)
    mask = method.finish(model, state)
    total = sum(value.numel() for value in mask.values())
    assert mask.num_kept() == total - round(0.6 * total)
    for name, parameter in model.named_parameters():
        kept = mask.get(name, torch.ones_like(start[name]))
        assert torch.equal(parameter, start[name] * kept), name
    assert mask["4.weight"].sum(1).tolist() == [27 - int(0.6 * 27)] * 4  # row by row


def test_without_steps_it_is_magnitude_pruning_in_all_but_the_classifier():
    model, state = network(), SparseState()
    method = Mad(sparsity=0.5)
    method.setup(model, state)
    mask = method.finish(model, state)
    weight = model[0].weight.detach().abs()
    kept = int(mask["0.weight"].sum())
    assert 0 < kept < 27
    assert weight[mask["0.weight"]].min() >= 0  # zeroed where pruned, so compare with a fresh one
    fresh = network()[0].weight.detach().abs().flatten()
    assert torch.equal(
        mask["0.weight"].flatten().nonzero().flatten(), fresh.topk(kept)[1].sort()[0]
    )


def test_a_start_mask_is_not_revived_and_too_thin_a_one_is_refused():
    model = network()
    alive = Mask({"4.weight": torch.arange(108).view(4, 27) % 2 == 0})
    state = SparseState(mask=alive)
    method = Mad(sparsity=0.5)
    method.setup(model, state)
    mask = method.finish(model, state)
    assert not bool((mask["4.weight"] & ~alive["4.weight"]).any())
    assert mask.num_kept() == 135 - round(0.5 * 135)
    with pytest.raises(UserError, match="start mask leaves"):
        Mad(sparsity=0.1).setup(model, SparseState(mask=alive))


def test_the_classifier_keeps_more_where_the_start_mask_left_little_elsewhere():
    model = network()
    alive = Mask({"0.weight": torch.arange(27).view(3, 1, 3, 3) < 5})
    state = SparseState(mask=alive)
    method = Mad(sparsity=0.5)
    method.setup(model, state)
    mask = method.finish(model, state)
    assert torch.equal(mask["0.weight"], alive["0.weight"])
    assert mask.num_kept() == 135 - round(0.5 * 135)


def test_a_layer_of_unknown_curvature_is_named():
    model = nn.Sequential(nn.Embedding(3, 4), nn.Linear(4, 2))
    with pytest.raises(UserError, match=r"0\.weight"):
        Mad().setup(model, SparseState())


def test_the_method_searches_with_adam_and_takes_the_same_epochs_as_any_other():
    dense = Stage(name="dense", epochs=7, optimizer={"name": "sgd"})
    for epochs in (0, 1, 10):
        first, search, finetune = plan("mad", [0.5, 0.1], dense, epochs)
        assert first == dense and search.epochs + finetune.epochs == epochs
        assert search.optimizer == {"name": "adam", "lr": 0.1}
        assert finetune.optimizer == {"name": "sgd"} and finetune.name == "mad-0.1"
        assert finetune.start.weights == finetune.start.mask == search.name
