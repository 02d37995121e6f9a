"""A private copy of a network that answers faster: batch normalisation folded into convolutions.

In eval mode a batch norm is one multiplication and one addition a channel; both go into the weights
before it. Attacks search on the copy, the network itself has the last word on what they find.
"""

import copy

from torch import fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

_LAYERS = (nn.Conv2d, nn.Linear)


def folded(model: nn.Module) -> tuple[nn.Module, int]:
    """Return a frozen copy of a network in eval mode, and how many batch norms were folded in it.

    A network that cannot be traced (its path depends on its values) is copied as it is, one that
    cannot be copied is returned itself.

    Differs from the network by rounding only.
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
    return traced.eval(), num_folded


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
