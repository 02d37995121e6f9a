"""Time PGD-20 (linf) against its floor and against other libraries.

    WIRY_DATA=... PYTHONPATH=FOLDER_OF_THE_LIBRARIES python benchmarks/pgd.py

The libraries are torchattacks 3.5.1, Foolbox 3.3.4 (with eagerpy, GitPython, gitdb and smmap) and
ART 1.20.1 (with six and tqdm), installed with `pip install --no-deps --target FOLDER`; one that is
absent is skipped and named. All attack the same images of a small network trained on CIFAR-10, with
the same budget and steps, in turns, in one process on one thread; CPU time counts. Ours is what an
evaluation does: the network is copied and folded, attacked, and each image is checked; "on the
copy" leaves out the first, which an evaluation does once. The floor is 20 forwards with the
gradient on the input, parameters frozen, channels last, folded, in plain torch. Nobody stops early.
"""

import argparse
import functools
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from cifar_network import trained_network
from wiry.attacks.pgd import PGD
from wiry.core.draws import draws_of
from wiry.evaluation.fold import arranged, folded
from wiry.evaluation.judge import adversarials

STEPS, STEP_SIZE = 20, 1 / 255
Attacked = Callable[[nn.Module, Tensor, Tensor, float], Tensor]


def main() -> None:
    """Print a table, or JSON."""
    parser = argparse.ArgumentParser(description="Time PGD-20")
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--eps", type=float, default=4, help="of 255")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = measure(options.images, options.eps / 255, options.rounds)
    print(json.dumps(found, indent=2) if options.json else table(found))


def measure(num_images: int, eps: float, num_rounds: int) -> dict[str, Any]:
    """Return medians over the rounds; ratios are taken within a round."""
    model, x, y = trained_network(num_images)
    peers = {"torchattacks": torchattacks, "foolbox": foolbox, "art": art}
    present = {name: run for name, run in peers.items() if importlib.util.find_spec(name)}
    searched, _ = folded(model, x[:8])
    contestants: dict[str, Attacked] = {
        "floor": functools.partial(floor, searched),
        "on the copy": functools.partial(ours, searched),
        "ours": folding,
        **present,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    robust = {}
    for round_ in range(num_rounds + 1):  # the first warms up
        for name, attacked in contestants.items():
            began = time.process_time()
            found = attacked(model, x, y, eps)
            took = time.process_time() - began
            model.zero_grad()  # some leave gradients behind
            if round_ > 0:
                seconds[name].append(took)
            with torch.no_grad():
                robust[name] = int((model(found).argmax(1) == y).sum())
    rows = [
        {
            "name": name,
            "seconds": statistics.median(taken),
            "to_floor": ratio(taken, seconds["floor"]),
            "to_ours": ratio(taken, seconds["ours"]),
            "num_robust": None if name == "floor" else robust[name],
        }
        for name, taken in seconds.items()
    ]
    absent = [name for name in peers if name not in present]
    return {
        "torch": torch.__version__,
        "num_images": num_images,
        "eps": eps,
        "num_rounds": num_rounds,
        "rows": rows,
        "absent": absent,
    }


def ratio(above: list[float], below: list[float]) -> float:
    """Return the median over rounds of the ratios."""
    return statistics.median(a / b for a, b in zip(above, below, strict=True))


def floor(searched: nn.Module, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Call the folded network as often as the attack must; return the images as they are."""
    image = arranged(searched, x).clone().requires_grad_()
    for _ in range(STEPS):
        loss = nn.functional.cross_entropy(searched(image), y, reduction="sum")
        torch.autograd.grad(loss, image)
    return x


def ours(searched: nn.Module, model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Attack as an evaluation does that has its copy already; every image is checked."""
    attack = PGD(eps, steps=STEPS, step_size=STEP_SIZE)
    return adversarials(searched, attack, x, y, draws_of(0, index=torch.arange(len(x))))


def folding(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Copy and fold the network for these images alone, then attack."""
    searched, _ = folded(model, x[:8])
    return ours(searched, model, x, y, eps)


def torchattacks(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Attack with torchattacks."""
    import torchattacks as library  # pyright: ignore[reportMissingImports]

    return library.PGD(model, eps=eps, alpha=STEP_SIZE, steps=STEPS, random_start=True)(x, y)


def foolbox(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Attack with Foolbox."""
    import foolbox as library  # pyright: ignore[reportMissingImports]

    wrapped = library.PyTorchModel(model, bounds=(0, 1), device="cpu")
    attack = library.attacks.LinfPGD(abs_stepsize=STEP_SIZE, steps=STEPS, random_start=True)
    return attack(wrapped, x, y, epsilons=eps)[1]


def art(model: nn.Module, x: Tensor, y: Tensor, eps: float) -> Tensor:
    """Attack with ART."""
    from art.attacks.evasion import (  # pyright: ignore[reportMissingImports]
        ProjectedGradientDescent,
    )
    from art.estimators.classification import (  # pyright: ignore[reportMissingImports]
        PyTorchClassifier,
    )

    wrapped = PyTorchClassifier(
        model=model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )
    attack = ProjectedGradientDescent(
        wrapped,
        eps=eps,
        eps_step=STEP_SIZE,
        max_iter=STEPS,
        num_random_init=1,
        batch_size=len(x),
        verbose=False,
    )
    return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))


def table(found: dict[str, Any]) -> str:
    """Return the table of one measurement."""
    lines = [
        f"torch {found['torch']}, 1 thread, {found['num_rounds']} rounds, medians; PGD-{STEPS}, "
        f"{found['num_images']} images, eps {255 * found['eps']:g}/255",
        f"{'':<14}{'CPU s':>8}{'/ floor':>9}{'/ ours':>8}{'robust':>8}",
    ]
    for row in found["rows"]:
        left = "-" if row["num_robust"] is None else row["num_robust"]
        lines.append(
            f"{row['name']:<14}{row['seconds']:>8.3f}{row['to_floor']:>9.2f}"
            f"{row['to_ours']:>8.2f}{left:>8}"
        )
    lines += [f"skipped, not installed: {name}" for name in found["absent"]]
    lines.append("targets: on the copy / floor at most 1.1, others / ours at least 1.3")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
