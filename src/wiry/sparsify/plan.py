"""From a method's name and a path of densities to its stage list, printable before it runs.

A method is a registered function `(path, dense, epochs) -> stages`; any sparsifier with a field
`sparsity` is a method by itself: dense training, then one stage with it.
"""

from wiry.core.errors import UserError, closest
from wiry.core.recipe import Stage, Start
from wiry.core.registry import registry


def method_names() -> list[str]:
    """Return every method that `plan` knows.

    Registered ones and sparsifiers with a field `sparsity`.
    """
    sparsifiers = registry("sparsifier")
    plain = [
        n
        for n in sparsifiers.names()
        if "sparsity" in sparsifiers.signature(n) and n != "magnitude"
    ]
    return sorted({*registry("method").names(), *plain})


def plan(method: str, path: list[float], dense: Stage, epochs: int) -> list[Stage]:
    """Return the stages that bring the dense network down a path of densities.

    Args:
        path: densities from large to small, the last one is the target; iterative methods use all.
        dense: the dense training; sparse stages take objective, optimizer and batch size from it.
        epochs: length of every stage after the dense one.

    Raises:
        UserError: for an unknown method.
    """
    if method in registry("method").names():
        return registry("method").build(method, path=path, dense=dense, epochs=epochs)
    if method not in method_names():
        raise UserError(
            f"no method {method!r}{closest(method, method_names())}. See `wiry list methods`."
        )
    sparsifier = {"name": method, "sparsity": sparsity_of(path[-1])}
    return [dense, stage_after(method, path[-1], dense, epochs, sparsifier)]


def stage_after(method: str, density: float, dense: Stage, epochs: int, sparsifier: dict) -> Stage:
    """Return a stage that starts from the trained dense weights with the given sparsifier."""
    return dense.model_copy(
        update={
            "name": f"{method}-{density_name(density)}",
            "epochs": epochs,
            "start": Start(weights=dense.name),
            "sparsifier": registry("sparsifier").normalize(sparsifier),
        }
    )


def sparsity_of(density: float) -> float:
    """Return 1 - density without the last bits of the subtraction: 0.8232 for 0.1768."""
    return round(1 - density, 12)


def density_name(density: float) -> str:
    """Write a density for a stage's name: 0.125 -> `0.125`, four significant digits."""
    return f"{density:.4g}"
