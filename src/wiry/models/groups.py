"""How the models of this room declare their channel groups: by module, in the order of execution.

What a group is and who asks for it is told in `wiry.core.channels`; nothing is traced here.
"""

import itertools
from collections.abc import Iterable

from torch import nn

from wiry.core.channels import ChannelGroup

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def group_of(
    model: nn.Module, name: str, *, writers: Iterable[str], readers: Iterable[str]
) -> ChannelGroup:
    """Return the group of the channels that some modules write and others read.

    The size is the one of the weights as they are now, so it also holds for a model made smaller.

    Args:
        name: what the group is called.
        writers: names of the convolutions, linear layers and norms whose rows are the channels.
        readers: names of the convolutions and linear layers whose columns are the channels; where
            there are more columns than channels (after flattening) each channel has as many.
    """
    layers = {writer: model.get_submodule(writer) for writer in writers}
    outputs = [
        (f"{writer}.{key}", len(tensor))
        for writer, layer in layers.items()
        for key, tensor in (*layer.named_parameters(), *layer.named_buffers())
        if tensor.dim() > 0  # not a norm's count of batches
    ]
    size = outputs[0][1]
    weights = [f"{reader}.weight" for reader in readers]
    inputs = [(weight, model.get_parameter(weight).shape[1] // size) for weight in weights]
    return ChannelGroup(name, size, tuple(output for output, _ in outputs), tuple(inputs))


def chain_groups(model: nn.Module) -> list[ChannelGroup]:
    """Return the groups of a model that runs its layers one by one in the order of their names.

    Every convolution or linear layer but the last writes a group, with the norms up to the next
    one, which reads it. Not for models with shortcuts.
    """
    chain: list[list[str]] = []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            chain.append([name])
        elif isinstance(module, _NORMS):
            chain[-1].append(name)
    return [
        group_of(model, writers[0], writers=writers, readers=readers[:1])
        for writers, readers in itertools.pairwise(chain)
    ]
