"""Every way in which patches are drawn: by an image's own seed, spread out, or with a generator in training.

Adding Gumbel noise to log-weights and keeping the K highest draws K patches without replacement, in proportion to their
weights (Kool et al. 2019).
"""

import functools

import numpy as np
import torch
from torch import Tensor

from asel_lib.reproducibility import BatchSliceGenerator, uniform
from asel_lib.selection import blue_noise

HASHED = 4096  # values of an image that its seed is made from


def image_seeds(images: Tensor, draw_index: int = 0) -> Tensor:
    """A hash of each image's own values and the number of the draw.

    Some thousand values, spread over the image, are enough to tell images apart; hashing all of them took longer than
    a small ViT. Integer arithmetic only (sums wrap around), so that the order of summation, the batch and the device
    cannot change it.

    Args:
        images: (B, C, H, W), floating point.
        draw_index: which of many draws.

    Returns:
        Seeds (B,) int64.
    """
    values = images.flatten(1)
    values = values[:, :: max(1, values.shape[1] // HASHED)]
    # Scaling by a power of two and truncating are exact, so equal pixels give equal numbers everywhere.
    numbers = (values.float() * 2**20).to(torch.int64)
    weights = _mix(torch.arange(numbers.shape[1], device=numbers.device)) | 1
    return _mix((numbers * weights).sum(dim=1) + _mix(torch.tensor(draw_index, device=numbers.device)))


def seeded_uniform(seeds: Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1) by a counter-based generator (SplitMix64, Steele et al. 2014).

    Args:
        seeds: (B,) int64.
        count: how many an image.

    Returns:
        (B, count) float32.
    """
    counters = seeds[:, None] + _mix(torch.arange(1, count + 1, device=seeds.device))
    return ((_mix(counters) >> 40) & 0xFFFFFF).float() / 2**24


def seeded_gumbel(seeds: Tensor, count: int) -> Tensor:
    """Gumbel noise of seeds.

    Args:
        seeds: (B,) int64.
        count: how many an image.

    Returns:
        (B, count) float32.
    """
    noise = seeded_uniform(seeds, count).clamp_min(2.0**-25)  # half of the generator's step: never log(0)
    return -torch.log(-torch.log(noise))


def spread_gumbel(grid: tuple[int, int], device: torch.device | str = "cpu") -> Tensor:
    """The quantiles of the Gumbel distribution in blue-noise order: as noise, but its highest values lie far apart.

    Where noise is drawn, patches pile up here and leave holes there. With this one they cover the image where the
    weights are flat, and follow the weights where these are not. The choice is the same every time.

    Args:
        grid: (rows, columns) of patches.
        device: where the result lies.

    Returns:
        (rows * columns,) float32 in raster order.
    """
    return _laid_out(int(grid[0]), int(grid[1])).to(device)


def gumbel_top_k(scores: Tensor, keep: int, generator: torch.Generator | BatchSliceGenerator | None = None) -> Tensor:
    """Draw K patches without replacement, in proportion to their odds s / (1 - s).

    Args:
        scores: (B, N), in (0, 1).
        keep: K.
        generator: torch's, or that of a part of a batch; None: torch's global one.

    Returns:
        Indices (B, K).
    """
    return draw_order(torch.logit(scores.float(), eps=1e-6), generator)[:, :keep]


def draw_order(log_weights: Tensor, generator: torch.Generator | BatchSliceGenerator | None = None) -> Tensor:
    """All patches, drawn one after the other in proportion to their weights.

    Args:
        log_weights: (B, N).
        generator: torch's, or that of a part of a batch; None: torch's global one.

    Returns:
        Indices (B, N), the first drawn first.
    """
    # Drawn on the CPU, so that a GPU run keeps the same patches as a CPU run of the same seed.
    even = uniform(tuple(log_weights.shape), generator).clamp_min(1e-20).to(log_weights.device)
    noisy = log_weights.detach() - torch.log(-torch.log(even))
    return torch.sort(noisy, dim=1, descending=True, stable=True).indices


@torch.compiler.assume_constant_result  # a compiler would follow it into numpy, also past the cache
def _laid_out(rows: int, columns: int) -> Tensor:
    return torch.tensor(_spread_gumbel(rows, columns))


@functools.lru_cache(maxsize=32)  # of numbers: a tensor that is made while a tracer follows the call holds none
def _spread_gumbel(rows: int, columns: int) -> np.ndarray:
    places = blue_noise.order(rows, columns)
    quantiles = 1 - (np.arange(len(places)) + 0.5) / len(places)
    noise = np.empty(len(places), np.float32)
    noise[places] = -np.log(-np.log(quantiles))
    return noise


def _mix(x: Tensor) -> Tensor:
    """SplitMix64's finaliser on int64 (wrapping); the masks make the arithmetic right shifts logical."""
    x = x + _signed(0x9E3779B97F4A7C15)
    x = (x ^ ((x >> 30) & 0x3FFFFFFFF)) * _signed(0xBF58476D1CE4E5B9)
    x = (x ^ ((x >> 27) & 0x1FFFFFFFFF)) * _signed(0x94D049BB133111EB)
    return x ^ ((x >> 31) & 0x1FFFFFFFF)


def _signed(value: int) -> int:
    """The int64 with the bits of an unsigned 64-bit constant."""
    return value - 2**64 if value >= 2**63 else value
