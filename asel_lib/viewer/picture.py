"""How a picture is shown: dropped patches greyed, no ticks and no frame around it."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes


def greyed(pixels: np.ndarray, kept: Sequence[int], grid: tuple[int, int]) -> np.ndarray:
    """Pixels with those of dropped patches turned to a faint grey.

    Args:
        pixels: (h, w, 3) uint8.
        kept: indices of patches.
        grid: (rows, columns) of patches.
    """
    shown = np.zeros(grid[0] * grid[1], dtype=bool)
    shown[np.asarray(kept, dtype=int)] = True
    height, width = pixels.shape[:2]
    rows, columns = np.arange(height) * grid[0] // height, np.arange(width) * grid[1] // width
    mask = shown.reshape(grid)[rows[:, None], columns[None, :], None]
    grey = 0.25 * pixels.mean(axis=2, keepdims=True) + 0.75 * 205
    return np.where(mask, pixels, grey.astype(np.uint8))


def bare(axes: Axes) -> None:
    """Take ticks and frame away."""
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
