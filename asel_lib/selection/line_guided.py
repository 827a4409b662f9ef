"""Line-guided selection: a line drawing says which patches matter, without training and before anything is embedded.

The published method: density of lines in a patch, softmax, times a Gaussian around the drawing's centre of gravity.
"""

import functools

import numpy as np
import torch
from torch import Tensor

from asel_lib import checks
from asel_lib.data import lines as drawings
from asel_lib.selection.base import PatchSelector
from asel_lib.selection.registry import register
from asel_lib.selection.sampling import seeded_gumbel
from asel_lib.selection.view import View

CHOICES = ("sample", "top")
GIVEN = "given"  # no extractor: every call brings its drawings
BLANK = "blank"  # no lines: what is left is the prior around the middle, the yardstick for what lines add


@register("line_guided", label="line-guided", color="#CC79A7", marker="P")
class LineGuidedSelector(PatchSelector):
    """Scores are log(joint), joint ~ softmax(density) * prior; `sample` adds Gumbel noise, so that the K best are K
    patches drawn without replacement in proportion to joint (as published), `top` takes the K largest.

    Args:
        dim: width of the tokens, which it does not look at.
        lines: the extractor of calls without drawings ("xdog", "sobel", "informative"); "given": every call brings
            them; "blank": there are none, a yardstick.
        choice: "sample" (an image's draw depends on its pixels alone) or "top".
        sigma: of the prior, in heights and widths of the image.
        size: side of a drawing, in pixels.

    Raises:
        ValueError: an unknown extractor or choice, or a sigma or size that is not above 0.
    """

    def __init__(self, dim: int = 0, lines: str = "xdog", choice: str = "sample", sigma: float = 0.25, size: int = 64):
        super().__init__()
        for name, value, known in (("lines", lines, (*drawings.EXTRACTORS, GIVEN, BLANK)), ("choice", choice, CHOICES)):
            checks.one_of(f"{name} of line_guided", value, known)
        if not 0 < sigma < float("inf") or size < 1:
            raise ValueError(f"line_guided: sigma is {sigma!r} and size {size!r}, expected both above 0")
        self.lines, self.choice, self.sigma, self.size = lines, choice, sigma, size
        self.stochastic = choice == "sample"

    def draw_lines(self, images: Tensor) -> Tensor:
        """Drawings (B, 1, size, size) of images (B, 1, H, W) or (B, 3, H, W) in [0, 1].

        Raises:
            ValueError: this selector was made for drawings that every call brings.
        """
        if self.lines == GIVEN:
            raise ValueError(
                "this selector reads drawings that the call brings (lines=given), and got none: pass lines "
                f"(B, 1, {self.size}, {self.size}), or make the model with lines=xdog"
            )
        if self.lines == BLANK:
            return images.new_zeros(images.shape[0], 1, self.size, self.size)
        return drawings.draw(images, self.lines, self.size)

    def forward(self, view: View) -> Tensor:
        scores = self._log_joint(view)
        return scores + seeded_gumbel(view.seeds, scores.shape[1]) if self.stochastic else scores

    def explain(self, view: View) -> tuple[Tensor, str]:
        return self._log_joint(view), f"log-probabilities from {self.lines} line drawings"

    def _log_joint(self, view: View) -> Tensor:
        lines = drawings.check(view.lines, view.batch_size, self.size).float()
        return log_joint(lines, view.grid, self.sigma)


def log_joint(lines: Tensor, grid: tuple[int, int], sigma: float) -> Tensor:
    """The log of the published joint distribution over the patches.

    Args:
        lines: drawings (B, 1, h, w) in [0, 1].
        grid: (rows, columns) of patches.
        sigma: of the prior, in heights and widths of the image.

    Returns:
        (B, rows * columns).
    """
    return torch.log_softmax(density(lines, grid) + log_prior(centre(lines), grid, sigma), dim=1)


def density(lines: Tensor, grid: tuple[int, int]) -> Tensor:
    """The mean of the drawing over the area of each patch.

    Patch and pixel are related by their coordinates in the image, so any drawing fits any grid; a pixel on a border
    counts on both sides by the share that lies there. Where the grid divides the drawing, this is average pooling.

    Args:
        lines: drawings (B, 1, h, w).
        grid: (rows, columns) of patches.

    Returns:
        (B, rows * columns).
    """
    rows, columns = (
        torch.from_numpy(_overlap(int(size), int(cells))).to(
            lines.device
        )  # int: a tracer's sizes are tensors, each a key of its own
        for size, cells in zip(lines.shape[-2:], grid, strict=True)
    )
    return (rows @ lines[:, 0] @ columns.T).flatten(1)


def centre(lines: Tensor) -> Tensor:
    """Centre of gravity of line drawings, from the first pixel's middle to the last one's.

    Args:
        lines: (B, 1, h, w), high where there is a line.

    Returns:
        (B, 2), y and x in [0, 1]; of a blank drawing, the middle of the image.
    """
    drawn = lines[:, 0]
    y, x = (torch.linspace(0, 1, size, device=lines.device) for size in drawn.shape[-2:])
    mass = drawn.sum(dim=(1, 2))
    found = torch.stack([(drawn.sum(dim=2) * y).sum(dim=1), (drawn.sum(dim=1) * x).sum(dim=1)], dim=1)
    return torch.where(mass[:, None] > 0, found / mass.clamp_min(1e-12)[:, None], torch.full_like(found, 0.5))


def log_prior(centre: Tensor, grid: tuple[int, int], sigma: float) -> Tensor:
    """The log of a Gaussian around the centre, up to a constant: -|p - c|^2 / (2 sigma^2).

    Args:
        centre: c, (B, 2), y and x in [0, 1].
        grid: (rows, columns) of patches, whose places p are linspace(0, 1) along each side.
        sigma: in heights and widths of the image.

    Returns:
        (B, rows * columns).
    """
    # A single row or column lies in the middle, not at the edge where linspace(0, 1, 1) would put it.
    y, x = (
        torch.linspace(0, 1, n, device=centre.device) if n > 1 else torch.full((1,), 0.5, device=centre.device)
        for n in grid
    )
    squared = (y - centre[:, :1]).square()[:, :, None] + (x - centre[:, 1:]).square()[:, None, :]
    return -squared.flatten(1) / (2 * sigma**2)


@functools.lru_cache(maxsize=32)
def _overlap(size: int, cells: int) -> np.ndarray:
    """(cells, size): the share of each cell that each of `size` pixels fills, rows summing to 1."""
    edges, borders = np.arange(size + 1) / size, np.arange(cells + 1) / cells
    low = np.maximum(edges[None, :-1], borders[:-1, None])
    high = np.minimum(edges[None, 1:], borders[1:, None])
    return (np.clip(high - low, 0, None) * cells).astype(np.float32)
