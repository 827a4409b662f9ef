"""Policies that learn nothing: random and central. The yardsticks of every learned one."""

import torch
from torch import Tensor

from asel_lib.selection.base import PatchSelector, register

HASHED = 4096  # values of an image that its seed is made from


@register("random")
class RandomSelector(PatchSelector):
    """Uniform random scores, from the image's seed alone: the same pixels get the same patches in every batch, on
    every device; another draw, other patches."""

    stochastic = True
    reads_patches = False

    def __init__(self, dim: int = 0):
        super().__init__()

    def forward(
        self, patches: Tensor, grid: tuple[int, int], lines: Tensor | None = None, seeds: Tensor = None
    ) -> Tensor:
        if seeds is None:
            raise ValueError("the random policy draws from the images' seeds, and got none: pass seeds (B,) int64")
        return uniform(seeds, patches.shape[1])


@register("central")
class CentralSelector(PatchSelector):
    """The patches nearest the middle of the grid: minus the squared distance, in patches."""

    reads_patches = False

    def __init__(self, dim: int = 0):
        super().__init__()

    def forward(self, patches: Tensor, grid: tuple[int, int], lines: Tensor | None = None) -> Tensor:
        rows = torch.arange(grid[0], device=patches.device) - (grid[0] - 1) / 2
        columns = torch.arange(grid[1], device=patches.device) - (grid[1] - 1) / 2
        scores = -(rows[:, None] ** 2 + columns[None, :] ** 2)
        return scores.reshape(1, -1).expand(patches.shape[0], -1)


def image_seeds(images: Tensor, draw: int = 0) -> Tensor:
    """(B, C, H, W) float images -> (B,) int64, a hash of each image's own values and the number of the draw.

    Some thousand values, spread over the image, are enough to tell images apart; hashing all of them took longer than
    a small ViT. Integer arithmetic only (sums wrap around), so that the order of summation, the batch and the device
    cannot change it.
    """
    values = images.flatten(1)
    values = values[:, :: max(1, values.shape[1] // HASHED)]
    # Scaling by a power of two and truncating are exact, so equal pixels give equal numbers everywhere.
    numbers = (values.float() * 2**20).to(torch.int64)
    weights = _mix(torch.arange(numbers.shape[1], device=numbers.device)) | 1
    return _mix((numbers * weights).sum(dim=1) + _mix(torch.tensor(draw, device=numbers.device)))


def uniform(seeds: Tensor, count: int) -> Tensor:
    """(B,) int64 seeds -> (B, count) float32 in [0, 1), a counter-based generator (SplitMix64, Steele et al. 2014)."""
    counters = seeds[:, None] + _mix(torch.arange(1, count + 1, device=seeds.device))
    return ((_mix(counters) >> 40) & 0xFFFFFF).float() / 2**24


def gumbel(seeds: Tensor, count: int) -> Tensor:
    """(B,) int64 seeds -> (B, count) Gumbel noise: added to log-weights, the K highest are K drawn in proportion to the
    weights, without replacement (Kool et al. 2019)."""
    noise = uniform(seeds, count).clamp_min(2.0**-25)  # half of the generator's step: never log(0)
    return -torch.log(-torch.log(noise))


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 (wrapping); the masks make the arithmetic right shifts logical."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit constant."""
    return value - 2**64 if value >= 2**63 else value
