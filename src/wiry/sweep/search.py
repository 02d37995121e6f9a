"""The search: the sparsest network that keeps the accuracy and the robustness asked for.

Candidates are chosen on the validation split only; the test split is looked at once, at the end.
All
decisions are a pure function of finished trials, so a killed search goes on where it was.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wiry.core.errors import Diverged
from wiry.core.recipe import Evaluation, Recipe, expand
from wiry.core.recipe_file import parse_recipe
from wiry.sparsify.plan import density_name, plan
from wiry.sweep.budget import Budget
from wiry.sweep.pool import Pool
from wiry.sweep.settings import SearchSettings
from wiry.sweep.trial import Measurement, Trial


@dataclasses.dataclass
class Candidate:
    """A network the search considers: a method and a density, with what was measured of it.

    Attributes:
        validation: evaluation of the chosen-under attacks on the validation split, by seed.
        diverged: seeds whose training did not stay finite.
        test: evaluation under the judging attacks on the test split, by seed.
    """

    method: str
    density: float
    trials: dict[int, Trial]
    stage: str
    validation: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    test: dict[int, dict[str, Any]] = dataclasses.field(default_factory=dict)
    diverged: list[int] = dataclasses.field(default_factory=list)

    def mean(self, what: str, seeds: list[int] | None = None) -> float:
        """Return the mean of a validation accuracy (`clean` or `robust`) over the seeds."""
        values = [
            v[f"{what}_accuracy"] for s, v in self.validation.items() if not seeds or s in seeds
        ]
        return sum(values) / len(values)

    def shortfall(self, clean: float, robust: float, seeds: list[int] | None = None) -> float:
        """Return by how much the thresholds are missed; 0 or less meets them.

        Rounding is forgiven: exactly on a threshold meets it.
        """
        return max(clean - self.mean("clean", seeds), robust - self.mean("robust", seeds)) - 1e-9


class Search:
    """One search below `out`; `run` does it, or goes on with it, or finds it done.

    Args:
        announce: called with a line of text for every step worth telling.
    """

    def __init__(
        self,
        settings: SearchSettings,
        out: Path,
        pool: Pool,
        *,
        budget_seconds: float | None = None,
        announce: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.settings, self.out, self.pool, self.announce = settings, out, pool, announce
        self.root = search_root(settings, out)
        self.root.mkdir(parents=True, exist_ok=True)
        self.budget = Budget(self.root / "budget.json", budget_seconds)
        self.candidates: list[Candidate] = []
        self.finalists: list[Candidate] = []
        self.diverged: list[str] = []
        self._lock = threading.Lock()
        self.dense = self._candidate("dense", 1.0)

    def run(self) -> Candidate | None:
        """Search and return the winner, or None if nothing meets the constraint."""
        first = self.settings.seeds[0]
        self._validate(self.dense, first)
        self.pool.run_parallel([functools.partial(self._explore, m) for m in self.settings.methods])
        self.candidates.sort(key=lambda c: (self.settings.methods.index(c.method), -c.density))
        others = self.settings.seeds[1:]
        if others and self.budget.allows("seeds", 0, share=0.6):
            self.pool.run_parallel(
                [functools.partial(self._validate, self.dense, seed) for seed in others]
            )
        found = self.pool.run_parallel(
            [functools.partial(self._confirm, m) for m in self.settings.methods]
        )
        self.finalists = [c for c in found if c is not None]
        self.announce("judging on the test split")
        judged = [self.dense, *(self.finalists or self._nearest())]
        self.pool.run_parallel(
            [functools.partial(self._judge, c, s) for c in judged for s in c.validation]
        )
        return self.winner()

    def winner(self) -> Candidate | None:
        """Return the sparsest finalist; of equals the one with the higher validation robustness."""
        return min(self.finalists, key=lambda c: (c.density, -c.mean("robust")), default=None)

    def nearest(self) -> Candidate | None:
        """Return the candidate that misses the constraint by least."""
        return next(iter(self._nearest()), None)

    def thresholds(self, seeds: list[int] | None = None) -> tuple[float, float]:
        """Return the least clean and robust validation accuracy, from the same seeds' dense."""
        return self.settings.thresholds(
            self.dense.mean("clean", seeds), self.dense.mean("robust", seeds)
        )

    def _nearest(self) -> list[Candidate]:
        ranked = sorted(self.candidates, key=lambda c: (self._shortfall(c), c.density))
        return ranked[:1]

    def _shortfall(self, candidate: Candidate) -> float:
        seeds = list(candidate.validation)
        return candidate.shortfall(*self.thresholds(seeds), seeds)

    def _explore(self, method: str) -> None:
        """Walk down in density with the first seed."""
        first = self.settings.seeds[0]
        passed: dict[float, bool] = {}
        while (density := self.settings.ladder.next_density(passed)) is not None:
            if not self.budget.allows(f"explore {method}", len(passed), share=0.5):
                break
            candidate = self._candidate(method, density)
            if not self._trains(candidate, first):
                passed[density] = False
                continue
            passed[density] = candidate.shortfall(*self.thresholds([first]), [first]) <= 0
            with self._lock:
                self.candidates.append(candidate)
            self._tell(candidate, "meets the constraint" if passed[density] else "misses it")

    def _confirm(self, method: str) -> Candidate | None:
        """Train the sparsest passing candidates on all seeds until one passes in the mean."""
        first, *others = self.settings.seeds
        others = [seed for seed in others if seed in self.dense.validation]
        passing = [
            c
            for c in self.candidates
            if c.method == method and c.shortfall(*self.thresholds([first]), [first]) <= 0
        ]
        for number, candidate in enumerate(sorted(passing, key=lambda c: c.density)):
            if others and not self.budget.allows(f"confirm {method}", number, share=0.8):
                return candidate
            trained = self.pool.run_parallel(
                [functools.partial(self._trains, candidate, seed) for seed in others]
            )
            met = all(trained) and self._shortfall(candidate) <= 0
            self._tell(candidate, "meets it on all seeds" if met else "misses it on all seeds")
            if met:
                return candidate
        return None

    def _trains(self, candidate: Candidate, seed: int) -> bool:
        """Train and measure a candidate; say whether its training stayed finite."""
        try:
            self._validate(candidate, seed)
        except Diverged as error:
            candidate.diverged.append(seed)
            with self._lock:
                self.diverged.append(f"{candidate.method}-{candidate.density:g}, seed {seed}")
            self.announce(f"{candidate.method}, seed {seed}: {error}")
            return False
        return True

    def _validate(self, candidate: Candidate, seed: int) -> None:
        self._measure(candidate, seed, "validation", candidate.validation)

    def _judge(self, candidate: Candidate, seed: int) -> None:
        self._measure(candidate, seed, "test", candidate.test)

    def _measure(
        self,
        candidate: Candidate,
        seed: int,
        split: str,
        results: dict[int, dict[str, Any]],
    ) -> None:
        final = split == "test"
        judge = list(self.settings.judge)
        wanted = Measurement(candidate.stage, split, judge, cascade=final, screened=not final)
        trial = dataclasses.replace(candidate.trials[seed], measurements=(wanted,))
        results[seed] = self.pool.run(trial)[0]
        self.budget.save()

    def _candidate(self, method: str, density: float) -> Candidate:
        """Describe a candidate: one trial a seed, sharing every stage it can."""
        dense = expand(self.settings.recipe)[0]
        path = self.settings.ladder.path_to(density) if method != "dense" else []
        epochs = (
            dense.epochs if self.settings.sparse_epochs is None else self.settings.sparse_epochs
        )
        stages = plan(method, path, dense, epochs) if path else [dense]
        name = f"{method}-{density_name(density)}" if path else "dense"
        trials = {}
        for seed in self.settings.seeds:
            data = self.settings.recipe.model_copy(
                update={"name": name, "seed": seed, "stages": stages, "evaluation": Evaluation()}
            )
            recipe = parse_recipe(data.model_dump(exclude_defaults=True))
            trials[seed] = Trial(
                recipe.model_dump(exclude_defaults=True), self.root / "trials", self.out
            )
        return Candidate(method, density, trials, stages[-1].name)

    def _tell(self, candidate: Candidate, verdict: str) -> None:
        self.announce(
            f"{candidate.method} at density {candidate.density:g}: {verdict} "
            f"(validation: clean {candidate.mean('clean'):.1%}, "
            f"robust {candidate.mean('robust'):.1%}, seeds {len(candidate.validation)})"
        )


def search_root(settings: SearchSettings, out: Path) -> Path:
    """Return the directory of a search."""
    return out / f"search-{settings.recipe.name}-{settings.identity()}"


def winning_recipe(candidate: Candidate, seed: int) -> Recipe:
    """Return the recipe that trains a candidate from scratch."""
    return parse_recipe(candidate.trials[seed].recipe)
