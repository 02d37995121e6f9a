"""Compare AutoAttack here with its reference, image by image, on nine small trained networks.

Three data sets x (adversarially trained, the same at 95 % sparsity, naturally trained). Networks
that OUT does not have are trained first (about ten CPU-minutes in all). Verdicts are decided by
the network itself on the images that either side returned; ours must lie in the ball. Images with
two verdicts are attacked again by both sides with two more seeds. With --yardstick the reference
runs with a second seed, too, and "itself" counts on how many images it differs from itself.

    pip install --no-deps pyautoattack==0.2.0
    WIRY_DATA=... python benchmarks/agreement.py runs/agreement
    python benchmarks/agreement.py runs/agreement --networks digits/natural --norm l1 --num 200
    python benchmarks/agreement.py runs/agreement --table      # only print what is there
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import wiry

STAGES = ("adversarial", "adversarial-95", "natural")
ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")
ORDERS = {"linf": float("inf"), "l2": 2.0, "l1": 1.0}
NUM = {"digits": 801, "mnist": 500, "cifar10": 500}
EPS = {  # adversarially trained / naturally trained, so that a good part of the images stands
    "linf": {"digits": (0.1, 0.05), "mnist": (0.15, 0.08), "cifar10": (2 / 255, 1 / 255)},
    "l2": {"digits": (0.6, 0.3), "mnist": (1.5, 0.75), "cifar10": (0.25, 0.06)},
    "l1": {"digits": (1.2, 0.6), "mnist": (8.0, 4.0), "cifar10": (4.0, 1.0)},
}
COLUMNS = (
    *("data", "network", "norm", "eps", "n", "clean", "ours", "reference", "differ"),
    *("only ours fools", "only reference fools", "itself", "ours s", "reference s"),
)


def recipe(
    data: dict[str, Any],
    model: str,
    epochs: int,
    optimizer: dict[str, Any],
    attack: dict[str, Any],
) -> dict[str, Any]:
    """Return a recipe of the three networks of one data set."""
    against = {"objective": {"name": "adversarial", "attack": attack}}
    shared = {"epochs": epochs, "optimizer": optimizer}
    sparse = {"sparsifier": {"name": "magnitude", "sparsity": 0.95}}
    return {
        "name": f"agreement-{data['name']}",
        "data": data,
        "model": model,
        "stages": [
            {"name": STAGES[0], **shared, **against},
            {"name": STAGES[1], **shared, **against, **sparse, "start": {"weights": STAGES[0]}},
            {"name": STAGES[2], **shared},
        ],
    }


def recipes() -> dict[str, dict[str, Any]]:
    """Return the recipe of each data set."""
    adam = {"name": "adam", "lr": 0.003, "decay": "cosine"}
    sgd = {"name": "sgd", "lr": 0.1, "weight_decay": 0.0005, "decay": "cosine"}
    pgd = {"name": "pgd", "eps": 0.1, "steps": 5, "step_size": 0.04}
    fgsm = {"name": "fgsm", "eps": 2 / 255, "random_start": True}
    digits = {"name": "digits", "num_validation": 100, "num_test": 801}
    mnist, cifar = {"name": "mnist", "num_train": 8000}, {"name": "cifar10", "num_train": 8000}
    return {
        "digits": recipe(digits, "cnn-small", 20, adam, pgd),
        "mnist": recipe(mnist, "lenet5", 5, {**adam, "lr": 0.001}, pgd),
        "cifar10": recipe(cifar, "cnn-small", 8, sgd, fgsm),
    }


class Case:
    """One network, its images and the ball they may move in."""

    def __init__(self, out: Path, name: str, norm: str, num: int | None, eps: float | None):
        data, _, stage = name.partition("/")
        parsed = wiry.parse_recipe(recipes()[data])
        run = wiry.train_recipe(parsed, out)
        self.model, _ = wiry.load_stage(run, stage)
        x, y = wiry.build_dataset(parsed.data).split("test")
        num = NUM[data] if num is None else num
        self.data, self.stage, self.norm = data, stage, norm
        self.x, self.y = x[:num], y[:num]
        self.eps = EPS[norm][data][stage == "natural"] if eps is None else eps
        self.out = out
        self.name = f"{data}-{stage}-{norm}-{self.eps:.6f}-{num}"

    def ours(self, rows: slice | Tensor, seed: int) -> tuple[Tensor, list[str]]:
        """Return our images and which attack found each, "" where none did."""
        judge = wiry.AutoAttack(self.model, self.norm, self.eps, seed=seed)
        found = judge.run_standard_evaluation(self.x[rows], self.y[rows])
        assert judge.table is not None
        by = [""] * len(found)
        for name, still in reversed(
            list(zip(ATTACKS, judge.table.by_attack.values(), strict=True))
        ):
            by = [old if kept else name for old, kept in zip(by, still, strict=True)]
        return found, by

    def reference(self, rows: slice | Tensor, seed: int, attack: str | None = None) -> Tensor:
        """Return the reference's images, of one of its attacks or of all in turn."""
        from pyautoattack import AutoAttack  # type: ignore[reportMissingImports] # not declared

        norm = {"linf": "Linf", "l2": "L2", "l1": "L1"}[self.norm]
        judge = AutoAttack(self.model, norm=norm, eps=self.eps, seed=seed, version="standard")
        if attack is not None:
            judge.attacks_to_run = [attack]
        return judge.run_standard_evaluation(self.x[rows], self.y[rows], batch_size=250)[0]

    def kept_reference(self, seed: int) -> dict[str, Any]:
        """Return what the reference found on all images; kept in a file, as it does not change."""
        path = self.out / "reference" / f"{self.name}-{seed}.json"
        if not path.exists():
            start = time.process_time()
            images = self.reference(slice(None), seed)
            found = {
                "seconds": time.process_time() - start,
                "stands": self.stands(images, slice(None)).tolist(),
                "farthest": self.farthest(images),
            }
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found))
        return json.loads(path.read_text())

    def stands(self, images: Tensor, rows: slice | Tensor) -> Tensor:
        """Return whether the network is right on images, asked again."""
        return predictions(self.model, images) == self.y[rows]

    def farthest(self, images: Tensor) -> float:
        """Return the largest distance from the clean images, in eps."""
        offsets = (images.double() - self.x.double()).flatten(1)
        return float(offsets.norm(p=ORDERS[self.norm], dim=1).max()) / self.eps


@torch.no_grad()
def predictions(model: nn.Module, x: Tensor) -> Tensor:
    """Return the network's classes."""
    return torch.cat([model(part).argmax(1) for part in x.split(250)])


def compare(case: Case, seed: int, yardstick: bool) -> dict[str, Any]:
    """Return one row of the table, with a list of the images that have two verdicts."""
    everything = slice(None)
    theirs = case.kept_reference(seed)
    start = time.process_time()
    images, by = case.ours(everything, seed)
    end = time.process_time()
    farthest = case.farthest(images)
    assert 0 <= float(images.min()) and float(images.max()) <= 1, "a pixel is outside [0, 1]"
    assert farthest <= 1 + 1e-5, f"an image is at {farthest:.6f} eps"
    ours, reference = case.stands(images, everything), torch.tensor(theirs["stands"])
    itself = None
    if yardstick:
        other = torch.tensor(case.kept_reference(seed + 1)["stands"])
        itself = int((other != reference).sum())
    differing = (ours != reference).nonzero().squeeze(1)
    return {
        **{"data": case.data, "network": case.stage, "norm": case.norm, "eps": case.eps},
        **{"n": len(case.y), "seed": seed},
        "clean": float(case.stands(case.x, everything).float().mean()),
        "ours": float(ours.float().mean()),
        "reference": float(reference.float().mean()),
        "differ": len(differing),
        "only ours fools": int((reference & ~ours).sum()),
        "only reference fools": int((ours & ~reference).sum()),
        "itself": itself,
        "ours s": end - start,
        "reference s": theirs["seconds"],
        "farthest": [farthest, theirs["farthest"]],
        "found by": {name: by.count(name) for name in ATTACKS},
        "differing": again(case, differing, by, seed),
    }


def again(case: Case, rows: Tensor, by: list[str], seed: int) -> list[dict[str, Any]]:
    """Attack images with two verdicts once more with two seeds; say who fools each when."""
    if len(rows) == 0:
        return []
    seeds = [seed, seed + 1, seed + 2]
    ours = [case.stands(case.ours(rows, each)[0], rows) for each in seeds]
    theirs = [case.stands(case.reference(rows, each), rows) for each in seeds]
    parts = {name: case.stands(case.reference(rows, seed, name), rows) for name in ATTACKS}
    return [
        {
            "index": int(index),
            "ours found by": by[int(index)],
            "reference found by": [name for name in ATTACKS if not parts[name][i]],
            "ours fools": [not bool(one[i]) for one in ours],
            "reference fools": [not bool(one[i]) for one in theirs],
        }
        for i, index in enumerate(rows)
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown, and a line for each image that has two verdicts."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|---|---|" + "---:|" * (len(COLUMNS) - 3)]
    notes = []
    for row in sorted(rows, key=lambda r: (list(ORDERS).index(r["norm"]), r["data"], r["network"])):
        values = dict(row, eps=f"{row['eps']:.4g}")
        values |= {name: f"{100 * row[name]:.1f}" for name in ("clean", "ours", "reference")}
        values["itself"] = "-" if row["itself"] is None else row["itself"]
        values |= {name: f"{row[name]:.0f}" for name in ("ours s", "reference s")}
        lines.append("| " + " | ".join(str(values[name]) for name in COLUMNS) + " |")
        for one in row["differing"]:
            notes.append(f"{row['data']}/{row['network']} {row['norm']}: {json.dumps(one)}")
    return "\n".join([*lines, "", *notes])


def main() -> None:
    """Compare the networks that are asked for, then print all rows that the folder has."""
    names = [f"{data}/{stage}" for data in recipes() for stage in STAGES]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of the trained networks and the rows")
    parser.add_argument("--networks", default=",".join(names), help="DATA/NETWORK,...")
    parser.add_argument("--norm", choices=ORDERS, default="linf")
    parser.add_argument("--num", type=int, help="test images; default 500, digits all 801")
    parser.add_argument("--eps", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--yardstick", action="store_true", help="two seeds of the reference")
    parser.add_argument("--train", action="store_true", help="only train")
    parser.add_argument("--table", action="store_true", help="only print what is there")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    rows = chosen.out / "rows"
    rows.mkdir(parents=True, exist_ok=True)
    for name in [] if chosen.table else chosen.networks.split(","):
        case = Case(chosen.out, name, chosen.norm, chosen.num, chosen.eps)
        if not chosen.train:
            row = compare(case, chosen.seed, chosen.yardstick)
            (rows / f"{case.name}-{chosen.seed}.json").write_text(json.dumps(row, indent=1))
            print(table([row]), flush=True)
    print(table([json.loads(path.read_text()) for path in sorted(rows.glob("*.json"))]))


if __name__ == "__main__":
    main()
