"""Reads a comparison's directory: `compare.json`. Imports no torch.

What is missing or malformed is left out, as in `collect`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wiry.core.errors import UserError
from wiry.report.evaluations import Interval
from wiry.report.reading import interval, number, objects, read_object

DENSE = "dense"


@dataclass(frozen=True)
class CompareCell:
    """One method at one sparsity: means over the seeds, deviations, intervals.

    `ranked`: all seeds are there, with no more weights than asked for; `reasons` says why not.
    """

    method: str
    sparsity: float
    num_seeds: int
    ranked: bool
    reasons: list[str]
    clean: float | None
    clean_deviation: float | None
    clean_interval: Interval | None
    robust: float | None
    robust_deviation: float | None
    robust_interval: Interval | None
    density: float | None
    flops_dense: float | None
    flops_sparse: float | None
    seconds: float | None


@dataclass(frozen=True)
class Column:
    """Who wins at a sparsity: the difference to the second is paired over seeds and images."""

    sparsity: float
    winner: str | None
    second: str | None
    difference: float | None
    interval: Interval | None
    apart: bool
    tied: list[str]


@dataclass(frozen=True)
class CompareData:
    """A comparison as it is on disk."""

    root: Path
    raw: dict[str, Any]
    methods: list[str]
    sparsities: list[float]
    cells: dict[tuple[str, float], CompareCell]
    columns: list[Column]
    ranks: dict[str, float]
    notes: list[str] = field(default_factory=list)

    @property
    def dense(self) -> CompareCell | None:
        """The dense networks."""
        return self.cells.get((DENSE, 0.0))

    @property
    def by_rank(self) -> list[str]:
        """The methods, the best mean rank first."""
        return sorted(self.methods, key=lambda m: self.ranks.get(m, float("inf")))

    def cell(self, method: str | None, sparsity: float) -> CompareCell | None:
        """Return a method's cell at a sparsity, if there is one."""
        return self.cells.get((method or "", sparsity))

    def text(self, key: str) -> str:
        """Return a text of compare.json, empty if it is not there."""
        value = self.raw.get(key)
        return value if isinstance(value, str) else ""


def is_comparison(root: Path) -> bool:
    """Say whether a directory is a comparison."""
    return (root / "compare.json").is_file()


def collect_comparison(root: Path) -> CompareData:
    """Read a comparison's directory.

    Raises:
        UserError: if compare.json holds nothing readable.
    """
    root = Path(root)
    notes: list[str] = []
    raw = read_object(root / "compare.json", notes, root)
    if not raw:
        raise UserError(
            f"{str(root / 'compare.json')!r} holds no comparison; delete it and compare again"
        )
    cells = [c for c in map(_cell, objects(raw.get("cells"))) if c]
    ranks = raw.get("mean_ranks")
    ranks = ranks if isinstance(ranks, dict) else {}
    return CompareData(
        root=root,
        raw=raw,
        methods=_texts(raw.get("methods")),
        sparsities=[s for s in map(number, _list(raw.get("sparsities"))) if s is not None],
        cells={(c.method, c.sparsity): c for c in cells},
        columns=[c for c in map(_column, objects(raw.get("columns"))) if c],
        ranks={str(m): r for m, value in ranks.items() if (r := number(value)) is not None},
        notes=notes,
    )


def _cell(raw: dict[str, Any]) -> CompareCell | None:
    sparsity = number(raw.get("sparsity"))
    if sparsity is None:
        return None
    found = {
        key: number(raw.get(name))
        for key, name in (
            ("clean", "clean_accuracy"),
            ("clean_deviation", "clean_deviation"),
            ("robust", "robust_accuracy"),
            ("robust_deviation", "robust_deviation"),
            ("density", "density"),
            ("flops_dense", "flops_dense"),
            ("flops_sparse", "flops_sparse"),
            ("seconds", "seconds"),
        )
    }
    return CompareCell(
        method=str(raw.get("method", "?")),
        sparsity=sparsity,
        num_seeds=int(number(raw.get("num_seeds")) or 0),
        ranked=raw.get("ranked") is True,
        reasons=_texts(raw.get("reasons")),
        clean_interval=interval(raw.get("clean_interval")),
        robust_interval=interval(raw.get("robust_interval")),
        **found,
    )


def _column(raw: dict[str, Any]) -> Column | None:
    sparsity = number(raw.get("sparsity"))
    if sparsity is None:
        return None
    winner, second = raw.get("winner"), raw.get("second")
    return Column(
        sparsity=sparsity,
        winner=None if winner is None else str(winner),
        second=None if second is None else str(second),
        difference=number(raw.get("difference")),
        interval=interval(raw.get("interval")),
        apart=raw.get("apart") is True,
        tied=_texts(raw.get("tied")),
    )


def _list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else []


def _texts(value: Any) -> list[str]:
    return [str(item) for item in _list(value)]
