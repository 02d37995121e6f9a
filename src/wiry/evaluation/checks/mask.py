"""Is the mask in force? Weights that it prunes must be zero in the network that is judged."""

from wiry.core.errors import UserError
from wiry.core.registry import registry
from wiry.evaluation.subject import Finding, Subject


@registry("check").register("mask")
def mask(subject: Subject) -> Finding | None:
    """Report a mask that is not the network's, and weights that are there against the mask."""
    if subject.mask is None:
        return None
    parameters = dict(subject.model.named_parameters())
    try:
        subject.mask.check(parameters)
    except UserError as error:
        return Finding(
            "mask",
            "error",
            f"The mask does not fit the network: {error}. What is said of its sparsity is wrong.",
            {"fits": False},
        )
    alive = {
        name: int(parameters[name].detach()[~kept.to(parameters[name].device)].count_nonzero())
        for name, kept in subject.mask.items()
    }
    names, num_alive = [name for name, num in alive.items() if num], sum(alive.values())
    if not names:
        return None
    num_pruned = subject.mask.num_entries() - subject.mask.num_kept()
    return Finding(
        "mask",
        "error",
        f"{num_alive} of the {num_pruned} weights that the mask prunes are not zero "
        f"({len(names)} tensors, such as {names[0]!r}): the network that was judged is denser than "
        "its mask says. Apply the mask (mask.apply_(model)) and judge again.",
        {"fits": True, "not_zero": num_alive, "pruned": num_pruned, "tensors": names},
    )
