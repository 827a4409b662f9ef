"""What a model answered on all images by one policy at one keep ratio: what every metric is computed of."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Outcome:
    """Answers in the order of the images.

    Args:
        labels: (n,) int64, the images' classes.
        ranked: (draws, n, min(5, C)) int, the classes of the highest logits, best first.
        object_area_kept: (draws, n), share of the deciding object's area in kept patches, nan of an image without one;
            None where no object is known.
    """

    labels: np.ndarray
    ranked: np.ndarray
    object_area_kept: np.ndarray | None = None

    @property
    def right(self) -> np.ndarray:
        """(draws, n) bool: whether the first answer is right."""
        return self.ranked[:, :, 0] == self.labels
