"""What a selector is, how many patches a keep ratio means, and the registry of selectors."""

import difflib
import math

import torch
from torch import Tensor, nn


class PatchSelector(nn.Module):
    """Scores patches; the higher, the more worth keeping.

    `forward(patches (B, N, D), grid (H, W), lines=None) -> scores (B, N)`. Patches are the tokens the blocks would
    see: patch embedding + position embedding, no prefix tokens. An image's scores must not depend on the rest of
    its batch, nor on its label.

    A selector that draws at random sets `stochastic = True` and takes one more argument, `seeds (B,)` int64: a
    number an image, made from its own pixels and the number of the draw, so that the same image gets the same
    answer in every batch.
    """

    stochastic = False

    def forward(self, patches: Tensor, grid: tuple[int, int], lines: Tensor | None = None) -> Tensor:
        raise NotImplementedError


_SELECTORS: dict[str, type[PatchSelector]] = {}


def register(name: str):
    """Class decorator: the selector is created by `create(name, dim)` and its class takes `dim`, the token width."""

    def add(selector: type[PatchSelector]) -> type[PatchSelector]:
        if name in _SELECTORS:
            raise ValueError(
                f"a selector {name!r} is already registered ({_SELECTORS[name].__name__}): choose another name"
            )
        _SELECTORS[name] = selector
        return selector

    return add


def names() -> tuple[str, ...]:
    return tuple(sorted(_SELECTORS))


def create(name: str, dim: int) -> PatchSelector:
    """The registered selector of that name for tokens of width `dim`."""
    return kind(name)(dim)


def kind(name: str) -> type[PatchSelector]:
    """The class registered under that name; ValueError with the known names if there is none."""
    if name not in _SELECTORS:
        near = difflib.get_close_matches(str(name), _SELECTORS, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown policy {name!r}: expected one of {', '.join(names())}.{hint}")
    return _SELECTORS[name]


def keep_count(num_patches: int, keep_ratio: float) -> int:
    """K = max(1, floor(N * keep_ratio)); ValueError where the ratio is not in (0, 1]."""
    number = isinstance(keep_ratio, int | float) and not isinstance(keep_ratio, bool)
    if not (number and 0 < keep_ratio <= 1):  # nan fails the comparison too
        raise ValueError(f"keep_ratio is {keep_ratio!r}: expected a number in (0, 1], e.g. 0.5 for half of the patches")
    return max(1, math.floor(num_patches * keep_ratio))


def best(scores: Tensor, keep: int) -> Tensor:
    """(B, N) scores -> (B, keep) indices, best first; of equal scores the first in raster order is the better, on
    every device (torch.topk promises no order among equals)."""
    return torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :keep]
