"""The linear half of Guo et al. 2018: r_2 and r_inf of sparse classifiers of two MNIST digits.

Logistic regression on pixels in [0, 1], made sparse by the size of its weights (the bias is fitted
anew, the weights are not) or by an L1 penalty. r_2 and r_inf are exact, see
`wiry.evaluation.linear`.

    python benchmarks/inverted_u_linear.py OUT/linear.json [--digits 3,7]
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from wiry.data.base import build_dataset
from wiry.evaluation.linear import margins, r_2, r_inf

EPS = (0.05, 0.1, 0.2)
KEPT = (400, 200, 100, 50, 25, 12, 6, 3, 1)  # weights left of those of the dense classifier
STRENGTHS = (10.0, 1.0, 0.1, 0.03, 0.01, 0.004, 0.002, 0.001, 0.0006)  # from weak L1 to strong


def two_digits(split: tuple[Tensor, Tensor], digits: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the images of two digits as vectors, balanced, with labels -1 and 1."""
    x, y = split
    parts = [x[y == digit].flatten(1) for digit in digits]
    num = min(len(part) for part in parts)
    labels = torch.cat([-torch.ones(num), torch.ones(num)])
    return torch.cat([part[:num] for part in parts]), labels


def fit(x: Tensor, y: Tensor, strength: float, l1: bool) -> tuple[Tensor, float]:
    """Fit a logistic regression; `strength` is the inverse of the penalty's weight."""
    penalty, solver = ("l1", "liblinear") if l1 else ("l2", "lbfgs")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # older versions take `penalty`, newer `l1_ratio`: both
        how = {"penalty": penalty, "l1_ratio": 1.0 if l1 else 0.0, "solver": solver}
        found = LogisticRegression(C=strength, max_iter=2000, **how)
        found.fit(x.numpy(), y.numpy())
    return torch.tensor(np.asarray(found.coef_)[0]).float(), float(np.asarray(found.intercept_)[0])


def best_bias(weight: Tensor, x: Tensor, y: Tensor) -> float:
    """Return the bias with the highest training accuracy: the middle of the best gap."""
    scores, order = (x @ weight).sort()
    left = torch.cat([torch.zeros(1), (y[order] == -1).float().cumsum(0)])
    right = torch.cat([(y[order] == 1).float().flip(0).cumsum(0).flip(0), torch.zeros(1)])
    cut = int((left + right).argmax().clamp(1, len(scores) - 1))
    return -float(scores[cut - 1] + scores[cut]) / 2


def row(how: str, weight: Tensor, bias: float, x: Tensor, y: Tensor) -> dict[str, float | str]:
    """Measure one classifier on test points."""
    accuracy = float((margins(weight, bias, x, y) > 0).float().mean())
    length = float(weight.norm())
    return {
        "how": how,
        "nonzeros": int(weight.count_nonzero()),
        "accuracy": accuracy,
        "r_2": r_2(weight, bias, x, y),
        **{f"r_inf-{eps:g}": r_inf(weight, bias, x, y, eps=eps) for eps in EPS},
        "l1 / l2 of the weight": float(weight.abs().sum()) / length if length else 0.0,
    }


def study(digits: tuple[int, int]) -> list[dict[str, float | str]]:
    """Return a row for each classifier."""
    dataset = build_dataset({"name": "mnist", "num_validation": 5000})
    x, y = two_digits(dataset.split("train"), digits)
    test_x, test_y = two_digits(dataset.split("test"), digits)
    dense, bias = fit(x, y, 0.1, l1=False)
    rows = [row("dense", dense, bias, test_x, test_y)]
    for kept in KEPT:
        weight = torch.zeros_like(dense)
        top = dense.abs().topk(kept).indices
        weight[top] = dense[top]
        rows.append(row("magnitude", weight, best_bias(weight, x, y), test_x, test_y))
    for strength in STRENGTHS:
        weight, bias = fit(x, y, strength, l1=True)
        if bool(weight.any()):
            rows.append(row("L1", weight, bias, test_x, test_y))
    return rows


def table(rows: list[dict[str, float | str]]) -> str:
    """Return the rows as Markdown."""
    keys = [key for key in rows[0] if key != "how"]
    lines = ["| by | " + " | ".join(keys) + " |", "|---|" + "---:|" * len(keys)]
    for each in rows:
        cells = [str(each[k]) if k == "nonzeros" else f"{each[k]:.3f}" for k in keys]
        lines.append(f"| {each['how']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--digits", default="3,7")
    given = parser.parse_args()
    torch.set_num_threads(1)
    np.random.seed(0)  # liblinear shuffles
    first, second = (int(digit) for digit in given.digits.split(","))
    results = study((first, second))
    given.out.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))
