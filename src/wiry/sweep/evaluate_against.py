"""`wiry evaluate --against`: two networks on the same images, verdict by verdict."""

from pathlib import Path
from typing import Any

from wiry.core.files import write_json
from wiry.core.registry import registry
from wiry.evaluation.batching import CPU_BATCH
from wiry.evaluation.flips import clean_margins, compare_verdicts
from wiry.evaluation.table import Table
from wiry.evaluation.transfer import transfer
from wiry.sweep.evaluate_images import Images
from wiry.sweep.evaluate_network import Network
from wiry.sweep.evaluate_task import EvaluateOptions, Task

Judged = tuple[Network, dict[str, Any], Path]
"""A network, its record and where that is."""


def compare_two(
    first: Judged, second: Judged, images: Images, options: EvaluateOptions, task: Task, seed: int
) -> dict[str, Any]:
    """Compare two evaluations of the same images and write `flips.json` and `transfer.json`.

    The network with more weights is called the dense one; with as many, it is the second. What one
    attack finds on either is put to both: the first attack of the list.

    Returns:
        Plain data: the names, `flips` and `transfer`.

    Raises:
        UserError: if the evaluations are of other images or other attacks.
    """
    is_denser = first[1]["cost"]["nonzeros"] > second[1]["cost"]["nonzeros"]
    dense, sparse = (first, second) if is_denser else (second, first)
    names = _names(dense[0], sparse[0])
    size = CPU_BATCH if options.batch_size == "auto" else options.batch_size
    model, (x, y) = dense[0].model, (images.x, images.y)
    flips = compare_verdicts(
        Table.load(dense[2].parent, dense[2].stem),
        Table.load(sparse[2].parent, sparse[2].stem),
        clean_margins(model, x, y, batch_size=size),
        class_names=first[1]["class_names"],
    ).to_data()
    matrix = transfer(
        {name: pair[0].model for name, pair in zip(names, (dense, sparse), strict=True)},
        x,
        y,
        [registry("attack").build(task.attacks[0])],
        seed=seed,
        batch_size=size,
    ).to_data()
    found = {"dense": names[0], "sparse": names[1], "flips": flips, "transfer": matrix}
    folder = first[2].parent
    write_json(folder / "flips.json", {"dense": names[0], "sparse": names[1], **flips})
    write_json(folder / "transfer.json", matrix)
    return found


def _names(dense: Network, sparse: Network) -> tuple[str, str]:
    if dense.name != sparse.name:
        return dense.name, sparse.name
    return f"{dense.name} (dense)", f"{sparse.name} (sparse)"
