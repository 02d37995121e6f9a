"""The page's table of what a network costs: sparsity three ways, dead units, arithmetic, bytes."""

from collections.abc import Callable
from typing import Any

from wiry.report.evaluations import Evaluation
from wiry.report.parts import Cell, Section, Table, TableLine
from wiry.report.words import MISSING, count, percent, quantity

Cost = dict[str, Any]


def cost_section(evaluation: Evaluation, dense: Evaluation | None) -> Section | None:
    """Return the section on cost, beside the dense network's where it was evaluated."""
    costs = [evaluation.cost, *([dense.cost] if dense and dense.cost else [])]
    if len(evaluation.cost) <= 1:
        return None
    lines = [
        TableLine([Cell(title, small), *(Cell(write(cost)) for cost in costs)])
        for title, small, write in _LINES
    ]
    header = ["", "This network", "Dense network"][: 1 + len(costs)]
    caption = "Counted, not timed. Fewer operations are faster only where zeros are skipped."
    return Section("cost", "Cost", Table(caption, header, lines, frozenset({1, 2})))


def _sparsity(key: str) -> Callable[[Cost], str]:
    return lambda cost: percent(1 - cost[key]) if key in cost else MISSING


def _quantity(key: str, unit: str) -> Callable[[Cost], str]:
    return lambda cost: quantity(cost.get(key), unit)


def _flops(key: str) -> Callable[[Cost], str]:
    """Write operations; none at all means that the network's layers could not be counted."""
    return lambda cost: quantity(cost.get(key), "FLOP") if cost.get("flops_dense") else MISSING


def _sparsity_of_all(cost: Cost) -> str:
    if not {"nonzeros", "prunable", "parameters"} <= cost.keys() or not cost["parameters"]:
        return MISSING
    return percent((cost["prunable"] - cost["nonzeros"]) / cost["parameters"])


def _dead_units(cost: Cost) -> str:
    dead = cost.get("dead_units")
    return MISSING if dead is None else f"{count(dead)} of {count(cost.get('units'))}"


_LINES: tuple[tuple[str, str, Callable[[Cost], str]], ...] = (
    ("Sparsity of the mask", "prunable weights switched off", _sparsity("mask_density")),
    ("Sparsity of the values", "prunable weights equal to 0", _sparsity("nonzero_density")),
    ("Sparsity of all parameters", "biases and normalisation too", _sparsity_of_all),
    ("Dead units", "with no weight coming in", _dead_units),
    ("Arithmetic", "per image, zeros skipped", _flops("flops_sparse")),
    ("Arithmetic, dense code", "per image", _flops("flops_dense")),
    ("Size, sparse", "non-zero values, a bit a place", _quantity("bytes_sparse", "B")),
    ("Size, dense", "every value", _quantity("bytes_dense", "B")),
)
