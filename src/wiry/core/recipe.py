"""The whole of a run as data: data set, model, seed, stages, evaluation.

One YAML file shows it all. A recipe knows nothing of how or where it is run. Its identity is the
hash of its non-default fields, and each stage has an identity of its own that covers what it builds
upon, so equal stages of different recipes are trained once.
"""

import hashlib
import json
from typing import Annotated, Any, Literal

import pydantic
from pydantic import BeforeValidator, ConfigDict, Field

from wiry.core.errors import UserError, closest
from wiry.core.registry import registry
from wiry.core.types import Length

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]


def _component(kind: str) -> Any:
    def check(spec: Any) -> dict[str, Any]:
        return registry(kind).normalize(spec)

    return Annotated[
        dict[str, Any], BeforeValidator(check), Field(json_schema_extra={"component": kind})
    ]


class Strict(pydantic.BaseModel):
    """Base of everything in a recipe: unknown keys are refused, values do not change."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=()
    )


class Start(Strict):
    """Where a stage begins: which weights, which mask, and which weights the sparsifier scores.

    A reference is a stage's name, `previous`, or `none`. Weights also take `STAGE@500it` (the
    stage's weights at that step; `@0it` is its initialisation), `init` (the run's initialisation)
    and
    `reinit` (a fresh draw). A mask also takes `STAGE:shuffled`.
    """

    weights: str = "init"
    mask: str = "none"
    score: str = ""
    """Weights that the sparsifier's set-up looks at; empty: the start weights."""


class Monitor(Strict):
    """What is measured while a stage trains; one line in metrics.jsonl each time."""

    every: Length = "1ep"
    splits: list[Literal["validation", "test"]] = ["validation"]
    attack: _component("attack") | None = None
    num_samples: int | None = Field(default=None, ge=1)


class Stage(Strict):
    """One training: epochs, objective, sparsifier, optimizer and where it starts."""

    name: Name
    epochs: int = Field(default=10, ge=0, le=1_000_000)
    objective: _component("objective") = {"name": "natural"}
    sparsifier: _component("sparsifier") = {"name": "fixed"}
    optimizer: _component("optimizer") = {"name": "adam"}
    batch_size: int = Field(default=128, ge=1)
    start: Start = Start()
    levels: int = Field(default=1, ge=1, le=1000)
    """Repeat the stage: `NAME-1` ... `NAME-n`, where `previous` is the level before."""
    teacher: str = ""
    """Stage whose trained network the objective learns from (`STAGE` or `STAGE@500it`)."""
    average: _component("average") | None = None
    """How the weights are averaged over the steps; the average is what the stage leaves."""
    engine: Literal["auto", "dense", "sparse"] = "auto"
    """What attacks on the CPU search on: the weights that are not zero where few are left (auto) or
    always (sparse), or all weights (dense). Changes the last digits of a gradient, no more."""

    def reference_names(self) -> set[str]:
        """Return the names of the stages this stage builds upon."""
        return {
            split_reference(ref)[0]
            for ref in (self.start.weights, self.start.mask, self.start.score, self.teacher)
            if split_reference(ref)[0] not in ("", "none", "init", "reinit")
        }


class Evaluation(Strict):
    """What is measured on finished stages."""

    attacks: list[_component("attack")] = []
    measures: list[_component("measure")] = []
    split: Literal["validation", "test"] = "test"
    num_samples: int | None = Field(default=None, ge=1)
    stages: Literal["all", "last"] = "all"


class Recipe(Strict):
    """Everything that determines a run's numbers."""

    name: Name
    data: _component("dataset")
    model: _component("model")
    seed: int = Field(default=0, ge=0, lt=2**32)
    stages: list[Stage] = Field(min_length=1)
    monitor: Monitor = Monitor()
    evaluation: Evaluation = Evaluation()
    plugins: list[str] = []

    @pydantic.model_validator(mode="after")
    def _references_exist(self) -> "Recipe":
        expand(self)
        return self

    def identity(self) -> str:
        """Return eight hex digits: the hash of the non-default fields (how to run is left out)."""
        return _digest(self.model_dump(exclude_defaults=True, exclude={"plugins"}))


def split_reference(reference: str) -> tuple[str, str]:
    """Split `stage@500it` or `stage:shuffled` into the stage's name and the rest."""
    for mark in "@:":
        name, found, rest = reference.partition(mark)
        if found:
            return name, rest
    return reference, ""


def expand(recipe: Recipe) -> list[Stage]:
    """Write out levels and resolve `previous`, so that every reference names an earlier stage.

    Raises:
        UserError: for a name used twice or a reference to a stage that is not earlier.
    """
    expanded: list[Stage] = []
    for stage in recipe.stages:
        for level in range(1, stage.levels + 1):
            name = f"{stage.name}-{level}" if stage.levels > 1 else stage.name
            resolved = _resolve(stage, name, [s.name for s in expanded])
            expanded.append(resolved)
    return expanded


def _resolve(stage: Stage, name: str, earlier: list[str]) -> Stage:
    if name in earlier:
        raise UserError(f"stage name {name!r} is used twice; rename one")

    def resolve(reference: str, field: str, allowed: tuple[str, ...], marks: str) -> str:
        base, rest = split_reference(reference)
        if base == "previous":
            if not earlier:
                raise UserError(
                    f"stage {name!r}: {field} says 'previous' but it is the first stage"
                )
            reference, base = reference.replace("previous", earlier[-1], 1), earlier[-1]
        if base not in (*allowed, *earlier):
            raise UserError(
                f"stage {name!r}: {field} refers to {base!r}, which is no earlier "
                f"stage{closest(base, [*allowed, *earlier])}"
            )
        if rest and (base in allowed or marks not in reference):
            raise UserError(
                f"stage {name!r}: {field} {reference!r} is not understood; "
                f"write STAGE or STAGE{marks}{'500it' if marks == '@' else 'shuffled'}"
            )
        if marks == "@" and rest:
            try:
                Monitor(every=rest)
            except pydantic.ValidationError as error:
                raise UserError(f"stage {name!r}: {field}: {error.errors()[0]['msg']}") from error
        if marks == ":" and rest not in ("", "shuffled"):
            raise UserError(f"stage {name!r}: start.mask {reference!r}: only ':shuffled' is known")
        return reference

    start = Start(
        weights=resolve(stage.start.weights, "start.weights", ("init", "reinit"), "@"),
        mask=resolve(stage.start.mask, "start.mask", ("none",), ":"),
        score=resolve(stage.start.score, "start.score", ("", "init"), "@"),
    )
    teacher = resolve(stage.teacher, "teacher", ("",), "@")
    return stage.model_copy(update={"name": name, "start": start, "levels": 1, "teacher": teacher})


def kept_lengths(stages: list[Stage], name: str) -> set[str]:
    """Return the lengths at which later stages want the weights of stage `name` (`dense@500it`)."""
    references = [ref for s in stages for ref in (s.start.weights, s.start.score, s.teacher)]
    return {rest for base, rest in map(split_reference, references) if base == name and rest}


def stage_identities(recipe: Recipe, stages: list[Stage]) -> dict[str, str]:
    """Return, by stage, sixteen hex digits that depend on all the recipe says of its result.

    Covered: data, model, seed, what is monitored, the stage itself and the stages it builds upon.
    """
    common = {
        "data": recipe.data,
        "model": recipe.model,
        "seed": recipe.seed,
        "monitor": recipe.monitor.model_dump(exclude_defaults=True),
    }
    found: dict[str, str] = {}
    for stage in stages:
        upon = {name: found[name] for name in sorted(stage.reference_names())}
        plain = stage.model_dump(exclude_defaults=True)
        found[stage.name] = _digest({**common, "stage": plain, "upon": upon}, 16)
    return found


def _digest(data: Any, length: int = 8) -> str:
    text = json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:length]
