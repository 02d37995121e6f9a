"""From the rows of a comparison to `compare.json`: means, ranks, and who wins with what certainty.

Pure functions of the rows and of the per-sample files of their runs.
"""

import math
import statistics
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wiry.core.files import write_json
from wiry.core.registry import registry
from wiry.evaluation.interval import mean_interval, student_quantile
from wiry.sweep.compare_settings import DENSE, CompareSettings
from wiry.sweep.threat import threat_of

Row = dict[str, Any]
Rows = Mapping[tuple[str, float], list[Row]]
MEANS = ("density", "epochs", "flops_dense", "flops_sparse", "seconds")
TOLERANCE = 1.02
"""A network with this many times the weights asked for, or more, is shown but not ranked."""


def write_comparison(
    root: Path,
    settings: CompareSettings,
    rows: Sequence[Row],
    *,
    finished: bool,
    seconds: float,
    robust: dict[str, np.ndarray],
    finalists: Sequence[Row] = (),
) -> dict[str, Any]:
    """Write `compare.json` and return its content.

    Args:
        robust: what has been read of per-sample files, by run; it is filled here.
        finalists: the winners under AutoAttack, as far as they have been judged.
    """
    places = {m: position for position, m in enumerate([DENSE, *settings.methods])}
    ordered = sorted(rows, key=lambda r: (places[r["method"]], r["sparsity"], r["seed"]))
    grid: dict[tuple[str, float], list[Row]] = {}
    for row in ordered:
        grid.setdefault((row["method"], row["sparsity"]), []).append(row)
        if row["status"] == "done" and row["run"] not in robust:
            samples = read_robust(root, row)
            assert samples is not None, f"the files of {row['run']} were there"
            robust[row["run"]] = samples
    ranks = mean_ranks(grid, settings)
    outcome = {
        **described(settings),
        "finished": finished,
        "seconds": round(seconds, 1),
        "summaries": {method: summary_of(method) for method in settings.methods},
        "mean_ranks": ranks,
        "columns": [column(grid, settings, s, robust) for s in settings.sparsities],
        "cells": [cell(key, found, settings) for key, found in grid.items()],
        "rows": ordered,
        "finalists": list(finalists),
    }
    write_json(root / "compare.json", outcome)
    return outcome


def described(settings: CompareSettings) -> dict[str, Any]:
    """Return what was compared, as plain data."""
    recipe = settings.recipe
    objective = recipe.stages[0].objective
    threat = threat_of(objective)
    return {
        "name": recipe.name,
        "identity": settings.identity(),
        "data": recipe.data["name"],
        "model": recipe.model["name"],
        "eps": settings.eps,
        "norm": settings.norm,
        "train": f"{objective['name']}: {threat.attack!r}" if threat.attack else objective["name"],
        "judge": "screened: "
        + "; ".join(repr(registry("attack").build(spec)) for spec in settings.judge),
        "methods": list(settings.methods),
        "sparsities": list(settings.sparsities),
        "seeds": list(settings.seeds),
        "dense_epochs": settings.dense_epochs,
        "sparse_epochs": settings.epochs,
    }


def summary_of(method: str) -> str:
    """Return a method's one line."""
    kind = "method" if method in registry("method").names() else "sparsifier"
    return registry(kind).summary(method)


def cell(key: tuple[str, float], rows: Sequence[Row], settings: CompareSettings) -> dict[str, Any]:
    """Return means over the seeds of one method at one sparsity.

    `ranked` says whether all seeds are there, have learned something, and keep no more weights than
    asked for.
    """
    done = [row for row in rows if row["status"] == "done"]
    reasons = dict.fromkeys(row["reason"] for row in rows if row["status"] != "done")
    if any(is_too_dense(row) for row in done):
        reasons["keeps more weights than asked for"] = None
    if collapsed := [str(row["seed"]) for row in done if row["one_class"]]:
        reasons[f"predicts one class only (seeds {', '.join(collapsed)})"] = None
    found: dict[str, Any] = {
        "method": key[0],
        "sparsity": key[1],
        "num_seeds": len(done),
        "ranked": is_ranked(rows, settings),
        "reasons": list(reasons),
    }
    for what in ("clean", "robust") if done else ():
        values = [row[f"{what}_accuracy"] for row in done]
        found[f"{what}_accuracy"] = statistics.fmean(values)
        found[f"{what}_deviation"] = statistics.stdev(values) if len(values) > 1 else None
        found[f"{what}_interval"] = list(mean_interval(values, done[0]["num_samples"]))
    for name in MEANS if done else ():
        found[name] = statistics.fmean(row[name] for row in done)
    return found


def is_too_dense(row: Row) -> bool:
    """Say whether a network keeps more weights than was asked for."""
    allowed = row["prunable"] - round(row["sparsity"] * row["prunable"])
    return round(row["density"] * row["prunable"]) > TOLERANCE * allowed + 1


def predicts_one_class(result: Mapping[str, Any]) -> bool:
    """Say whether a network answers the same to every image: its share of it says nothing."""
    right = [c["clean"] for c in result["per_class"] if c["num"] and c["clean"] > 0]
    return len(result["per_class"]) > 1 and len(right) == 1 and right[0] == 1


def is_ranked(rows: Sequence[Row], settings: CompareSettings) -> bool:
    """Say whether a method's rows at a sparsity can be compared: all seeds, and each sound."""
    done = [row for row in rows if row["status"] == "done"]
    sound = [row for row in done if not is_too_dense(row) and not row["one_class"]]
    return len(sound) == len(settings.seeds)


def mean_ranks(grid: Rows, settings: CompareSettings) -> dict[str, float]:
    """Return each method's mean rank by robust accuracy over sparsities and seeds, 1 the best.

    Equal ones share the mean of their places; those that cannot be ranked share the last ones.
    """
    ranks: dict[str, list[float]] = {}
    for sparsity in settings.sparsities:
        for position, _ in enumerate(settings.seeds):
            scores = {
                method: rows[position]["robust_accuracy"] if is_ranked(rows, settings) else -1.0
                for method in settings.methods
                if len(rows := grid.get((method, sparsity), [])) == len(settings.seeds)
            }
            for method, score in scores.items():
                above = sum(other > score for other in scores.values())
                equal = sum(other == score for other in scores.values())
                ranks.setdefault(method, []).append(above + (equal + 1) / 2)
    return {method: statistics.fmean(values) for method, values in ranks.items()}


def column(
    grid: Rows, settings: CompareSettings, sparsity: float, robust: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Return who wins at a sparsity, by how much before the second, and who ties with the winner.

    Differences are paired: the same seeds and the same test images. A method ties with the winner
    if the 95 % interval of its difference contains 0.
    """
    found: dict[str, Any] = {"sparsity": sparsity, "winner": None, "second": None, "tied": []}
    means = {}
    for method in settings.methods:
        if is_ranked(rows := grid.get((method, sparsity), []), settings):
            means[method] = statistics.fmean(row["robust_accuracy"] for row in rows)
    if not means:
        return found
    order = sorted(means, key=lambda method: -means[method])  # of equals the first in the list
    correct = {m: np.stack([robust[r["run"]] for r in grid[m, sparsity]]) for m in order}
    winner = order[0]
    gaps = {m: paired_difference(correct[winner], correct[m]) for m in order[1:]}
    found |= {"winner": winner, "robust_accuracy": means[winner]}
    found["tied"] = [method for method, (_, low, _) in gaps.items() if low <= 0]
    if gaps:
        second = order[1]
        mean, low, high = gaps[second]
        found |= {"second": second, "difference": mean, "interval": [low, high], "apart": low > 0}
    return found


def paired_difference(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """Return the mean difference of two tables of seeds x images, and its 95 % interval.

    Two things vary, as in `mean_interval`: the seed (Student's t on the differences of each seed)
    and which images were drawn (the normal interval of each image's difference, averaged over the
    seeds). The two half-widths are added in quadrature.
    """
    differences = first.astype(float) - second.astype(float)
    num_seeds, num_images = differences.shape
    by_seed, by_image = differences.mean(axis=1), differences.mean(axis=0)
    over_seeds = student_quantile(0.975, num_seeds - 1) * by_seed.std(ddof=1)
    over_images = statistics.NormalDist().inv_cdf(0.975) * by_image.std(ddof=1)
    half = math.hypot(over_seeds / math.sqrt(num_seeds), over_images / math.sqrt(num_images))
    mean = float(differences.mean())
    return mean, mean - half, mean + half


def read_robust(root: Path, row: Row) -> np.ndarray | None:
    """Return which test images a row's network gets right under every attack; None if not there."""
    name = f"stages/*-{row['stage']}/eval/{row.get('evaluation', 'test-*')}.npz"
    paths = list((root / row["run"]).glob(name))
    if len(paths) != 1:
        return None
    try:
        with np.load(paths[0]) as arrays:
            return arrays["robust"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
