"""Policies that learn nothing: random, central and even. The yardsticks of every learned one."""

import functools

import numpy as np
import torch
from torch import Tensor

from asel_lib.selection import blue_noise
from asel_lib.selection.base import PatchSelector
from asel_lib.selection.registry import register
from asel_lib.selection.sampling import seeded_uniform
from asel_lib.selection.view import View


@register("random", label="random", color="#555555", marker="s")
class RandomSelector(PatchSelector):
    """Uniform random scores, from the image's seed alone: the same pixels get the same patches in every batch, on
    every device; another draw, other patches."""

    stochastic = True

    def __init__(self, dim: int = 0):
        super().__init__()

    def forward(self, view: View) -> Tensor:
        return seeded_uniform(view.seeds, view.num_patches)


@register("central", label="central", color="#999933", marker="v")
class CentralSelector(PatchSelector):
    """The patches nearest the middle of the grid: minus the squared distance, in patches."""

    def __init__(self, dim: int = 0):
        super().__init__()

    def forward(self, view: View) -> Tensor:
        rows = torch.arange(view.grid[0], device=view.device) - (view.grid[0] - 1) / 2
        columns = torch.arange(view.grid[1], device=view.device) - (view.grid[1] - 1) / 2
        scores = -(rows[:, None] ** 2 + columns[None, :] ** 2)
        return scores.reshape(1, -1).expand(view.batch_size, -1)


@register("even", label="even layout", color="#44AA99", marker="d")
class EvenSelector(PatchSelector):
    """Patches that lie as far from each other as can be, at every number of them: the blue-noise order of the grid,
    the same for every image (void-and-cluster, Ulichney 1993). It covers the image, and looks at nothing."""

    def __init__(self, dim: int = 0):
        super().__init__()

    def forward(self, view: View) -> Tensor:
        rows, columns = (int(side) for side in view.grid)
        return _even_scores(rows, columns).to(view.device).expand(view.batch_size, -1)


@torch.compiler.assume_constant_result  # a compiler would follow it into numpy, also past the cache
def _even_scores(rows: int, columns: int) -> Tensor:
    """(1, rows * columns): minus each patch's place in the order."""
    return torch.tensor(_even_places(rows, columns))


@functools.lru_cache(maxsize=32)  # of numbers: a tensor that is made while a tracer follows the call holds none
def _even_places(rows: int, columns: int) -> np.ndarray:
    scores = np.empty((1, rows * columns), np.float32)
    scores[0, blue_noise.order(rows, columns)] = -np.arange(rows * columns)
    return scores
