"""Which modules of a network make its activations: what can be counted and penalised there."""

from torch import nn

from wiry.core.errors import UserError


def activation_modules(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules whose outputs are activations, by name.

    They are `nn.ReLU` and modules with a class attribute `is_activation = True`. A `torch.relu`
    that is called in a `forward` cannot be seen.

    Raises:
        UserError: if there is none.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ReLU) or getattr(module, "is_activation", False)
    }
    if not found:
        raise UserError(
            "the model has no activation module: nn.ReLU, or one with `is_activation = True`; "
            "a torch.relu in its forward cannot be seen, so make it a module"
        )
    return found
