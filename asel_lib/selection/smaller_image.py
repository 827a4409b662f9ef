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
        prefix, positions = _positions(model, images, full, grid)
        if grid != full:
            size = [side * points for side, points in zip(grid, patch, strict=True)]
            images = _interpolated(images, size)
        every = torch.arange(grid[0] * grid[1], device=images.device).expand(images.shape[0], -1)
        patches = model.patch_embed(images, every) + positions
        return Tokens(torch.cat([prefix.expand(images.shape[0], -1, -1), patches], dim=1), model.num_prefix_tokens)

    def replacing(self, model: nn.Module, keep: int) -> "Shrunk":
        self.check(model)
        return Shrunk(model, keep)

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


class Shrunk(nn.Module):
    """Images of a model's own size, made smaller, as the tokens that enter its blocks: shrinking is two products with
    constant matrices, which a runtime computes as torch does.

    Args:
        model: a SelectiveViT.
        keep: K, the most patches.
    """

    def __init__(self, model: nn.Module, keep: int):
        super().__init__()
        self.embed = model.patch_embed
        full = tuple(int(side) for side in self.embed.grid_size)
        grid = smaller_grid(full, keep)
        self.count = grid[0] * grid[1]
        with torch.no_grad():
            prefix, positions = _positions(model, next(model.parameters()), full, grid)
        sides = zip(full, grid, self.embed.patch_size, strict=True)
        down, across = (_shrinking(side * points, fewer * points) for side, fewer, points in sides)
        placed = {"prefix": prefix, "positions": positions, "down": down, "across": across.T.contiguous()}
        for name, value in placed.items():
            self.register_buffer(name, value.to(prefix.device), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        small = self.down @ images.float() @ self.across
        patches = self.embed.every(small.to(self.positions.dtype)) + self.positions
        return torch.cat([self.prefix.expand(images.shape[0], -1, -1), patches], dim=1)


def _interpolated(images: Tensor, size: list[int]) -> Tensor:
    # antialias: a point is the mean of what it stands for, as when an image file is made smaller. torch has none of it
    # in half precision.
    single = images.to(torch.promote_types(images.dtype, torch.float32))
    return F.interpolate(single, size, mode="bilinear", antialias=True, align_corners=False).to(images.dtype)


def _shrinking(side: int, smaller: int) -> Tensor:
    """(smaller, side): the matrix that makes a line of `side` points shorter, as antialiased interpolation does."""
    lines = torch.eye(side)[None, None]
    if smaller < side:
        lines = _interpolated(lines, [smaller, side])
    return lines[0, 0].contiguous()


def _positions(model: nn.Module, like: Tensor, full: tuple[int, int], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """What timm adds to nothing: the prefix tokens (1, P, D), and the positions of the full grid's patches, resampled
    to a smaller grid, (1, n, D); on the device and in the number format of `like`, since a replica of DataParallel
    lists no parameters."""
    shape = full if model.dynamic_img_size else (full[0] * full[1],)
    placed = model.placed(like.new_zeros(1, *shape, model.embed_dim))
    prefix, positions = placed[:, : model.num_prefix_tokens], placed[:, model.num_prefix_tokens :]
    if grid != full:
        positions = resample_abs_pos_embed(positions, list(grid), list(full), num_prefix_tokens=0)
    return prefix, positions
