"""The per-sample table: what a model answered on each image, clean and under each attack.

Every accuracy and interval in the house derives from such a table. How an image is attacked and
checked is `judge`; how shares are taken is `summary`; where the files of a run go is `record`.
"""

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.presets import protocol_of
from wiry.core.errors import UserError
from wiry.core.files import checksum, write_atomic, write_json
from wiry.core.registry import registry
from wiry.evaluate.examples import EXAMPLE_KEYS, ExampleCollector
from wiry.evaluate.files import check_table, read_arrays, read_record
from wiry.evaluate.fold import folded
from wiry.evaluate.job import CHUNK, Job, Progress
from wiry.evaluate.judge import frozen, predict
from wiry.evaluate.summary import summarize

_COLUMNS = ("index", "label", "prediction", "clean_correct")


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """One row an image.

    Attributes:
        index: place of the image in the split.
        label: true class.
        prediction: class of the clean image, -1 where the logits were not finite.
        clean_correct: whether `prediction` is the label.
        by_attack: repr of the attack -> still correct under it. An image that is wrong when clean
            is wrong under every attack. With `cascade`, also wrong if an earlier attack fooled it.
        attacks: spec (plain data), eps and norm of each attack, in the order of `by_attack`.
        seed: seed of the attacks' random streams.
        cascade: whether later attacks skipped what earlier ones had fooled.
        examples: up to 16 fooled images, see `ExampleCollector.arrays`.
        protocol: what the attacks together are called, such as `AutoAttack (standard)`, if they
            have a name.
    """

    index: np.ndarray
    label: np.ndarray
    prediction: np.ndarray
    clean_correct: np.ndarray
    by_attack: dict[str, np.ndarray]
    attacks: tuple[dict[str, Any], ...]
    seed: int
    cascade: bool
    examples: dict[str, np.ndarray]
    protocol: str | None = None

    @property
    def robust(self) -> np.ndarray:
        """Correct when clean and under every attack (the worst case)."""
        return np.logical_and.reduce([self.clean_correct, *self.by_attack.values()])

    def summary(
        self, *, split: str, class_names: Sequence[str], seconds: float | None = None
    ) -> dict[str, Any]:
        """Return the shares, intervals and attacks as plain data, ready for JSON.

        With attacks of one norm, `eps` is the largest; with several norms it is null and the norms
        are joined by `+`. The robust numbers are null if no attack was run.
        """
        return summarize(self, split=split, class_names=class_names, seconds=seconds)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays under their names in the .npz; `robust` only if there was an attack."""
        columns = {key: getattr(self, key) for key in _COLUMNS}
        for position, robust in enumerate(self.by_attack.values()):
            columns[f"robust_{position}"] = robust
        if self.by_attack:
            columns["robust"] = self.robust
        return columns | {f"example_{key}": value for key, value in self.examples.items()}

    def save(self, folder: Path, name: str, summary: dict[str, Any]) -> dict[str, Any]:
        """Write `<name>.npz`, then `<name>.json`: where the JSON is, both are whole.

        Returns:
            The summary as written, with the checksum of the .npz added.
        """
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self.arrays())  # type: ignore[arg-type] # names are columns
        path = folder / f"{name}.npz"
        write_atomic(path, buffer.getvalue())
        summary = {**summary, "table_sha256": checksum(path)}
        write_json(folder / f"{name}.json", summary)
        return summary

    @classmethod
    def load(cls, folder: Path, name: str) -> "Table":
        """Read what `save` wrote; nothing is unpickled.

        Raises:
            UserError: naming the file that is missing, damaged or of another evaluation.
        """
        path = folder / f"{name}.npz"
        record = read_record(folder / f"{name}.json")
        check_table(path, record)
        arrays = read_arrays(path)
        try:
            rows = record["attacks"]
            return cls(
                **{key: arrays[key] for key in _COLUMNS},
                by_attack={r["attack"]: arrays[f"robust_{i}"] for i, r in enumerate(rows)},
                attacks=tuple({key: r[key] for key in ("spec", "eps", "norm")} for r in rows),
                seed=record["seed"],
                cascade=record["cascade"],
                protocol=record.get("protocol"),
                examples={key: arrays[f"example_{key}"] for key in EXAMPLE_KEYS},
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} and its .json do not fit together: {error}") from error


def evaluate(
    model: nn.Module,
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    attacks: Sequence[Any],
    *,
    seed: int = 0,
    cascade: bool = False,
    batch_size: int = CHUNK,
    progress: Progress | None = None,
    found: Float[Tensor, "n c h w"] | None = None,
) -> Table:
    """Ask a model about images, clean and under attacks, and return one row an image.

    Attacks run only on images that are correct when clean; the others count as not robust. Each
    adversarial image is checked to be inside the ball and put to the model again. The search for it
    is on a private copy with batch normalisation folded, where that is possible. The model comes
    back as it was: mode, `requires_grad`, buffers, gradients.

    Images draw from streams of their own, keyed by (seed, repr of the attack, index), so a row does
    not depend on the other images nor on `batch_size`. An attack that asks for one generator gets
    chunks of 250 images in their order with a stream for each chunk.

    Args:
        cascade: let each attack skip what an earlier one has fooled. Faster; the accuracies of the
            single attacks become cumulative.
        batch_size: images in a forward pass, clean or attacked.
        found: if given, the images that fool are written into it, at their places.

    Raises:
        UserError: if there is no image, labels are missing, or an attack is listed twice.
        AssertionError: naming the attack, if it leaves its ball or [0, 1].
    """
    _check(x, y, attacks)
    by_attack: dict[str, np.ndarray] = {}
    examples = ExampleCollector(tuple(x.shape[1:]))
    with frozen(model):
        prediction = predict(model, x, batch_size=batch_size)
        clean_correct = prediction == y.cpu()
        if progress is not None:
            progress("clean", len(x), len(x), int(clean_correct.sum()))
        alive = clean_correct.clone()
        searched, _ = folded(model, x[:8]) if attacks else (model, 0)
        for attack in attacks:
            robust = alive.clone() if cascade else clean_correct.clone()
            job = Job(model, searched, attack, x, y, robust, examples, progress, found)
            if getattr(attack, "draws_per_image", False):
                job.run_pooled(seed, batch_size)
            else:
                job.run_in_chunks(seed)
            by_attack[repr(attack)] = robust.numpy()
            alive &= robust
    return Table(
        index=np.arange(len(x)),
        label=y.cpu().numpy().copy(),
        prediction=prediction.numpy(),
        clean_correct=clean_correct.numpy(),
        by_attack=by_attack,
        attacks=tuple(describe(attack) for attack in attacks),
        seed=seed,
        cascade=cascade,
        examples=examples.arrays(),
        protocol=protocol_of(attacks, cascade=cascade),
    )


def describe(attack: Any) -> dict[str, Any]:
    """Return an attack's spec as plain data, its eps and its norm.

    An attack from outside the registry is described by its class and fields.
    """
    if hasattr(attack, "registered_name"):
        spec = registry("attack").normalize(attack)
    else:
        spec = {"name": type(attack).__name__, **json.loads(json.dumps(dataclasses.asdict(attack)))}
    return {"spec": spec, "eps": float(attack.eps), "norm": attack.norm}


def _check(x: Tensor, y: Tensor, attacks: Sequence[Any]) -> None:
    if not len(x) or len(x) != len(y):
        raise UserError(f"evaluation needs images with a label each, got {len(x)} and {len(y)}")
    names = [repr(attack) for attack in attacks]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UserError(f"attack {twice[0]} is listed twice; remove one")
