"""A learned selector that glances at the whole image before anything is embedded: a small convolutional network."""

import copy
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from asel_lib import checks
from asel_lib.selection.base import PatchSelector
from asel_lib.selection.registry import register
from asel_lib.selection.sampling import seeded_gumbel, spread_gumbel
from asel_lib.selection.view import View

CHOICES = ("spread", "sample", "top")
SCALES = 3  # halvings between what the network looks at and its answer: 8 x 8 points a patch


@register("glance", label="glance (ours)", color="#0072B2", marker="o", recipes=("anytime",))
class GlanceSelector(PatchSelector):
    """Scores are log-weights: of an image shrunk to 8 x 8 points a patch, three convolutions of stride 2 and one more
    make one number a patch, each from the 38 points (almost five patches) around its middle.

    It reads pixels, not embedded patches: a linear embedding of 16 x 16 pixels does not tell a small network what is in
    them (trials in docs/lab_notebook.md), and so only the kept patches need be embedded. It takes 1.7 % of the
    operations of a ViT-Tiny with 6 blocks at 128 px.

    Args:
        dim: width of the tokens, which it does not look at.
        width: channels of the first layer.
        choice: "sample": K patches drawn in proportion to exp(score) without replacement, as in training, from the
            image's seed. "spread": the same with noise that is laid out to cover the image (`sampling.spread_gumbel`),
            which is no draw. "top": the K highest. All choose by the same weights: each can be a policy of a model with
            this selector.

    Raises:
        ValueError: an unknown choice, or a width below 1.
    """

    def __init__(self, dim: int = 0, width: int = 8, choice: str = "spread"):
        super().__init__()
        checks.one_of("choice of glance", choice, CHOICES)
        checks.whole("width of glance", width, 1)
        self.choice, self.stochastic = choice, choice == "sample"
        channels = (3, *(width * 2**scale for scale in range(SCALES)))
        # Kernels of 4 points at stride 2 keep an answer in the middle of its patch; of 3, it would slip to a corner.
        layers = [_layer(*pair, size=4, stride=2) for pair in zip(channels[:-1], channels[1:], strict=True)]
        last = nn.Conv2d(channels[-1], 1, 1)
        nn.init.zeros_(last.weight)  # training begins with a uniform choice
        nn.init.zeros_(last.bias)
        self.network = nn.Sequential(*layers, _layer(channels[-1], channels[-1], size=3, stride=1), last)

    def attach(self, model: nn.Module) -> None:
        conv, channels = self.network[0][0], model.in_chans
        if channels != conv.in_channels:
            self.network[0] = _layer(channels, conv.out_channels, size=4, stride=2)

    def forward(self, view: View) -> Tensor:
        return self.ranked(self.log_weights(view), view)

    def log_weights(self, view: View) -> Tensor:
        images = view.images
        points, factor = _shrinking(view.grid, images.shape[-2:])
        if not factor:
            return self.network(F.adaptive_avg_pool2d(images, points)).flatten(1)
        # Shrinking by a whole factor and the first convolution are one convolution with wider kernels, which reads the
        # image once: 2.5 times as fast as the two (docs/speed.md).
        conv, *rest = self.network[0]
        hidden = F.conv2d(
            images, _widened(conv.weight, factor), stride=conv.stride[0] * factor, padding=conv.padding[0] * factor
        )
        for layer in (*rest, *self.network[1:]):
            hidden = layer(hidden)
        return hidden.flatten(1)

    def ranked(self, log_weights: Tensor, view: View) -> Tensor:
        if self.choice == "spread":
            return log_weights + spread_gumbel(view.grid, log_weights.device)
        return log_weights + seeded_gumbel(view.seeds, view.num_patches) if self.stochastic else log_weights

    def explain(self, view: View) -> tuple[Tensor, str]:
        return self.log_weights(view), f"log-weights of {self.name}"

    def choosing_by(self, options: dict[str, object]) -> PatchSelector | None:
        if self.options | {"choice": None} != options | {"choice": None}:
            return None
        other = copy.copy(self)
        other.options, other.choice, other.stochastic = options, options["choice"], options["choice"] == "sample"
        return other

    def prepared(self, grid: tuple[int, int], image_size: tuple[int, int]) -> PatchSelector:
        _, factor = _shrinking(grid, image_size)
        return PreparedGlance(self, grid, factor) if factor else self


class PreparedGlance(GlanceSelector):
    """A trained `glance` for images that are `factor` times as large as what it looks at: its first convolution widened
    by that, each batch normalisation folded into its convolution, the noise laid out.

    Args:
        glance: whose weights it takes a copy of.
        grid: (rows, columns) of patches.
        factor: pixels of an image, along a side, for a point that `glance` looks at.
    """

    def __init__(self, glance: GlanceSelector, grid: tuple[int, int], factor: int):
        super(GlanceSelector, self).__init__()
        self.name, self.choice, self.stochastic = glance.name, glance.choice, glance.stochastic
        *layers, last = copy.deepcopy(glance.network).eval()
        self.convolutions = nn.ModuleList(fuse_conv_bn_eval(layer[0], layer[1]) for layer in layers)
        first = self.convolutions[0]
        first.weight = nn.Parameter(_widened(first.weight.detach(), factor), requires_grad=False)
        first.stride, first.padding = (tuple(side * factor for side in pair) for pair in (first.stride, first.padding))
        self.last = last
        noise = spread_gumbel(grid, last.weight.device) if glance.choice == "spread" else None
        self.register_buffer("noise", noise, persistent=False)

    def log_weights(self, view: View) -> Tensor:
        hidden = view.images
        for convolution in self.convolutions:
            hidden = convolution(hidden).relu()
        return self.last(hidden).flatten(1)

    def ranked(self, log_weights: Tensor, view: View) -> Tensor:
        return super().ranked(log_weights, view) if self.noise is None else log_weights + self.noise

    def prepared(self, grid: tuple[int, int], image_size: tuple[int, int]) -> PatchSelector:
        return self


def _shrinking(grid: tuple[int, int], size: Sequence[int]) -> tuple[tuple[int, int], int]:
    """Points (rows, columns) that the network looks at, and how many pixels of an image of that size go into one along
    a side; 0 where that is no whole number, the same for both sides."""
    points = tuple(int(cells) * 2**SCALES for cells in grid)
    factor = size[0] // points[0]
    return points, factor if tuple(size) == (points[0] * factor, points[1] * factor) else 0


def _widened(weight: Tensor, factor: int) -> Tensor:
    """A kernel (..., h, w) that on an image does what `weight` does on the image shrunk by that factor."""
    return weight.repeat_interleave(factor, 2).repeat_interleave(factor, 3) / factor**2


def _layer(before: int, after: int, size: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, size, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()
    )
