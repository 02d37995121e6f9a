"""A private copy of a network that answers faster: the same function, arranged for attacks.

In eval mode a batch norm is one multiplication and one addition a channel; both go into the weights
before it. Rectifiers write over what they read where nothing else reads it, and on a CPU channels
come last; where few weights are not zero, the copy is the sparse engine instead. What is done
depends on the network's structure alone, never on timings. Attacks search on the copy; the network
itself has the last word on what they find.
"""

import copy
import operator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from wiry.engine.inner import sparse_network

_LAYERS = (nn.Conv2d, nn.Linear)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_SUMS = (operator.add, torch.add)
_RECTIFIERS = (F.relu, torch.relu)


def folded(model: nn.Module, probe: Float[Tensor, "n c h w"]) -> tuple[nn.Module, int]:
    """Return a frozen copy of a network in eval mode, and how many batch norms were folded in it.

    A network that cannot be traced (its path depends on its values) is copied as it is, one that
    cannot be copied is returned itself. So is one whose folded copy has other logits or gradients
    on the probe than rounding explains: tracing would freeze noise that the network draws itself,
    and lose gradients of its own making (straight-through rounding, a block under no_grad).

    Args:
        probe: a few images.
    """
    try:
        private = copy.deepcopy(model).eval().requires_grad_(False)
    except Exception:  # a network that cannot be copied is asked itself
        return model, 0
    probe = probe.to(next(iter(private.parameters()), probe).device)
    chosen, num_folded = _fastest(model, private, probe)
    with torch.no_grad():
        same = model(probe).dtype == probe.dtype
    return (chosen if same else _SameType(chosen)), num_folded


def _fastest(model: nn.Module, private: nn.Module, probe: Tensor) -> tuple[nn.Module, int]:
    """Return the copy that does the most at once and still answers as the network does."""
    sparse = sparse_network(model, probe.shape[1:])
    if sparse is not None and _agree(model, sparse, probe):
        return sparse, sparse.num_norms
    for traced, num_folded in (*_simplified(private), (private, 0)):
        last = channels_last(traced)
        if last is not None and _agree(model, last, probe):
            return last, num_folded
        if traced is private or _agree(model, traced, probe):
            return traced, num_folded
    raise AssertionError("the copy itself is the last candidate")


class _SameType(nn.Module):
    """Answers in the type of the images, in which attacks reckon."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits."""
        logits: Tensor = self.network(x)
        return logits.to(x.dtype)


def arranged(model: nn.Module, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return images in the order of memory that a network's weights have."""
    last = any(_is_last(p) for p in model.parameters())
    return x.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def channels_last(model: nn.Module) -> nn.Module | None:
    """Return a copy with channels last, None where that is of no use.

    On a CPU, convolutions in float32 take a third less time so; elsewhere it depends on the card.
    """
    weights = [m.weight for m in model.modules() if isinstance(m, nn.Conv2d)]
    if not any(w.device.type == "cpu" and w.dtype == torch.float32 for w in weights):
        return None
    return copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _is_last(weight: Tensor) -> bool:
    if weight.dim() != 4 or weight.is_contiguous():
        return False
    return weight.is_contiguous(memory_format=torch.channels_last)


def _agree(model: nn.Module, copy_of_it: nn.Module, probe: Tensor) -> bool:
    """Say whether logits and their gradients on the input are the same, but for rounding."""
    wanted = _answer(model, probe)
    try:
        found = _answer(copy_of_it, arranged(copy_of_it, probe))
    except RuntimeError:  # a view that takes channels first for granted
        return False
    (logits, gradient), (wanted_logits, wanted_gradient) = found, wanted
    if not (logits - wanted_logits).abs().max() <= 1e-3 * wanted_logits.abs().max():  # or nan
        return False
    if gradient is None or wanted_gradient is None:
        return gradient is wanted_gradient
    # in length: rounding may switch a unit that is near its kink, and with it a few entries
    return bool((gradient - wanted_gradient).norm() <= 1e-2 * wanted_gradient.norm())


@torch.enable_grad()
def _answer(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the logits and the gradient of their weighted sum; None where there is no gradient."""
    x = x.detach().clone().requires_grad_()
    logits = model(x)
    if not logits.requires_grad:
        return logits, None
    weights = torch.linspace(1, 2, logits.shape[1], device=logits.device, dtype=logits.dtype)
    (gradient,) = torch.autograd.grad((logits * weights).sum(), x, allow_unused=True)
    return logits.detach(), gradient


def _simplified(private: nn.Module) -> list[tuple[nn.Module, int]]:
    """Return the traced copy with its batch norms folded, if there is anything to gain."""
    try:
        traced = fx.symbolic_trace(private)
    except Exception:  # whatever a model's own code raises when it is traced
        return []
    num_folded = sum(_fold(traced, node) for node in list(traced.graph.nodes))
    if num_folded + _overwrite(traced) == 0:
        return []
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()
    return [(traced.eval(), num_folded)]


def _fold(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Fold one batch norm into the layer before it, if that layer feeds nothing else."""
    norm = _module(traced, node)
    if not isinstance(norm, _NORMS) or norm.running_mean is None:
        return False
    before = node.args[0]
    layer = _module(traced, before) if isinstance(before, fx.Node) else None
    if not isinstance(before, fx.Node) or not isinstance(layer, _LAYERS) or len(before.users) != 1:
        return False
    if len(_uses(traced, before)) != 1:
        return False
    if isinstance(layer, nn.Conv2d):
        fused: nn.Module = fuse_conv_bn_eval(layer, norm)
    else:
        fused = fuse_linear_bn_eval(layer, norm)
    parent, _, name = str(before.target).rpartition(".")
    setattr(traced.get_submodule(parent), name, fused.requires_grad_(False))
    node.replace_all_uses_with(before)
    traced.graph.erase_node(node)
    return True


def _overwrite(traced: fx.GraphModule) -> int:
    """Let rectifiers write over their input where only they read it; return how many now do."""
    nodes = [node for node in traced.graph.nodes if _is_rectifier(traced, node)]
    num_done = 0
    for node in nodes:
        module = _module(traced, node)
        if not all(_is_disposable(traced, use.args[0]) for use in _uses(traced, node)):
            continue
        if isinstance(module, nn.ReLU):
            module.inplace = True
        else:
            node.target, node.kwargs = F.relu, {"inplace": True}
        num_done += 1
    return num_done


def _is_rectifier(traced: fx.GraphModule, node: fx.Node) -> bool:
    if node.op == "call_function":
        return node.target in _RECTIFIERS and len(node.args) == 1
    return type(_module(traced, node)) is nn.ReLU and len(node.args) == 1


def _is_disposable(traced: fx.GraphModule, value: object) -> bool:
    """Say whether a value is new memory that one node reads and no gradient needs."""
    if not isinstance(value, fx.Node) or len(value.users) != 1:
        return False
    if value.op == "call_function":
        return value.target in _SUMS
    return type(_module(traced, value)) in (*_LAYERS, *_NORMS)


def _uses(traced: fx.GraphModule, node: fx.Node) -> list[fx.Node]:
    """Return the nodes that call the module which a node calls; the node itself for a function."""
    if node.op != "call_module":
        return [node]
    return [n for n in traced.graph.nodes if n.op == "call_module" and n.target == node.target]


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    if node.op != "call_module":
        return None
    module: nn.Module = traced.get_submodule(str(node.target))
    return module
