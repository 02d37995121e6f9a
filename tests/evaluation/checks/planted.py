"""Small trained networks, ways to spoil them, and subjects to put to the checks."""

import dataclasses
import functools

import torch
from torch import nn
from torch.nn import functional

from wiry.attacks.apgd import APGD
from wiry.attacks.pgd import PGD
from wiry.attacks.square import Square
from wiry.core.registry import registry
from wiry.data.base import build_dataset
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.judge import frozen, predict
from wiry.evaluation.subject import Subject

EPS = 0.15
SHORT = (PGD(EPS, steps=20, loss="margin"),)
LONG = (APGD(EPS, steps=20), APGD(EPS, loss="targeted-dlr", steps=10), Square(EPS, num_queries=50))


@functools.cache
def digits():
    """Return training images, their labels, and 100 others with theirs."""
    data = build_dataset("digits")
    train, test = data.split("train"), data.split("test")
    return *train, test[0][:100], test[1][:100]


class Scaled(nn.Module):
    """A network on (x - 0.6) / 0.2; where that is not a layer, callers have to do it."""

    def __init__(self, has_layer=True):
        super().__init__()
        self.has_layer = has_layer
        self.body = nn.Sequential(
            nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 32), nn.ReLU(),
            nn.Linear(32, 10),
        )  # fmt: skip

    def forward(self, x):
        return self.body(scaled(x) if self.has_layer else x)


def scaled(x):
    return (x - 0.6) / 0.2


@functools.cache
def trained(kind="natural", seed=0):
    """Return a network trained for a second: "natural", "adversarial", "outside" (layer taken off).

    Callers must not change it.
    """
    x, y = digits()[:2]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Scaled()
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    attack = PGD(EPS, steps=3)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(150):
        chosen = torch.randint(len(x), (128,), generator=generator)
        images, labels = x[chosen], y[chosen]
        if kind == "adversarial":
            images = attack(model, images, labels, generator)
        optimizer.zero_grad()
        functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    model.has_layer = kind != "outside"
    return model.eval()


class Spoiled(nn.Module):
    """A network with something before and something after it."""

    def __init__(self, model, before=None, after=None):
        super().__init__()
        self.model, self.before, self.after = model, before, after

    def forward(self, x):
        logits = self.model(self.before(x) if self.before else x)
        return self.after(logits) if self.after else logits


class Reversed(torch.autograd.Function):
    """The identity with a gradient of the wrong sign where pixels are off the grid of 1/16.

    It looks at values, so that no copy of a network can be traced, which loses `backward`.
    """

    @staticmethod
    def forward(ctx, x):
        assert bool(x.isfinite().all())
        off = ((x * 16) - (x * 16).round()).abs().flatten(1).amax(1) > 1e-3
        ctx.save_for_backward(1 - 2 * off.to(x).view(-1, 1, 1, 1))
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        (sign,) = ctx.saved_tensors
        return gradient * sign


def subject_of(model, attacks=(), *, cascade=False, x=None, y=None, table=True, **fields):
    """Return a subject; with `table`, attacked before by `attacks`."""
    x = digits()[2] if x is None else x
    y = digits()[3] if y is None else y
    table = attack_images(model, x, y, attacks, cascade=cascade) if table else None
    with frozen(model):
        clean = predict(model, x) == y
    base = Subject(
        model=model,
        x=x,
        y=y,
        clean_correct=clean,
        num_classes=10,
        class_names=tuple("0123456789"),
        eps=max((a.eps for a in attacks), default=EPS),
        norm=attacks[0].norm if attacks else "linf",
        table=table,
        attacks=tuple(attacks),
    )
    return dataclasses.replace(base, **fields)


def check(name, subject):
    """Return what one check says."""
    with frozen(subject.model):
        return registry("check").build(name, subject=subject)
