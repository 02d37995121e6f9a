"""What verdicts are made of: key figures, plain sentences on accuracies, and how sure they are."""

from dataclasses import dataclass, field
from typing import Literal

from wiry.report.attacks import short_names
from wiry.report.evaluations import Evaluation, Interval
from wiry.report.records import Row, StageData
from wiry.report.words import (
    MISSING,
    SPACE,
    count,
    eps_text,
    norm_text,
    percent,
    percent_interval,
    points,
)

_LONGEST = 160  # letters of an attack in the summary; its section has every setting


@dataclass(frozen=True)
class Tile:
    """One key figure with its interval and the dense network's."""

    title: str
    value: str
    interval: str
    baseline: str


@dataclass(frozen=True)
class Verdict:
    """What the page says first."""

    tone: Literal["found", "not-found", "open"]
    headline: str
    lead: str
    tiles: list[Tile] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Measured:
    """Test numbers of one network, from a search's row or a stage's evaluation."""

    density: float | None
    nonzeros: float | None
    prunable: float | None
    clean: float | None
    clean_interval: Interval | None
    robust: float | None
    robust_interval: Interval | None


def measured(source: Row | StageData | None, evaluation: Evaluation | None) -> Measured | None:
    """Bring a row (with the evaluation of its run, if found) or a stage into one form."""
    if source is None or (isinstance(source, StageData) and evaluation is None):
        return None
    cost = evaluation.cost if evaluation else {}
    numbers = source if isinstance(source, Row) else evaluation
    assert numbers is not None, "a stage without an evaluation has returned above"
    nonzeros = source.nonzeros if isinstance(source, Row) else cost.get("nonzeros")
    return Measured(
        density=source.density,
        nonzeros=nonzeros if nonzeros is not None else cost.get("nonzeros"),
        prunable=cost.get("prunable"),
        clean=numbers.clean_accuracy,
        clean_interval=numbers.clean_interval,
        robust=numbers.robust_accuracy,
        robust_interval=numbers.robust_interval,
    )


def keeps(network: Measured) -> str:
    """Say what share of its weights a network keeps."""
    share = f"keeps {percent(network.density)} of its weights"
    if network.nonzeros is None:
        return share
    if network.prunable is None:
        return f"{share} ({count(network.nonzeros)} non-zero)"
    return f"{share} ({count(network.nonzeros)} of {count(network.prunable)})"


def accuracies(ours: Measured, base: Measured | None, under: str) -> str:
    """Say the accuracies beside the dense network's; `under` is the attack's budget."""
    if ours.clean is None:
        return ""
    text = f"It classifies {percent(ours.clean)} of clean test images correctly"
    if ours.robust is not None:
        text += f" and {percent(ours.robust)} under attack ({under})"
    if base is None or base.clean is None:
        return f"{text}. No dense network was evaluated beside it."
    text += f"; the dense network, {percent(base.clean)}"
    return text + (f" and {percent(base.robust)}." if base.robust is not None else ".")


def budget(numbers: Row | Evaluation) -> str:
    """Write the radius and the norm of an evaluation's attacks."""
    return f"eps{SPACE}{eps_text(numbers.eps)}, {norm_text(numbers.norm)}"


def tiles(ours: Measured, base: Measured | None) -> list[Tile]:
    """Return the key figures: weights left, clean and robust accuracy."""

    def tile(title: str, share: float | None, interval: Interval | None, dense: str) -> Tile:
        low_high = f"95{SPACE}% interval {percent_interval(interval)}" if interval else ""
        return Tile(title, percent(share), low_high, dense)

    def dense(share: float | None, interval: Interval | None) -> str:
        around = f" ({percent_interval(interval)})" if interval else ""
        return "" if share is None else f"dense {percent(share)}{around}"

    kept = f"{count(ours.nonzeros)} of {count(ours.prunable)}" if ours.prunable else ""
    tiles = []
    if ours.density is not None or base:
        tiles.append(
            Tile("Weights left", percent(ours.density), kept, f"dense {percent(1)}" if base else "")
        )
    clean, robust = (base.clean, base.clean_interval) if base else (None, None), (None, None)
    if base:
        robust = (base.robust, base.robust_interval)
    if ours.clean is not None:
        tiles.append(tile("Clean accuracy", ours.clean, ours.clean_interval, dense(*clean)))
    if ours.robust is not None:
        tiles.append(tile("Robust accuracy", ours.robust, ours.robust_interval, dense(*robust)))
    return tiles


def test_facts(numbers: Row | Evaluation, evaluation: Evaluation | None) -> list[tuple[str, str]]:
    """Return by what and on how many images a network was judged."""
    facts = []
    if numbers.robust_accuracy is not None:
        attack = numbers.attack or MISSING
        if evaluation and (evaluation.protocol or len(attack) > _LONGEST):
            attack = attacks_text(evaluation)
        facts.append(("Attack", f"{attack} ({budget(numbers)})"))
    if evaluation:
        name = "Test images" if evaluation.split == "test" else f"Images ({evaluation.split} split)"
        facts.append((name, count(evaluation.num_samples)))
    return facts


def judged_by(evaluation: Evaluation) -> str:
    """Say in few words by what the robust accuracy was found."""
    if evaluation.protocol:
        return evaluation.protocol
    names = short_names(evaluation.attacks)
    return f"worst case of {len(names)} attacks" if len(names) > 1 else "".join(names) or MISSING


def attacks_text(evaluation: Evaluation) -> str:
    """Name the protocol and its attacks."""
    names = ", ".join(short_names(evaluation.attacks))
    return f"{judged_by(evaluation)}: {names}" if names else judged_by(evaluation)


def sureness(ours: Measured, base: Measured | None) -> list[str]:
    """Say for each accuracy whether its interval overlaps the dense network's."""
    if base is None:
        return []
    overlapping, sentences = [], []
    pairs = (
        ("clean", ours.clean, ours.clean_interval, base.clean, base.clean_interval),
        ("robust", ours.robust, ours.robust_interval, base.robust, base.robust_interval),
    )
    for name, share, around, dense, dense_around in pairs:
        if share is None or around is None or dense is None or dense_around is None:
            continue
        if around[0] <= dense_around[1] and dense_around[0] <= around[1]:
            overlapping.append(name)
            continue
        way = "loss" if share < dense else "gain"
        sentences.append(
            f"The {name} intervals do not overlap: the {way} of {points(share - dense)} is "
            "more than the choice of test images explains."
        )
    if overlapping:
        names = " and ".join(overlapping)
        same = f"The {names} intervals overlap: these images do not tell the two networks apart."
        sentences.insert(0, same)
    return sentences
