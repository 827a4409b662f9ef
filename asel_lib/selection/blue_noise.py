"""Noise that spreads: the same values as drawn noise, but laid out so that the highest of them are far apart.

Adding Gumbel noise to log-weights and keeping the K highest draws K patches in proportion to their weights; where the
noise is drawn, they pile up here and leave holes there. With the same quantiles in blue-noise order they cover the
image where the weights are flat, and follow the weights where these are not. No draw is left: the choice is the same
every time.
"""

import functools

import numpy as np
import torch
from torch import Tensor

SIGMA = 1.5  # patches: how far a patch that is taken keeps others away (void-and-cluster, Ulichney 1993)


def gumbel(grid: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """(H * W,): the quantiles of the Gumbel distribution, the highest first in `order`'s order."""
    return _gumbel(int(grid[0]), int(grid[1])).to(device)


@functools.lru_cache(maxsize=32)
def _gumbel(rows: int, columns: int) -> Tensor:
    places = order(rows, columns)
    quantiles = 1 - (np.arange(len(places)) + 0.5) / len(places)
    noise = np.empty(len(places), np.float32)
    noise[places] = -np.log(-np.log(quantiles))
    return torch.from_numpy(noise)


def order(rows: int, columns: int) -> np.ndarray:
    """All patches of a grid, each as far as can be from those before it; distances go round the edges, so that the
    corners are not taken first. (rows * columns,) numbers in raster order."""
    y, x = np.divmod(np.arange(rows * columns), columns)
    # Ties are broken by a fixed draw: else the order would run along the rows.
    near = 1e-3 * np.random.default_rng(0).random(rows * columns)
    taken = np.zeros(rows * columns, bool)
    found = []
    for _ in range(rows * columns):
        place = int(np.where(taken, np.inf, near).argmin())
        found.append(place)
        taken[place] = True
        dy, dx = abs(y - y[place]), abs(x - x[place])
        dy, dx = np.minimum(dy, rows - dy), np.minimum(dx, columns - dx)
        near += np.exp(-(dy**2 + dx**2) / (2 * SIGMA**2))
    return np.array(found)
