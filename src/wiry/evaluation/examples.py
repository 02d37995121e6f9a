"""The fooled images kept for the report: the first ones in the order of attacks and images."""

import dataclasses

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

NUM_EXAMPLES = 16
"""Fooled images kept at most."""

EXAMPLE_KEYS = (
    "index",
    "clean",
    "adversarial",
    "label",
    "clean_prediction",
    "adversarial_prediction",
)
"""Names of the arrays of examples, one row an image."""


@dataclasses.dataclass
class ExampleCollector:
    """Takes in fooled images until there are enough; an image is taken once."""

    image_shape: tuple[int, ...]
    _rows: dict[int, tuple[np.ndarray, np.ndarray, int, int]] = dataclasses.field(
        default_factory=dict
    )

    def add(
        self,
        index: Int[Tensor, " k"],
        clean: Float[Tensor, "k c h w"],
        adversarial: Float[Tensor, "k c h w"],
        label: Int[Tensor, " k"],
        prediction: Int[Tensor, " k"],
    ) -> None:
        """Take in fooled images, which are correct when clean and `prediction` when adversarial."""
        for row, position in enumerate(index.tolist()):
            if len(self._rows) == NUM_EXAMPLES:
                return
            if position not in self._rows:
                pixels = (clean[row] * 255).round().byte().cpu().numpy()
                fooled = adversarial[row].half().cpu().numpy()
                self._rows[position] = (pixels, fooled, int(label[row]), int(prediction[row]))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the examples: pixels in uint8 (clean), float16 (adversarial), the rest int64."""
        rows = list(self._rows.values())
        shape = (len(rows), *self.image_shape)
        label = np.array([row[2] for row in rows], np.int64)
        arrays = (
            np.array(list(self._rows), np.int64),
            np.array([row[0] for row in rows], np.uint8).reshape(shape),
            np.array([row[1] for row in rows], np.float16).reshape(shape),
            label,
            label.copy(),  # only images that were correct when clean are attacked
            np.array([row[3] for row in rows], np.int64),
        )
        return dict(zip(EXAMPLE_KEYS, arrays, strict=True))
