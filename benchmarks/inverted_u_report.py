"""Tables and the plot of the inverted U, from what `inverted_u.py measure` has written.

python benchmarks/inverted_u_report.py OUT docs/images/guo-mnist.png
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import NullFormatter

from wiry.evaluation.turning import turning_point

COLUMNS = ("clean", "fgsm-0.1", "rfgsm-0.1", "pgd-0.02", "pgd-0.05", "pgd-0.1", "square-0.05",
           "rho_2", "r_2")  # fmt: skip
TURNING = ("clean", "fgsm-0.05", "fgsm-0.1", "fgsm-0.2", "rfgsm-0.05", "rfgsm-0.1", "rfgsm-0.2",
           "pgd-0.02", "pgd-0.05", "pgd-0.1", "rho_2", "r_2")  # fmt: skip
SHARES = {"rho_2", "r_2"}  # not shares of images: printed as they are

Point = dict[str, np.ndarray]  # values by seed and image
Curve = dict[str, Point]  # by stage


def read(folder: Path) -> dict[str, Curve]:
    """Return values by method, stage and measure; shares of weights and units by seed only."""
    found: dict[str, dict[str, dict[str, list]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as file:
            told = json.loads(str(file["told"]))
            method = told["method"].rpartition("-")[0] or told["method"]
            for key in set(file) - {"told"}:
                found[method][told["stage"]][key].append(file[key])
        for key in ("weight_density", "active", "crossed"):
            found[method][told["stage"]][key].append(np.array([told[key]]))
    return {
        method: {
            stage: {key: np.stack(values) for key, values in point.items()}
            for stage, point in sorted(stages.items(), key=lambda item: sparseness(item[0]))
        }
        for method, stages in found.items()
    }


def sparseness(stage: str) -> float:
    """Return what grows with the sparsity that was asked for: an L1 weight, or minus a density."""
    return share_of(stage) if stage.startswith("l1") else -share_of(stage)


def share_of(stage: str) -> float:
    """Return the number at the end of a stage's name."""
    return float(stage.rpartition("-")[2])


def cell(values: np.ndarray, measure: str) -> str:
    """Write the mean over seeds and their sample standard deviation."""
    by_seed = values.mean(axis=1)
    scale, digits = (1, 3) if measure in SHARES else (100, 1)
    spread = f" ± {scale * by_seed.std(ddof=1):.{digits}f}" if len(by_seed) > 1 else ""
    return f"{scale * by_seed.mean():.{digits}f}{spread}"


def levels(curve: Curve) -> list[str]:
    """Return the table of one curve."""
    head = ["stage", "weights %", "active %", *COLUMNS]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    for stage, point in curve.items():
        row = [stage]
        row += [f"{100 * point[k].mean():.1f}" for k in ("weight_density", "active")]
        row += [cell(point[measure], measure) for measure in COLUMNS]
        if (crossed := point["crossed"].min()) < 1:  # then distances are not what they say
            row[-2:] = [f"{value} ({100 * crossed:.0f} % across)" for value in row[-2:]]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def turns(curve: Curve) -> list[str]:
    """Return the table of turning points, most robust density with its interval."""
    stages = list(curve)
    head = ["measure", "best", "95 % interval", "gain", "held-out gain (least seed)",
            "fall at the end", "inside", "inverted U"]  # fmt: skip
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 2) + "---|"]
    for measure in TURNING:
        values = np.stack([curve[stage][measure] for stage in stages]).astype(float)
        found = turning_point(values, generator=np.random.default_rng(0))
        scale, digits = (1, 3) if measure in SHARES else (100, 1)

        def write(value: float, scale: int = scale, digits: int = digits) -> str:
            return f"{scale * value:+.{digits}f}"

        low, high = found.interval
        row = [
            measure,
            f"{share_of(stages[found.best]):g}",
            f"{share_of(stages[high]):g} to {share_of(stages[low]):g}",
            write(found.gain),
            f"{write(found.held_out_gain)} ({write(found.held_out_range[0])})",
            f"{write(-found.fall)} ({write(-found.fall_interval[0])})",
            f"{100 * found.share_inside:.0f} %",
            "yes" if found.is_inverted_u() else "no",
        ]
        lines.append("| " + " | ".join(row) + " |")
    return lines


def with_dense(curve: Curve, dense: tuple[str, Point]) -> Curve:
    """Put the dense network with plain ReLU in front of a curve of sparse activations."""
    return {dense[0]: dense[1], **curve}


def draw(curves: dict[str, Curve], pruned: str, path: Path) -> None:
    """Draw accuracy and distance against the share of weights and of active units."""
    figure, axes = plt.subplots(2, 2, figsize=(10, 7), sharex="col", layout="constrained")
    weights = curves[pruned]
    lines = {"clean": "black", "fgsm-0.1": "tab:blue", "rfgsm-0.1": "tab:cyan",
             "pgd-0.05": "tab:red", "pgd-0.1": "tab:orange",
             "square-0.05": "tab:purple"}  # fmt: skip
    at = [share_of(stage) for stage in weights]
    for measure, colour in lines.items():
        band(axes[0, 0], at, [weights[s][measure] for s in weights], measure, colour, "o-")
    band(axes[1, 0], at, [weights[s]["rho_2"] for s in weights], "rho_2", "tab:green", "o-")
    styles = {"k-wta": "s-", "shifted-relu": "^--", "l1": "v:"}
    for kind in (kind for kind in styles if kind in curves):
        curve = curves[kind]
        at = [float(point["active"].mean()) for point in curve.values()]
        panels = [("fgsm-0.1", axes[0, 1]), ("pgd-0.05", axes[0, 1]), ("square-0.05", axes[0, 1])]
        for measure, axis in (*panels, ("rho_2", axes[1, 1])):
            values = [point[measure] for point in curve.values()]
            colour = lines.get(measure, "tab:green")
            band(axis, at[1:], values[1:], f"{kind}: {measure}", colour, styles[kind])
            axis.plot(at[0], values[0].mean(), "*", color=colour, markersize=11)
    for row, label in enumerate(("accuracy", "rho_2 (DeepFool distance / length)")):
        for column in (0, 1):
            axes[row, column].set(xscale="log", ylabel=label)
            axes[row, column].grid(alpha=0.3)
            axes[row, column].legend(fontsize=7, ncols=3 if row == 0 else 1)
            axes[row, column].xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes[row, column].xaxis.set_minor_formatter(NullFormatter())
    for column in (0, 1):
        axes[0, column].set_ylim(-0.02, 1.28)  # room for the legend
    for column, label in enumerate(("share of weights kept", "share of active units")):
        axes[1, column].set_xlabel(f"{label} (sparser to the right)")
        axes[1, column].invert_xaxis()
    figure.suptitle(
        "LeNet-300-100 on MNIST, natural training; mean and range of the seeds; star: plain ReLU"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def band(axis: Axes, at: list[float], values: list, label: str, colour: str, style: str) -> None:
    """Draw the mean over seeds with the range of the seeds around it."""
    by_seed = [value.mean(axis=1) for value in values]
    axis.plot(at, [v.mean() for v in by_seed], style, color=colour, label=label, markersize=4)
    axis.fill_between(
        at, [v.min() for v in by_seed], [v.max() for v in by_seed], color=colour, alpha=0.15
    )


if __name__ == "__main__":
    measured = read(Path(sys.argv[1]) / "measures")
    by_weights = [method for method in ("surgery", "gradual") if method in measured]
    # drawn, and the dense network taken from, is the method whose every density has most seeds
    pruned = max(by_weights, key=lambda m: min(len(p["clean"]) for p in measured[m].values()))
    dense = next(iter(measured[pruned].items()))
    ordered: dict[str, Curve] = {method: measured[method] for method in by_weights}
    for kind in ("k-wta", "shifted-relu", "l1"):
        if kind in measured:
            ordered[kind] = with_dense(measured[kind], dense)
    for kind, curve in ordered.items():
        seeds = {len(point["clean"]) for point in curve.values()}
        print(f"\n### {kind} (seeds: {seeds})\n")
        print("\n".join(levels(curve)))
        whole = {s: point for s, point in curve.items() if len(point["clean"]) == max(seeds)}
        if len(whole) > 2 and max(seeds) > 1:
            print()
            print("\n".join(turns(whole)))
    draw(ordered, pruned, Path(sys.argv[2]))
