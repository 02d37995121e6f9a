"""Do adversarial images made for one network fool another? A matrix of accuracies, from and to.

Images are made with the same streams as in an evaluation, so the diagonal is the robust accuracy
that `wiry.evaluate` gives for the same attacks in a cascade and the same seed (but for chance in
attacks towards several classes, which an evaluation searches class by class).
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.core.draws import draws_of
from wiry.core.errors import UserError
from wiry.core.rng import stream
from wiry.evaluation.fold import folded
from wiry.evaluation.judge import adversarials, frozen, predict
from wiry.evaluation.session import CHUNK


@dataclasses.dataclass(frozen=True, eq=False)
class TransferMatrix:
    """Accuracies on images that were made for another network; the row is where they come from.

    Attributes:
        names: of the networks, in the order of rows and columns.
        attacks: repr of each attack.
        num_samples: images.
        clean_accuracy: of each network.
        accuracy: of a column's network on all images, attacked on a row's network where that one
            has them right and as they are elsewhere. The diagonal is the white box.
        kept: of the images that both have right when clean, the share that the column's network
            still has right; NaN where there is no such image.
        num_both: how many images both have right when clean.
    """

    names: tuple[str, ...]
    attacks: tuple[str, ...]
    num_samples: int
    clean_accuracy: Float[np.ndarray, " k"]
    accuracy: Float[np.ndarray, "k k"]
    kept: Float[np.ndarray, "k k"]
    num_both: Int[np.ndarray, "k k"]

    def to_data(self) -> dict[str, Any]:
        """Return plain data, ready for JSON; null for a share of no images."""
        rows = [
            [None if np.isnan(share) else float(share) for share in shares] for shares in self.kept
        ]
        return {
            "names": list(self.names),
            "attacks": list(self.attacks),
            "num_samples": self.num_samples,
            "clean_accuracy": self.clean_accuracy.tolist(),
            "accuracy": self.accuracy.tolist(),
            "kept": rows,
            "num_both": self.num_both.tolist(),
        }


def transfer(
    models: Mapping[str, nn.Module],
    x: Float[Tensor, "n c h w"],
    y: Int[Tensor, " n"],
    attacks: Sequence[Any],
    *,
    seed: int = 0,
    batch_size: int = CHUNK,
) -> TransferMatrix:
    """Attack each network and put what was found to all of them.

    A network is attacked only on the images it has right, and by each attack only on those that the
    earlier ones left: of an image the first that fools its network counts, or else what the last
    attack made of it. The models come back as they were.

    Args:
        models: name -> network; they may be on different devices.
        seed: of the attacks' random streams, which are those of an evaluation.
        batch_size: images in a forward and backward pass.

    Raises:
        UserError: for less than two networks, no attack, or no image.
        AssertionError: naming the attack, if it leaves its ball or [0, 1].
    """
    if len(models) < 2:
        raise UserError(f"a transfer needs 2 networks or more, got {len(models)}")
    if not attacks:
        raise UserError("a transfer needs an attack")
    if len(x) == 0 or len(x) != len(y):
        raise UserError(f"a transfer needs images with a label each, got {len(x)} and {len(y)}")
    y = y.cpu()
    clean = [_right(model, x, y, batch_size) for model in models.values()]
    after = []
    for position, source in enumerate(models.values()):
        verdicts = [column.clone() for column in clean]
        for attack in attacks:
            standing = verdicts[position].clone()
            made = _attacked(source, x, y, standing, attack, seed=seed, batch_size=batch_size)
            for index, adversarial in made:
                for model, column in zip(models.values(), verdicts, strict=True):
                    column[index] = _right(model, adversarial, y[index], batch_size)
        after.append(verdicts)
    return _matrix(tuple(models), tuple(map(repr, attacks)), clean, after)


def _right(model: nn.Module, x: Tensor, y: Tensor, batch_size: int) -> Tensor:
    with frozen(model):
        return predict(model, x, batch_size=batch_size) == y


def _attacked(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    standing: Tensor,
    attack: Any,
    *,
    seed: int,
    batch_size: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield indices and adversarial images, batch by batch; the streams are those of `Session`."""
    if getattr(attack, "draws_per_image", False):
        index = standing.nonzero().flatten()
        parts = [
            (part, draws_of(seed, "evaluate", repr(attack), index=part))
            for part in (index.split(batch_size) if len(index) else ())
        ]
    else:
        chunks = ((start, standing[start : start + CHUNK]) for start in range(0, len(x), CHUNK))
        parts = [
            (start + chunk.nonzero().flatten(), stream(seed, "evaluate", repr(attack), start))
            for start, chunk in chunks
            if chunk.any()
        ]
    with frozen(model):
        searched, _ = folded(model, x[:8])
        for part, generator in parts:
            clean, label = x[part.to(x.device)], y[part]
            yield part, adversarials(searched, attack, clean, label, generator)


def _matrix(
    names: tuple[str, ...], attacks: tuple[str, ...], clean: list[Tensor], after: list[list[Tensor]]
) -> TransferMatrix:
    before, verdicts = torch.stack(clean), torch.stack([torch.stack(row) for row in after])
    both = before[:, None] & before[None]
    num_both = both.sum(2).numpy()
    num_kept = (both & verdicts).sum(2).numpy()
    kept = np.full(num_both.shape, np.nan)
    np.divide(num_kept, num_both, out=kept, where=num_both > 0)
    return TransferMatrix(
        names=names,
        attacks=attacks,
        num_samples=before.shape[1],
        clean_accuracy=before.double().mean(1).numpy(),
        accuracy=verdicts.double().mean(2).numpy(),
        kept=kept,
        num_both=num_both,
    )
