"""A budget for each image: as many patches as its own scores ask for, and a given number on average."""

import math

import torch
from torch import Tensor

from asel_lib.selection.base import keep_count

AVERAGES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7)  # keep ratios on average that a checkpoint is prepared for
USUAL = 0.3  # of keep_ratio="auto"


def lengths(weights: Tensor, share: float) -> Tensor:
    """(B, N) log-weights -> (B,) how many of an image's best patches hold that share of the sum of its weights, rounded
    up to one of `levels(N)`. One patch is enough where one holds it all, a flat distribution asks for N * share."""
    held = weights.double().softmax(dim=1).sort(dim=1, descending=True).values.cumsum(dim=1)
    asked = (held < share).sum(dim=1) + 1
    known = torch.tensor(levels(weights.shape[1]), device=weights.device)
    return known[torch.searchsorted(known, asked.clamp(max=weights.shape[1]))]


def levels(patches: int) -> list[int]:
    """The lengths that images may have: 1 to all patches, each about a factor of sqrt(2) above the one before. Each
    that occurs in a batch is a forward of its own; more of them would waste fewer patches and need more forwards."""
    return sorted({math.ceil(patches / 2 ** (half / 2)) for half in range(2 * patches.bit_length())})


def share_for(weights: Tensor, average: float) -> float:
    """The largest share with which images of these log-weights (n, N) keep at most `average` of their patches on
    average; the smallest one where even a single length is more."""
    keep_count(weights.shape[1], average)  # a bad ratio is an error before any work
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        kept = lengths(weights, middle).double().mean().item() / weights.shape[1]
        low, high = (middle, high) if kept <= average else (low, middle)
    return low


def average_of(keep_ratio: str) -> float:
    """ "auto" or "auto:0.2" -> the keep ratio on average; ValueError for other text."""
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
