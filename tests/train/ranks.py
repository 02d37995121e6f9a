"""Train a recipe on several ranks of this machine, for tests: gloo, one process a rank."""

import sys
import time
import traceback
from pathlib import Path

import torch
from torch import distributed, multiprocessing

from wiry.core.recipe import Recipe
from wiry.train.stages import Session, train

SECONDS = 120


class _KeepState:
    """An observer that writes mask and weights of its rank after the last batch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, training) -> None:
        if training.progress.num_batches == training.num_batches:
            weights = {n: v.clone() for n, v in training.model.state_dict().items()}
            mask = {n: v.clone() for n, v in training.state.mask.items()}
            kept = {"mask": mask, "weights": weights}
            torch.save(kept, self.folder / f"{training.name}-{distributed.get_rank()}.pt")


def _rank(rank: int, num_ranks: int, recipe: dict, out: Path) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(str(out / "store"), num_ranks)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=num_ranks)
    try:
        session = Session(checkpoint_seconds=0.0, observers=(_KeepState(out),))
        train(Recipe.model_validate(recipe), out, session)
    except BaseException:
        traceback.print_exc(file=sys.stderr)
        raise
    finally:
        distributed.destroy_process_group()


def train_on_ranks(recipes: list[Recipe], out: Path, num_ranks: int = 2) -> None:
    """Train recipes one after another on ranks that are started once; see `states`."""
    out.mkdir(parents=True, exist_ok=True)
    plain = [recipe.model_dump(exclude_defaults=True) for recipe in recipes]
    ranks = multiprocessing.spawn(_all, args=(num_ranks, plain, out), nprocs=num_ranks, join=False)
    end = time.monotonic() + SECONDS
    while not ranks.join(timeout=1):
        assert time.monotonic() < end, "the ranks have not ended in time"


def _all(rank: int, num_ranks: int, recipes: list[dict], out: Path) -> None:
    for number, recipe in enumerate(recipes):
        folder = out / str(number)
        folder.mkdir(exist_ok=True)
        _rank(rank, num_ranks, recipe, folder)


def states(folder: Path, stage: str, num_ranks: int = 2) -> list[dict]:
    """Return what each rank had at the end of a stage: its mask and its weights."""
    return [torch.load(folder / f"{stage}-{rank}.pt") for rank in range(num_ranks)]
