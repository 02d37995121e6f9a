"""Boosting tickets: find the ticket with a cheap attack and a small learning rate, then train it.

Only a list of stages: the pruning is that of `magnitude`.
"""

import dataclasses
from typing import Any

from wiry.core.recipe import Stage, Start
from wiry.core.registry import registry
from wiry.sparsify.plan import density_name, sparsity_of
from wiry.sparsify.ticket_epochs import split_epochs


@registry("method").register("boosting-ticket")
def boosting_ticket(
    path: list[float],
    dense: Stage,
    epochs: int,
    *,
    search_share: float = 0.5,
    lr_ratio: float = 0.1,
) -> list[Stage]:
    """Find a ticket by one-step adversarial training at a small rate, then train it robustly.

    The search trains densely on FGSM examples from a random start, in the threat model of the dense
    stage's objective; all weights are ranked by size once, the largest are rewound to the initial
    ones and trained with the dense stage's own objective. An objective without a threat model is
    used for the search as it is.

    Source: Li et al. 2020. Differs: both stages together take the epochs of the dense stage and
    `epochs` more, half each (published: 100 epochs of search, 20 to 100 of training). The search
    keeps the dense stage's optimizer at a tenth of its rate (published: 0.01 and 0.1). Published:
    CIFAR-10, VGG-16, 80 %: clean 78.07, PGD-10 44.53 (logs of Li et al.); ResNet-18, 90 / 95 / 99
    %: clean 77.39 / 73.54 / 59.42, AutoAttack 41.31 / 39.29 / 31.37 (Piras et al. 2024).

    Args:
        search_share: share of all epochs that the search takes, in (0, 1).
        lr_ratio: learning rate of the search, as a share of that of the training.

    Raises:
        ValueError: if `search_share` is outside (0, 1) or `lr_ratio` is not positive.
    """
    if lr_ratio <= 0:
        raise ValueError(f"lr_ratio must be above 0, got {lr_ratio:g}")
    search_epochs, train_epochs = split_epochs(dense.epochs + epochs, search_share)
    density = density_name(path[-1])
    optimizers = registry("optimizer")
    rate = optimizers.build(dense.optimizer).lr * lr_ratio  # every optimizer of the house has one
    changes: dict[str, Any] = {
        "name": f"boosting-ticket-search-{density}",
        "epochs": search_epochs,
        "optimizer": optimizers.normalize({**dense.optimizer, "lr": rate}),
        "average": None,
    }
    threat = threat_of(registry("objective").build(dense.objective))
    if threat is not None:
        attack = {"name": "fgsm", "random_start": True, **threat}
        objective = {"name": "adversarial", "attack": attack}
        changes |= {"objective": registry("objective").normalize(objective), "teacher": ""}
    search = dense.model_copy(update=changes)
    start = Start(weights=f"{search.name}@0it", score=search.name)
    sparsifier = {"name": "magnitude", "sparsity": sparsity_of(path[-1])}
    retrain = dense.model_copy(
        update={
            "name": f"boosting-ticket-{density}",
            "epochs": train_epochs,
            "start": start,
            "sparsifier": registry("sparsifier").normalize(sparsifier),
        }
    )
    return [search, retrain]


def threat_of(component: Any) -> dict[str, Any] | None:
    """Return eps and norm of the first attack found in an objective's fields, None without one."""
    if isinstance(eps := getattr(component, "eps", None), float | int) and eps > 0:
        return {"eps": eps, "norm": getattr(component, "norm", "linf")}
    if not dataclasses.is_dataclass(component):
        return None
    values = (getattr(component, field.name) for field in dataclasses.fields(component))
    return next((found for value in values if (found := threat_of(value)) is not None), None)
