"""The per-sample table: what a model answered on each image, clean and under each attack.

Every accuracy and interval in the house derives from such a table. How an image is attacked and
checked is `judge`; how shares are taken is `summary`; where the files of a run go is `record`.
"""

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wiry.core.errors import UserError
from wiry.core.files import checksum, write_atomic, write_json
from wiry.core.registry import registry
from wiry.evaluation.examples import EXAMPLE_KEYS
from wiry.evaluation.files import check_table, read_arrays, read_record
from wiry.evaluation.summary import summarize

_COLUMNS = ("index", "label", "prediction", "clean_correct")


class Effort(NamedTuple):
    """What an attack did: images it was put to, images it fooled, seconds."""

    num_attacked: int
    num_fooled: int
    seconds: float


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
        efforts: how many images each attack was put to and fooled, and how long that took; empty
            for tables of an earlier version.
        proven: images that the attacks skipped, because bounds prove them; None if none were.
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
    efforts: tuple[Effort, ...] = ()
    proven: np.ndarray | None = None

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
        if self.proven is not None:
            columns["proven"] = self.proven
        return columns | {f"example_{key}": value for key, value in self.examples.items()}

    def save(
        self,
        folder: Path,
        name: str,
        summary: dict[str, Any],
        more: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Write `<name>.npz`, then `<name>.json`: where the JSON is, both are whole.

        Args:
            more: further arrays, under names of their own.

        Returns:
            The summary as written, with the checksum of the .npz added.
        """
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self.arrays(), **(more or {}))  # type: ignore[arg-type] # names are columns
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
                efforts=tuple(Effort(*(r[k] for k in Effort._fields)) for r in rows if _told(r)),
                proven=arrays.get("proven"),
            )
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} and its .json do not fit together: {error}") from error


def _told(row: dict[str, Any]) -> bool:
    return all(key in row for key in Effort._fields)


def describe(attack: Any) -> dict[str, Any]:
    """Return an attack's spec as plain data, its eps and its norm.

    An attack from outside the registry is described by its class and fields.
    """
    if hasattr(attack, "registered_name"):
        spec = registry("attack").normalize(attack)
    else:
        spec = {"name": type(attack).__name__, **json.loads(json.dumps(dataclasses.asdict(attack)))}
    return {"spec": spec, "eps": float(attack.eps), "norm": attack.norm}
