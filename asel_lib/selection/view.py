"""What a selector can see of one call; each part is made when it is first touched."""

import contextlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from asel_lib.selection.sampling import image_seeds


class View:
    """One call as a selector sees it: `images`, `grid`, `patches`, `lines`, `seeds`, `model`.

    Args:
        images: (B, C, H, W), normalised.
        grid: (rows, columns) of patches, N = rows * columns.
        embed: makes the tokens of all patches, (B, P + N, D), the prefix tokens first.
        prefix: P, how many prefix tokens `embed` puts first.
        lines: line drawings (B, 1, h, w) in [0, 1] that came with the images; None: `draw_lines` makes them.
        draw_lines: makes line drawings of the images, (B, 1, h, w); None for a selector that reads none.
        draw_index: which of many draws.
        model: the model that asks.
    """

    def __init__(
        self,
        images: Tensor,
        grid: tuple[int, int],
        embed: Callable[[], Tensor] | None = None,
        prefix: int = 0,
        lines: Tensor | None = None,
        draw_lines: Callable[[], Tensor | None] | None = None,
        draw_index: int = 0,
        model: nn.Module | None = None,
    ):
        self.grid, self.model = grid, model
        # Once the patches are embedded: the tokens as the blocks see them, prefix (B, P, D) and patches (B, N, D).
        self.embedded: tuple[Tensor, Tensor] | None = None
        self._images, self._embed, self._prefix = images, embed, prefix
        self._lines, self._draw_lines, self._draw_index = lines, draw_lines, draw_index
        self._seeds: Tensor | None = None
        kind = images.device.type
        self._autocast = (kind, torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else None

    @property
    def batch_size(self) -> int:
        """B. Not len(view): a tracer would take that for a constant."""
        return self._images.shape[0]

    @property
    def num_patches(self) -> int:
        """N."""
        return self.grid[0] * self.grid[1]

    @property
    def device(self) -> torch.device:
        return self._images.device

    @property
    def images(self) -> Tensor:
        """(B, C, H, W), normalised, in single precision at least."""
        return at_least_single(self._images)

    @property
    def patches(self) -> Tensor:
        """(B, N, D), the tokens that the blocks would see of all patches, without the prefix tokens: embedding and
        position embedding, in single precision at least. Touching them embeds all patches."""
        return at_least_single(self.tokens()[1])

    @property
    def lines(self) -> Tensor:
        """(B, 1, h, w) in [0, 1], high where there is a line.

        Raises:
            ValueError: there are none, and the selector has no way to draw them.
        """
        if self._lines is None and self._draw_lines is not None:
            self._lines = self._draw_lines()
        if self._lines is None:
            raise ValueError(
                "this selector scores line drawings, and got none: pass lines (B, 1, h, w), or give the selector a "
                "method draw_lines(images)"
            )
        return self._lines

    @property
    def seeds(self) -> Tensor:
        """(B,) int64, a number an image, made of its own pixels and the number of the draw: the same image gets the
        same answer in every batch."""
        if self._seeds is None:
            self._seeds = image_seeds(self._images, self._draw_index)
        return self._seeds

    def tokens(self) -> tuple[Tensor, Tensor]:
        """`embedded`, now if they were not yet, in the precision of the call around."""
        if self.embedded is None:
            if self._embed is None:
                raise ValueError("this view has no patches to look at: make it with embed, or by model.view(images)")
            # A selector scores in full precision; the embedding belongs to the model, and runs as the rest of it.
            kind, dtype = self._autocast or ("", None)
            with torch.autocast(kind, dtype=dtype) if kind else contextlib.nullcontext():
                tokens = self._embed()
            self.embedded = tokens.split([self._prefix, self.num_patches], dim=1)
        return self.embedded

    def full_precision(self) -> torch.autocast:
        """A context without autocast: scores of eight bits would tie, and ties keep the top rows of the image."""
        return torch.autocast(self.device.type, enabled=False)


def at_least_single(values: Tensor) -> Tensor:
    """The values in float32, or in float64 where they are in that."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
