"""Named random streams: every random choice is a pure function of (seed, what it is for, step).

A stream is made anew from its name wherever it is needed, so nothing random has to be saved for a
resumed run to equal an uninterrupted one, and the global generators are left alone.
"""

import contextlib
import hashlib
from collections.abc import Iterator

import torch


def seed_of(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and every name, in order."""
    text = "/".join([str(seed), *(str(name) for name in names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int, *names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """Return a generator for what the names spell, such as `stream(0, "dense", "attack", 17)`."""
    return torch.Generator(device=device).manual_seed(seed_of(seed, *names))


@contextlib.contextmanager
def global_seed(seed: int, *names: str | int) -> Iterator[None]:
    """Seed torch's global generator inside the block and restore it after.

    For initialisers without one.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(seed, *names))
        yield
