"""Was the network handed over in training mode? Batch norm and dropout answer otherwise there."""

from torch import nn

from wiry.core.registry import registry
from wiry.evaluation.subject import Finding, Subject


@registry("check").register("training-mode")
def training_mode(subject: Subject) -> Finding | None:
    """Report layers that answer otherwise in training mode and were in it.

    The evaluation itself puts every layer into evaluation mode, so its numbers hold; what its
    caller measured before may not.
    """
    modules = dict(subject.model.named_modules())
    found = [name for name in subject.training if _differs(modules.get(name))]
    if not found:
        return None
    return Finding(
        "training-mode",
        "warning",
        f"The network was handed over in training mode, in which {len(found)} of its layers "
        f"(such as {found[0]!r}) use the batch's own statistics or draw at random. It was judged "
        "in evaluation mode; call model.eval() before you measure it yourself.",
        {"layers": len(found)},
    )


def _differs(module: nn.Module | None) -> bool:
    """Say whether a layer answers otherwise in training mode."""
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.running_mean is not None
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.MultiheadAttention | nn.RNNBase):
        return module.dropout > 0
    return isinstance(module, nn.RReLU)
