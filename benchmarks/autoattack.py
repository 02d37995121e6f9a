"""Time AutoAttack (standard, linf) against the reference and against the model calls it makes.

    WIRY_DATA=... PYTHONPATH=FOLDER_OF_PYAUTOATTACK python benchmarks/autoattack.py

Both attack the same images of a small network trained on CIFAR-10, in turns, in one process on one
thread; what counts is the process's CPU time, which other jobs disturb less than the wall clock.
The floor is the answers that our run asked of the network (images looked at and gradients taken, by
batch size), each at its price alone on the copy that attacks search on. `pyautoattack` is the
reference's code as a package (`pip install --no-deps --target FOLDER pyautoattack==0.2.0`); without
it only the floor is compared.
"""

import argparse
import contextlib
import importlib.util
import json
import logging
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from cifar_network import trained_network
from model_calls import Calls, Kind, call_seconds, cost, counting
from wiry.attacks.presets import autoattack
from wiry.evaluation.autoattack import AutoAttack
from wiry.evaluation.screened import evaluate_screened
from wiry.evaluation.session import Session

COMPONENTS = ("apgd-ce", "apgd-t", "fab-t", "square")
Seconds = dict[str, float]
Counts = Mapping[Kind, int]


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description="Time AutoAttack")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--eps", type=float, default=4, help="of 255")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alone", action="store_true", help="leave the reference out")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.images, options.eps / 255, options.rounds, options.alone)
    print(json.dumps(found, indent=2) if options.json else table(found))


def measure(num_images: int, eps: float, num_rounds: int, alone: bool) -> dict[str, Any]:
    """Return medians over the rounds, and the counts, which no machine changes."""
    model, x, y = trained_network(num_images)
    call_seconds(model, x, with_gradient=True)  # a process pays once for its first gradient
    has_reference = not alone and importlib.util.find_spec("pyautoattack") is not None
    ours, theirs, floors, ratios, screenings = [], [], [], [], []
    kept = their_kept = None
    counts: dict[str, Counts] = {}
    for _ in range(num_rounds):
        seconds, kept, calls, counts = run_ours(model, x, y, eps)
        ours.append(seconds)
        screenings.append(run_screened(model, x, y, eps))
        prices = calls.prices(x)
        floors.append({name: cost(part, prices) for name, part in counts.items()})
        if has_reference:
            reference, their_kept = run_reference(model, x, y, eps)
            theirs.append(reference)
            ratios.append(reference["total"] / seconds["total"])
    assert kept is not None
    return {
        "torch": torch.__version__,
        "num_images": num_images,
        "eps": eps,
        "num_rounds": num_rounds,
        "num_robust": int(kept.sum()),
        "num_verdicts_apart": None if their_kept is None else int((kept != their_kept).sum()),
        "sample_forwards": sum(kind.batch_size * n for kind, n in counts["total"].items()),
        "sample_backwards": sum(
            kind.batch_size * n for kind, n in counts["total"].items() if kind.with_gradient
        ),
        "ours": medians(ours),
        "screened": medians([seconds for seconds, _ in screenings]),
        "screening": screenings[0][1],
        "reference": medians(theirs),
        "floor": medians(floors),
        "ours_to_floor": statistics.median(
            o["total"] / f["total"] for o, f in zip(ours, floors, strict=True)
        ),
        "reference_to_ours": statistics.median(ratios) if ratios else None,
    }


def run_ours(
    model: nn.Module, x: Tensor, y: Tensor, eps: float
) -> tuple[Seconds, Tensor, Calls, dict[str, Counts]]:
    """Return CPU seconds by component, which images stand, and the calls that were made."""
    seconds: Seconds = {}
    counts: dict[str, Counts] = {}
    put = Session.put
    with counting(model) as calls:

        def timed(self: Session, *args: Any) -> None:
            name = COMPONENTS[len(seconds)]
            before, began = calls.counts.copy(), time.process_time()
            put(self, *args)
            seconds[name] = time.process_time() - began
            counts[name] = calls.counts - before

        Session.put = timed  # pyright: ignore[reportAttributeAccessIssue] # same call
        try:
            began = time.process_time()
            found = AutoAttack(model, eps=eps).run_standard_evaluation(x, y)
            seconds["total"] = time.process_time() - began
        finally:
            Session.put = put
    counts["total"] = calls.counts.copy()
    return seconds, stands(model, found, y), calls, counts


def run_screened(
    model: nn.Module, x: Tensor, y: Tensor, eps: float
) -> tuple[Seconds, dict[str, Any]]:
    """Return the CPU seconds of a screening, and what its audit says."""
    began = time.process_time()
    table, screening = evaluate_screened(model, x, y, autoattack(eps))
    seconds = {"total": time.process_time() - began}
    return seconds, {"num_robust": int(table.robust.sum()), **screening.to_data()}


def run_reference(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> tuple[Seconds, Tensor]:
    """Return CPU seconds by component, and which images stand, of the reference."""
    import pyautoattack  # pyright: ignore[reportMissingImports] # optional

    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    attack = pyautoattack.AutoAttack(model, norm="Linf", eps=eps, seed=0)
    seconds: Seconds = dict.fromkeys(COMPONENTS, 0.0)
    parts = (attack.apgd, attack.apgd_targeted, attack.fab, attack.square)
    for name, part in zip(COMPONENTS, parts, strict=True):
        part.perturb = adding(seconds, name, part.perturb)
    with quiet():
        began = time.process_time()
        found, _ = attack.run_standard_evaluation(x, y, batch_size=len(x))
        total = time.process_time() - began
    model.zero_grad()  # the reference leaves gradients behind
    return seconds | {"total": total}, stands(model, found, y)


def adding(seconds: Seconds, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return `work`, which adds its CPU seconds to those of a name."""

    def timed(*args: Any, **options: Any) -> Any:
        began = time.process_time()
        try:
            return work(*args, **options)
        finally:
            seconds[name] += time.process_time() - began

    return timed


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep a contestant from printing."""
    with contextlib.redirect_stdout(None):
        yield


@torch.no_grad()
def stands(model: nn.Module, found: Tensor, y: Tensor) -> Tensor:
    """Return which images the network itself gets right."""
    return model(found).argmax(1) == y


def medians(rows: list[Seconds]) -> Seconds:
    """Return the median of each entry."""
    return {name: statistics.median(row[name] for row in rows) for name in (rows or [{}])[0]}


def table(found: dict[str, Any]) -> str:
    """Return the table of one measurement."""
    lines = [
        f"torch {found['torch']}, 1 thread, {found['num_rounds']} rounds, medians; "
        f"{found['num_images']} images, eps {255 * found['eps']:g}/255, "
        f"{found['num_robust']} robust; verdicts apart: {found['num_verdicts_apart']}",
        f"{found['sample_forwards']} images looked at, {found['sample_backwards']} gradients taken",
        f"{'CPU s':<12}" + "".join(f"{name:>10}" for name in (*COMPONENTS, "total")),
    ]
    for name in ("ours", "floor", "reference", "screened"):
        values = [found[name].get(key) for key in (*COMPONENTS, "total")]
        cells = ["-" if value is None else f"{value:.1f}" for value in values]
        lines.append(f"{name:<12}" + "".join(f"{cell:>10}" for cell in cells))
    lines.append(f"ours / floor {found['ours_to_floor']:.2f} (target: at most 1.35)")
    ratio = found["reference_to_ours"]
    shown = "not measured: pyautoattack is absent" if ratio is None else f"{ratio:.2f}"
    lines.append(f"reference / ours {shown} (target: at least 2.5)")
    audit = found["screening"]
    if found["reference"]:
        times = found["reference"]["total"] / found["screened"]["total"]
        lines.append(f"reference / screened {times:.2f} (target: at least 6)")
    lines.append(
        f"screened: {audit['num_robust']} robust of {audit['num_survivors']} survivors, "
        f"{audit['num_suspects']} suspects, {audit['num_audited']} audited, {audit['num_flips']} "
        f"flips; AutoAttack lower by at most {100 * audit['accuracy_bound']:.1f} points (95 %)"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
