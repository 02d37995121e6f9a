"""From a finished search to files and rows.

Search.json, the winner's bundle, the JSON for the shell.
"""

import statistics
from pathlib import Path
from typing import Any

from wiry.core.files import write_json
from wiry.core.registry import registry
from wiry.core.run import Run
from wiry.data.base import mean_std
from wiry.evaluation.interval import mean_interval
from wiry.export.bundle import write_bundle
from wiry.sweep.search import Candidate, Search, winning_recipe
from wiry.sweep.threat import threat_of
from wiry.train.prepare import dataset_of
from wiry.train.stages import load_stage

SHELL_FIELDS = (
    "method",
    "density",
    "sparsity",
    "nonzeros",
    "clean_accuracy",
    "robust_accuracy",
    "robust_interval",
    "eps",
    "norm",
    "attack",
    "run",
)


def write_outcome(search: Search) -> dict[str, Any]:
    """Write `search.json` and, if there is a winner, `best/`; return the content of search.json."""
    winner = search.winner()
    rows = [_row(search, c) for c in search.candidates]
    outcome = {
        "name": search.settings.recipe.name,
        "identity": search.settings.identity(),
        "data": search.settings.recipe.data["name"],
        "model": search.settings.recipe.model["name"],
        "settings": _settings(search),
        "constraint": dict(zip(("clean", "robust"), search.thresholds(), strict=True)),
        "thresholds_text": constraint_text(search),
        "dense": _row(search, search.dense),
        "candidates": rows,
        "winner": _row(search, winner) if winner else None,
        "nearest": None if winner or not rows else _row(search, _must(search.nearest())),
        "finished": True,
        "stopped": "budget" if search.budget.cut() else None,
        "cut": search.budget.cut(),
        "diverged": search.diverged,
        "best": "best" if winner else None,
        "seconds": round(search.budget.elapsed(), 1),
    }
    if winner:
        _bundle(search, winner, outcome)
    write_json(search.root / "search.json", outcome)
    return outcome


def shell_json(outcome: dict[str, Any], report: Path) -> dict[str, Any]:
    """Return the object that `wiry search --json` prints."""

    def fields(row: dict[str, Any] | None) -> dict[str, Any] | None:
        return None if row is None else {key: row[key] for key in (*SHELL_FIELDS, "verdict")}

    return {
        "winner": fields(outcome["winner"]),
        "nearest": fields(outcome["nearest"]),
        "dense": fields(outcome["dense"]),
        "candidates": [fields(row) for row in outcome["candidates"]],
        "report": str(report),
    }


def shipped_seed(candidate: Candidate) -> int:
    """Return the seed whose network is shipped: the most robust on validation, then the first."""
    return max(candidate.validation, key=lambda s: (candidate.validation[s]["robust_accuracy"], -s))


def constraint_text(search: Search) -> str:
    """Say the constraint in words."""
    s = search.settings
    if s.max_drop is not None:
        return (
            f"clean and robust accuracy at most {100 * s.max_drop:g} points below the dense "
            f"network (eps {s.eps:.4g}, {s.norm})"
        )
    parts = [
        f"{name} accuracy at least {100 * value:g} %"
        for name, value in (("clean", s.min_clean), ("robust", s.min_robust))
        if value is not None
    ]
    return f"{' and '.join(parts)} (eps {s.eps:.4g}, {s.norm})"


def _settings(search: Search) -> dict[str, Any]:
    s = search.settings
    return {
        "eps": s.eps,
        "norm": s.norm,
        "methods": list(s.methods),
        "max_drop": s.max_drop,
        "min_clean": s.min_clean,
        "min_robust": s.min_robust,
        "min_density": s.ladder.min_density,
        "seeds": list(s.seeds),
        "budget_seconds": search.budget.seconds,
        "train_attack": _training_text(s.recipe.stages[0].objective),
        "choose_attack": f"screened: {_attack_text(list(s.judge))}",
        "judge_attack": f"AutoAttack (standard): {_attack_text(list(s.judge))}",
    }


def _training_text(objective: dict[str, Any]) -> str:
    threat = threat_of(objective)
    return repr(threat.attack) if threat.attack else f"{objective['name']}, eps {threat.eps}"


def _attack_text(specs: list[Any]) -> str:
    return "; ".join(repr(registry("attack").build(spec)) for spec in specs)


def _row(search: Search, c: Candidate) -> dict[str, Any]:
    seeds = sorted(c.validation)
    first = c.validation[seeds[0]]
    cost = first["cost"]
    tests = [c.test[s] for s in seeds if s in c.test]
    row: dict[str, Any] = {
        "method": c.method,
        "density": cost["mask_density"],
        "sparsity": cost["sparsity"],
        "nonzeros": cost["nonzeros"],
        "eps": search.settings.eps,
        "norm": search.settings.norm,
        "target_density": c.density,
        "run": _run_path(search, c, shipped_seed(c)),
        "stage": c.stage,
        "seeds": seeds,
        "runs": [_run_path(search, c, s) for s in seeds],
        "validation_clean": c.mean("clean"),
        "validation_robust": c.mean("robust"),
        "per_seed": [
            {
                "seed": s,
                "clean": c.test[s]["clean_accuracy"],
                "robust": c.test[s]["robust_accuracy"],
            }
            for s in seeds
            if s in c.test
        ],
        "clean_accuracy": None,
        "clean_interval": None,
        "robust_accuracy": None,
        "robust_interval": None,
        "attack": first["attack"],
    }
    for what in ("clean", "robust") if tests else ():
        values = [t[f"{what}_accuracy"] for t in tests]
        row[f"{what}_accuracy"] = statistics.fmean(values)
        row[f"{what}_interval"] = list(mean_interval(values, tests[0]["num_samples"]))
        row["attack"] = tests[0]["attack"]
    return row | dict(zip(("verdict", "reason"), _verdict(search, c), strict=True))


def _verdict(search: Search, c: Candidate) -> tuple[str, str]:
    if c is search.dense:
        return "dense", "the robust baseline"
    seeds = sorted(c.validation)
    shortfall = c.shortfall(*search.thresholds(seeds), seeds)
    count = f"{len(seeds)} seed{'s' * (len(seeds) > 1)}"
    if c is search.winner():
        return "winner", f"the sparsest that meets the constraint on validation ({count})"
    if c in search.finalists:
        why = "another is sparser, or as sparse and more robust there"
        return "meets", f"meets the constraint on validation ({count}); {why}"
    if shortfall > 0:
        return (
            "fails",
            f"misses the constraint by {100 * shortfall:.1f} points on validation ({count})",
        )
    return "explored", f"meets the constraint on validation ({count}); a sparser one does too"


def _run_path(search: Search, c: Candidate, seed: int) -> str:
    return c.trials[seed].run().root.relative_to(search.root).as_posix()


def _bundle(search: Search, winner: Candidate, outcome: dict[str, Any]) -> None:
    seed = shipped_seed(winner)
    run = Run.open(winner.trials[seed].run().root)
    dataset = dataset_of(run.recipe)
    model, mask = load_stage(run, winner.stage)
    write_bundle(
        search.root / "best",
        model=model,
        mask=mask,
        recipe=winning_recipe(winner, seed),
        model_spec=run.recipe.model,
        dataset_name=run.recipe.data["name"],
        input_shape=dataset.input_shape,
        class_names=dataset.class_names,
        statistics=mean_std(dataset),
        evaluation=winner.test[seed],
        search={
            "constraint": outcome["thresholds_text"],
            "winner": outcome["winner"],
            "dense": outcome["dense"],
        },
    )


def _must(candidate: Candidate | None) -> Candidate:
    assert candidate is not None, "there are candidates, so one is nearest"
    return candidate
