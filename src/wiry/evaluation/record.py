"""One evaluation as a pair of files: judged, costed, written once and read back after that."""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.core.errors import UserError
from wiry.core.mask import Mask
from wiry.core.registry import registry
from wiry.evaluation.batching import BatchSize
from wiry.evaluation.cost import cost
from wiry.evaluation.examination import evaluate
from wiry.evaluation.files import check_table, read_record
from wiry.evaluation.fingerprint import fingerprint, images_fingerprint
from wiry.evaluation.progress import Progress
from wiry.evaluation.table import describe


def run_evaluation(
    model: nn.Module,
    mask: Mask,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    attacks: Sequence[Any],
    *,
    split: str,
    class_names: Sequence[str],
    input_shape: tuple[int, ...],
    seed: int,
    folder: Path,
    name: str,
    cascade: bool = False,
    screened: bool = False,
    measures: Sequence[Any] = (),
    batch_size: BatchSize = "auto",
    skip_certified: bool = False,
    claim: float | None = None,
    check: bool = True,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Evaluate a model, count its cost and write `<name>.json` and `<name>.npz`, once.

    If both files are there, whole, and answer the same question (split, number of images, seed,
    attacks, measures and the very weights and images), their record is returned and nothing is
    computed. Otherwise they are made and replaced. What an interrupted call had found is taken up.

    Args:
        attacks: attacks or their specs.
        name: name of the files without ending.
        cascade: run each attack only on what the earlier ones left.
        screened: the attacks are AutoAttack's, to be screened.

    Returns:
        The record as it is on disk.

    Raises:
        UserError: for attacks or images that cannot be used, or a mask that does not fit.
        AssertionError: if an attack leaves its ball.
    """
    attacks = [registry("attack").build(attack) for attack in attacks]
    question = {
        "split": split,
        "num_samples": len(x),
        "seed": seed,
        "cascade": cascade or screened,
        "specs": [describe(attack)["spec"] for attack in attacks],
        "weights_sha256": fingerprint(model),
        "images_sha256": images_fingerprint(x, y),
        "asked": {
            "measures": [registry("measure").normalize(measure) for measure in measures],
            "screened": screened,
            "skip_certified": skip_certified,
            "claim": claim,
            "check": check,
        },
    }
    if (found := _finished(folder, name, question)) is not None:
        return found
    counted = cost(model, mask, input_shape=input_shape)
    state = folder / f"{name}.partial"
    begin = time.perf_counter()
    evaluation = evaluate(
        model,
        x,
        y,
        attacks,
        eps=None,
        screened=screened,
        measures=measures,
        mask=mask,
        class_names=class_names,
        seed=seed,
        cascade=cascade,
        batch_size=batch_size,
        skip_certified=skip_certified,
        claim=claim,
        check=check,
        progress=progress,
        state=state,
    )
    more = {
        "split": split,
        "seconds": time.perf_counter() - begin,
        "cost": counted,
        **{key: question[key] for key in ("weights_sha256", "images_sha256", "asked")},
    }
    record = evaluation.save(folder, name, **more)
    shutil.rmtree(state, ignore_errors=True)
    return record


def _finished(folder: Path, name: str, question: dict[str, Any]) -> dict[str, Any] | None:
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    try:
        record = read_record(path)
        check_table(path.with_suffix(".npz"), record)
        answered = {key: record[key] for key in question if key != "specs"}
        answered["specs"] = [row["spec"] for row in record["attacks"]]
    except (UserError, KeyError, TypeError):
        return None  # damaged or of another version: made again
    return record if answered == question else None
