"""AutoAttack with the call that people know, on any network: images in, adversarial images out.

The search itself is the house's evaluation; here is only its public face. `wiry evaluate` and
`run_evaluation` go the same way and write what they find to files.
"""

from pathlib import Path
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from wiry.attacks.base import Attack
from wiry.attacks.presets import autoattack
from wiry.evaluation.attacked import attack_images
from wiry.evaluation.batching import BatchSize
from wiry.evaluation.journal import Journal, journal_of
from wiry.evaluation.judge import frozen, predict
from wiry.evaluation.table import Table

_NORMS = {"Linf": "linf", "L2": "l2", "L1": "l1"}


class AutoAttack:
    """The ensemble of Croce and Hein 2020 under its usual name and calls.

    The network takes images in [0, 1] and returns logits; it comes back as it was, global
    generators are left alone, and an image's result does not depend on the batch size.

    Args:
        norm: "Linf", "L2" or "L1" (small letters do too).
        eps: radius of the ball, in pixels scaled to [0, 1].
        version: "standard", "plus" or "rand", see `wiry.attacks.presets.autoattack`.
        seed: of the attacks' random streams.

    Raises:
        ValueError: for a norm, a radius or a version that there is not.

    Attributes:
        table: of the last evaluation, one row an image; None before.
    """

    def __init__(
        self,
        model: nn.Module,
        norm: str = "Linf",
        eps: float = 8 / 255,
        version: str = "standard",
        *,
        seed: int = 0,
    ) -> None:
        self.model, self.seed = model, seed
        self.attacks = autoattack(eps, _NORMS.get(norm, norm), version)
        self.table: Table | None = None

    def run_standard_evaluation(
        self,
        x: Float[Tensor, "n c h w"],
        y: Int[Tensor, " n"],
        bs: BatchSize = 250,
        return_labels: bool = False,
        state_path: Path | str | None = None,
    ) -> Any:
        """Attack in turn, each attack only what the earlier ones left.

        Args:
            bs: images at once, or "auto".
            state_path: folder for what has been found so far; the same call takes it up after a
                kill.

        Returns:
            The images, on the device of `x`: fooling ones where they were found, else the clean
            ones; with `return_labels` also what the network says of them.
        """
        journal = None
        if state_path is not None:
            journal = journal_of(Path(state_path), self.model, x, y, self.attacks, self.seed)
        found, self.table = self._attack(self.attacks, x, y, bs, journal)
        if not return_labels:
            return found
        with frozen(self.model):
            labels = predict(self.model, found, batch_size=250 if bs == "auto" else bs)
        return found, labels.to(y.device)

    def run_standard_evaluation_individual(
        self, x: Float[Tensor, "n c h w"], y: Int[Tensor, " n"], bs: BatchSize = 250
    ) -> dict[str, Float[Tensor, "n c h w"]]:
        """Attack with each attack on all images that are right when clean; images by attack."""
        found = {}
        for attack in self.attacks:
            found[repr(attack)], self.table = self._attack((attack,), x, y, bs)
        return found

    def _attack(
        self,
        attacks: tuple[Attack, ...],
        x: Tensor,
        y: Tensor,
        batch_size: BatchSize,
        journal: Journal | None = None,
    ) -> tuple[Tensor, Table]:
        found = x.detach().cpu().clone()
        table = attack_images(
            self.model,
            x,
            y,
            attacks,
            seed=self.seed,
            cascade=True,
            batch_size=batch_size,
            found=found,
            journal=journal,
        )
        return found.to(x.device), table
