"""The comparison: every method at every sparsity with every seed, each trained and judged once.

What a row says is a pure function of its finished run, and `compare.json` is written after each
one, so a killed comparison goes on where it was. A method that cannot do what is asked, or does not
stay finite, is a row with the reason; so is a mistake of its code, which is tried again next time.
"""

import concurrent.futures.process
import dataclasses
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from wiry.core.errors import Diverged, UserError
from wiry.core.files import read_json
from wiry.core.recipe import Evaluation, expand
from wiry.core.recipe_file import parse_recipe
from wiry.sparsify.plan import density_name, plan
from wiry.sweep.compare_cost import CostCounter
from wiry.sweep.compare_entries import Entry, Key, chains, num_epochs
from wiry.sweep.compare_finalists import judge_finalists
from wiry.sweep.compare_outcome import predicts_one_class, read_robust, write_comparison
from wiry.sweep.compare_settings import DENSE, CompareSettings, density_path
from wiry.sweep.pool import Pool
from wiry.sweep.trial import Measurement, Trial

FINAL = ("done", "refused", "diverged")
"""Statuses that are not tried again."""


class Comparison:
    """One comparison below `out`; `run` does it, or goes on with it.

    Args:
        announce: called with a line of text for every row.
    """

    def __init__(
        self,
        settings: CompareSettings,
        out: Path,
        pool: Pool,
        *,
        announce: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.settings, self.out, self.pool, self.announce = settings, out, pool, announce
        self.root = settings.root(out)
        self.root.mkdir(parents=True, exist_ok=True)
        saved = read_comparison(self.root)
        self.rows: dict[Key, dict[str, Any]] = {
            (row["method"], row["sparsity"], row["seed"]): row
            for row in saved.get("rows", [])
            if row["status"] in FINAL and _is_there(self.root, row)
        }
        self._before, self._started = saved.get("seconds", 0.0), time.monotonic()
        self._costs = CostCounter()
        self._robust: dict[str, np.ndarray] = {}
        self._finalists: list[dict[str, Any]] = saved.get("finalists", [])
        self._lock = threading.Lock()

    def run(self) -> dict[str, Any]:
        """Train and judge what is not there yet and return the content of `compare.json`."""
        dense = [self._entry(DENSE, 0.0, seed, []) for seed in self.settings.seeds]
        self._run_chains([[entry] for entry in dense])
        shared = {run.stage_identity(run.stages[0]) for run in (e.trial.run() for e in dense)}
        missing = [entry for entry in self._entries() if entry.key not in self.rows]
        self._run_chains(chains(missing, shared))
        outcome = self._write(finished=False)
        self.announce("AutoAttack on the best of each sparsity")
        self._finalists = judge_finalists(outcome, self._autoattack)
        return self._write(finished=True)

    def _autoattack(self, row: dict[str, Any]) -> dict[str, Any]:
        """Put a row's network to all of AutoAttack."""
        key = (row["method"], row["sparsity"], row["seed"])
        path = density_path(row["sparsity"]) if row["method"] != DENSE else []
        entry = self._entry(*key, path)
        wanted = dataclasses.replace(entry.trial.measurements[0], screened=False, cascade=True)
        trial = dataclasses.replace(entry.trial, measurements=(wanted,))
        return self.pool.run(trial)[0]

    def _entries(self) -> list[Entry]:
        found = []
        for method in self.settings.methods:
            for sparsity in self.settings.sparsities:
                for seed in self.settings.seeds:
                    path = density_path(sparsity)
                    try:
                        found.append(self._entry(method, sparsity, seed, path))
                    except UserError as error:  # its plan is refused; nothing was trained
                        self._add(_row((method, sparsity, seed), "refused", str(error)))
        return found

    def _entry(self, method: str, sparsity: float, seed: int, path: list[float]) -> Entry:
        dense = expand(self.settings.recipe)[0]
        stages = plan(method, path, dense, self.settings.epochs) if path else [dense]
        name = f"{method}-{density_name(path[-1])}" if path else DENSE
        change = {"name": name, "seed": seed, "stages": stages, "evaluation": Evaluation()}
        data = self.settings.recipe.model_copy(update=change).model_dump(exclude_defaults=True)
        recipe = parse_recipe(data).model_dump(exclude_defaults=True)
        wanted = Measurement(stages[-1].name, "test", list(self.settings.judge), screened=True)
        trial = Trial(recipe, self.root / "trials", self.out, (wanted,))
        return Entry(method, sparsity, seed, trial, stages[-1].name)

    def _run_chains(self, waiting: list[list[Entry]]) -> None:
        """Work the chains off, as many at once as there are workers; the longest come first."""
        waiting = [chain for chain in waiting if any(e.key not in self.rows for e in chain)]
        queue = sorted(waiting, key=lambda chain: -sum(map(num_epochs, chain)))

        def drain() -> None:
            while True:
                with self._lock:
                    if not queue:
                        return
                    chain = queue.pop(0)
                for entry in chain:
                    self._do(entry)

        self.pool.run_parallel([drain] * max(1, self.pool.num_workers))

    def _do(self, entry: Entry) -> None:
        """Train and judge one entry and write its row."""
        try:
            (result,) = self.pool.run(entry.trial)
            row = _row(entry.key, "done", "") | self._measured(entry, result)
        except Diverged as error:
            row = _row(entry.key, "diverged", str(error))
        except UserError as error:
            if self._is_ours(error):
                raise
            row = _row(entry.key, "refused", str(error))
        except OSError:
            raise  # the disk is full, or gone
        except Exception as error:  # a mistake in a method's code costs its row, not the run
            if entry.method == DENSE:
                raise
            with (self.root / "errors.txt").open("a", encoding="utf-8") as file:
                file.write(f"{entry.key}\n{''.join(traceback.format_exception(error))}\n")
            row = _row(entry.key, "error", f"{type(error).__name__}: {error} (see errors.txt)")
        if entry.method == DENSE and row["status"] != "done":
            raise UserError(f"the dense training, seed {entry.seed}, failed: {row['reason']}")
        self._add(row)

    def _is_ours(self, error: UserError) -> bool:
        """Say whether an error is about this program's state and not about the method."""
        died = isinstance(error.__cause__, concurrent.futures.process.BrokenProcessPool)
        return self.pool.stopping.is_set() or died or "in use by another process" in str(error)

    def _measured(self, entry: Entry, result: dict[str, Any]) -> dict[str, Any]:
        run = entry.trial.run()
        cost = result["cost"]
        with self._lock:  # the counter keeps what it has counted
            training = self._costs.of(run)
        return {
            "run": run.root.relative_to(self.root).as_posix(),
            "stage": entry.stage,
            "evaluation": entry.trial.measurements[0].name(),
            "clean_accuracy": result["clean_accuracy"],
            "robust_accuracy": result["robust_accuracy"],
            "num_samples": result["num_samples"],
            "one_class": predicts_one_class(result),
            "density": cost["mask_density"],
            "nonzeros": cost["nonzeros"],
            "prunable": cost["prunable"],
            "epochs": sum(stage.epochs for stage in run.stages),
            "flops_dense": training.dense,
            "flops_sparse": training.sparse,
            "seconds": round(sum(run.done(stage)["seconds"] for stage in run.stages), 3),
        }

    def _add(self, row: dict[str, Any]) -> None:
        with self._lock:
            self.rows[row["method"], row["sparsity"], row["seed"]] = row
        self._write(finished=False)
        where = f"{row['method']} at sparsity {row['sparsity']:g}, seed {row['seed']}"
        if row["status"] == "done":
            self.announce(
                f"{where}: clean {row['clean_accuracy']:.1%}, robust {row['robust_accuracy']:.1%}"
            )
        else:
            self.announce(f"{where}: {row['status']}: {row['reason']}")

    def _write(self, *, finished: bool) -> dict[str, Any]:
        seconds = self._before + time.monotonic() - self._started
        with self._lock:
            finished = finished and all(row["status"] in FINAL for row in self.rows.values())
            return write_comparison(
                self.root,
                self.settings,
                list(self.rows.values()),
                finished=finished,
                seconds=seconds,
                robust=self._robust,
                finalists=self._finalists,
            )


def _row(key: Key, status: str, reason: str) -> dict[str, Any]:
    names = ("method", "sparsity", "seed")
    return dict(zip(names, key, strict=True)) | {"status": status, "reason": reason}


def read_comparison(root: Path) -> dict[str, Any]:
    """Read a comparison's `compare.json`; empty if there is none yet."""
    path = root / "compare.json"
    return read_json(path) if path.exists() else {}


def _is_there(root: Path, row: dict[str, Any]) -> bool:
    """Say whether the files of a row are there; what was deleted is made again."""
    return row["status"] != "done" or read_robust(root, row) is not None
