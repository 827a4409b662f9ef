"""A budget for each image: as many patches as its own scores ask for, and a given number on average."""

import math

import torch
from torch import Tensor

from asel_lib.selection.base import keep_count

AVERAGES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)  # keep ratios on average that a checkpoint is prepared for
USUAL = 0.3  # of keep_ratio="auto"


def lengths(weights: Tensor, factor: float) -> Tensor:
    """How many patches each image keeps: factor * sqrt(perplexity), rounded up to one of `levels(N)`.

    The perplexity is the number of patches that an image's weights are spread over (1: one patch has all, N: all
    alike). Its square root is taken because an image whose one patch has all the weight still wants a few more, and one
    without a clear choice gains little from very many. By perplexity itself, or by the patches that hold a share of the
    weights, it was less accurate than an equal number for all images (val of RSSCN7 and of the synthetic scenes).

    Args:
        weights: log-weights (B, N).
        factor: see `factor_for`.

    Returns:
        Counts (B,) of patches.
    """
    shares = weights.double().log_softmax(dim=1)
    perplexity = (-(shares.exp() * shares).sum(dim=1)).exp()
    asked = (perplexity.sqrt() * factor).round().long().clamp(1, weights.shape[1])
    known = torch.tensor(levels(weights.shape[1]), device=weights.device)
    return known[torch.searchsorted(known, asked)]


def levels(patches: int) -> list[int]:
    """The lengths that images may have: 1 to all patches, each about a factor of sqrt(2) above the one before. Each
    that occurs in a batch is a forward of its own; more of them would waste fewer patches and need more forwards."""
    return sorted({math.ceil(patches / 2 ** (half / 2)) for half in range(2 * patches.bit_length())})


def factor_for(weights: Tensor, average: float) -> float:
    """The largest factor with which images keep at most a share of their patches on average; the smallest one where
    even a single patch is more.

    Args:
        weights: their log-weights, (n, N).
        average: the share, in (0, 1].

    Raises:
        ValueError: a share outside (0, 1].
    """
    patches = weights.shape[1]
    keep_count(patches, average)  # a bad ratio is an error before any work
    low, high = 0.0, float(patches)
    for _ in range(40):
        middle = (low + high) / 2
        kept = lengths(weights, middle).double().mean().item() / patches
        low, high = (middle, high) if kept <= average else (low, middle)
    return low


def average_of(keep_ratio: str) -> float:
    """The keep ratio on average that a text asks for.

    Args:
        keep_ratio: "auto", or "auto:0.2" for a fifth of the patches.

    Raises:
        ValueError: other text.
    """
    name, _, number = keep_ratio.partition(":")
    try:
        average = float(number) if number else USUAL
        keep_count(1, average)
    except ValueError:
        average = None
    if name != "auto" or average is None:
        raise ValueError(
            f'keep_ratio is {keep_ratio!r}: expected a number in (0, 1], or "auto", or "auto:0.2" for a fifth of the '
            "patches on average"
        )
    return average
