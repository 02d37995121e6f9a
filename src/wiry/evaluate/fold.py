"""A private copy of a network that answers faster: batch normalisation folded into convolutions.

In eval mode a batch norm is one multiplication and one addition a channel; both go into the weights
before it. Attacks search on the copy, the network itself has the last word on what they find.
"""

import copy

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

_LAYERS = (nn.Conv2d, nn.Linear)


def folded(model: nn.Module, probe: Float[Tensor, "n c h w"]) -> tuple[nn.Module, int]:
    """Return a frozen copy of a network in eval mode, and how many batch norms were folded in it.

    A network that cannot be traced (its path depends on its values) is copied as it is, one that
    cannot be copied is returned itself. So is one whose folded copy says something else about the
    probe than rounding explains: tracing would freeze noise that the network draws itself.

    Args:
        probe: a few images.
    """
    try:
        private = copy.deepcopy(model).eval().requires_grad_(False)
    except Exception:  # a network that cannot be copied is asked itself
        return model, 0
    if not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in private.modules()):
        return private, 0
    try:
        traced = fx.symbolic_trace(private)
    except Exception:  # whatever a model's own code raises when it is traced
        return private, 0
    num_folded = sum(_fold(traced, node) for node in list(traced.graph.nodes))
    traced.delete_all_unused_submodules()
    traced.graph.lint()
    traced.recompile()
    same = _agree(model, traced.eval(), probe.to(next(private.parameters()).device))
    return (traced, num_folded) if same else (private, 0)


@torch.no_grad()
def _agree(model: nn.Module, copy_of_it: nn.Module, probe: Tensor) -> bool:
    wanted, found = model(probe), copy_of_it(probe)
    return bool((found - wanted).abs().max() <= 1e-3 * wanted.abs().max())  # false for nan


def _fold(traced: fx.GraphModule, node: fx.Node) -> bool:
    """Fold one batch norm into the layer before it, if that layer feeds nothing else."""
    norm = _module(traced, node)
    if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or norm.running_mean is None:
        return False
    before = node.args[0]
    layer = _module(traced, before) if isinstance(before, fx.Node) else None
    if not isinstance(before, fx.Node) or not isinstance(layer, _LAYERS) or len(before.users) != 1:
        return False
    used = [n for n in traced.graph.nodes if n.op == "call_module" and n.target == before.target]
    if len(used) != 1:
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


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    if node.op != "call_module":
        return None
    module: nn.Module = traced.get_submodule(str(node.target))
    return module
