"""No selection at all: the whole image made smaller, so that it has no more patches than may be kept."""

import math

import torch
import torch.nn.functional as F
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from asel_lib.selection.base import PatchSelector
from asel_lib.selection.call import Tokens
from asel_lib.selection.registry import register
from asel_lib.selection.view import View


@register("smaller_image", label="smaller image", color="#CC3311", marker="X")
class SmallerImage(PatchSelector):
    """The image is shrunk to the largest grid of at most K patches, and all of these enter the blocks.

    It is what one does who only wants speed, and so what every selection has to be measured against. Positions are
    those of the full grid, resampled by timm's own function. Trained with one keep ratio a batch, a model sees mixed
    sizes. A fifth of 14 x 14 patches is 39, of which 6 x 6 = 36 enter: compare by GMACs, as with token reducers.
    """

    def __init__(self, dim: int = 0):
        super().__init__()

    def attach(self, model: nn.Module) -> None:
        self.check(model)

    def check(self, model: nn.Module) -> None:
        """Refuse a model whose patches or positions cannot be those of a smaller image.

        Args:
            model: a SelectiveViT.

        Raises:
            ValueError: names what the model has.
        """
        if getattr(model, "rope", None) is not None:
            has = "rotary positions"
        elif not hasattr(model.patch_embed, "project"):
            has = f"{type(model.patch_embed).__name__}, which embeds no patches by themselves,"
        elif model.training and model.pos_drop.p:
            has = f"dropout of positions (pos_drop_rate={model.pos_drop.p})"
        else:
            return
        raise ValueError(
            f"smaller_image resamples added positions, and {model.architecture} has {has}: use a model without, or "
            "shrink the images yourself and make it with dynamic_img_size=True"
        )

    def replace_patches(self, model: nn.Module, images: Tensor, keep: int) -> Tokens:
        self.check(model)
        patch = model.patch_embed.patch_size
        full = tuple(int(side) // size for side, size in zip(images.shape[-2:], patch, strict=True))
        grid = smaller_grid(full, keep)
        prefix, positions = _positions(model, images, full)
        if grid != full:
            # antialias: a point is the mean of what it stands for, as when an image file is made smaller.
            size = [side * points for side, points in zip(grid, patch, strict=True)]
            images = F.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
            positions = resample_abs_pos_embed(positions, list(grid), list(full), num_prefix_tokens=0)
        every = torch.arange(grid[0] * grid[1], device=images.device).expand(images.shape[0], -1)
        patches = model.patch_embed(images, every) + positions
        return Tokens(torch.cat([prefix.expand(images.shape[0], -1, -1), patches], dim=1), model.num_prefix_tokens)

    def score_before_blocks(self, view: View) -> None:
        return None

    def explain(self, view: View) -> tuple[None, str]:
        return None, f"{self.name} shrinks the image and keeps no patches: it has no scores"

    def forward(self, view: View) -> Tensor:
        raise ValueError(
            f"{self.name} shrinks the image and scores no patches: ask the model for its answer, or choose a policy "
            "that scores"
        )


def smaller_grid(full: tuple[int, int], keep: int) -> tuple[int, int]:
    """The largest grid of the same proportions with at most `keep` patches.

    Args:
        full: (rows, columns) of the image.
        keep: the most patches, at least 1.
    """
    rows, columns = full
    high = max(1, math.isqrt(keep * rows // columns))
    wide = max(1, min(math.isqrt(keep * columns // rows), keep // high))
    return min(high, keep // wide), wide


def _positions(model: nn.Module, images: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What timm adds to nothing: the prefix tokens (1, P, D) and the positions of all patches (1, N, D)."""
    shape = grid if model.dynamic_img_size else (grid[0] * grid[1],)
    placed = model.placed(next(model.patch_embed.parameters()).new_zeros(1, *shape, model.embed_dim))
    return placed[:, : model.num_prefix_tokens], placed[:, model.num_prefix_tokens :]
