"""What a selector is, and how many patches a keep ratio means."""

import math

import torch
from torch import Tensor, nn

from asel_lib.selection.call import Call, Tokens
from asel_lib.selection.view import View


class PatchSelector(nn.Module):
    """Scores patches; the higher, the more worth keeping.

    A selector is a module with `forward(view) -> scores (B, N)`. What it touches of the view (images, patches, line
    drawings, seeds) is made for it; where it never touches the patches, only the kept ones are embedded. An image's
    scores must not depend on the rest of its batch, nor on its label. The constructor takes `dim`, the token width, and
    after it the options, each with a default of the option's type.

    Two things of a selector cannot be seen from its calls and are declared:
        stochastic: whether another draw keeps other patches of the same image.
        trained: whether it has weights that a recipe trains; `registry.register` sets it from the recipes. Such a
            selector can only be a model's own, not a policy of another model.

    Its weights stay in float32 where the model goes to half precision, since scores of eight bits would tie.
    """

    name = ""  # it is registered under
    options: dict[str, object] = {}  # that it was made with, by `registry.create`
    stochastic = False
    trained = False

    def forward(self, view: View) -> Tensor:
        """The scores of all patches.

        Args:
            view: what can be seen in this call.

        Returns:
            Scores (B, N), the best patch with the highest.
        """
        raise NotImplementedError

    def attach(self, model: nn.Module) -> None:
        """Learn which model this selector chooses for; called once, when it becomes that model's own.

        Args:
            model: a SelectiveViT, with its patch embedding and blocks.
        """

    def prepared(self, grid: tuple[int, int], image_size: tuple[int, int]) -> "PatchSelector":
        """A selector with the same scores for inference on images of one size, with all laid ready that can be.

        It does not follow later changes of this one's weights. A selector that has nothing to lay ready returns itself.

        Args:
            grid: (rows, columns) of patches.
            image_size: (height, width), pixels.
        """
        return self

    def choosing_by(self, options: dict[str, object]) -> "PatchSelector | None":
        """A selector that chooses by these options with the same weights; None where they ask for other weights.

        Args:
            options: all options, as `registry.parse` gives them.
        """
        return None

    def draw_lines(self, images: Tensor) -> Tensor | None:
        """The line drawings that this selector scores; None for a selector that reads none.

        Args:
            images: (B, 1, H, W) or (B, 3, H, W), in [0, 1].

        Returns:
            Drawings (B, 1, h, w), high where there is a line.
        """
        return None

    def log_weights(self, view: View) -> Tensor:
        """The log of the weights in proportion to which patches are drawn in training, (B, N).

        Args:
            view: what can be seen in this call.

        Raises:
            ValueError: this selector has learned none.
        """
        raise ValueError(
            f"policy {self.name!r} has learned no weights that say how many patches an image needs: use a model with "
            "selector 'glance' or 'learned', or a number as keep_ratio"
        )

    def ranked(self, log_weights: Tensor, view: View) -> Tensor:
        """The scores by which patches of these log-weights are kept.

        Args:
            log_weights: (B, N).
            view: what can be seen in this call.

        Returns:
            (B, N).
        """
        return log_weights

    def explain(self, view: View) -> tuple[Tensor | None, str]:
        """What patches are kept by before any draw, to look at.

        Returns:
            Values (B, N) and what they are; None and the reason where there is nothing worth a look.
        """
        if self.stochastic:
            return None, f"{self.name} draws the patches: it has no scores"
        return self(view), f"scores of {self.name}"

    def score_before_blocks(self, view: View) -> Tensor | None:
        """The scores by which patches are kept before the first block, (B, N); None: all enter it."""
        with view.full_precision():
            return self(view)

    def replace_patches(self, model: nn.Module, images: Tensor, keep: int) -> Tokens | None:
        """What enters the blocks in place of kept patches, where a method does not keep patches at all.

        Args:
            model: a SelectiveViT.
            images: (B, C, H, W), normalised.
            keep: K, the most tokens that may enter beside the prefix.

        Returns:
            Tokens with their positions; None: patches are kept.
        """
        return None

    def replacing(self, model: nn.Module, keep: int) -> nn.Module | None:
        """`replace_patches` for inference on images of the model's own size, with all laid ready that can be.

        Args:
            model: a SelectiveViT.
            keep: K, the most tokens that may enter beside the prefix.

        Returns:
            A module, images -> tokens (B, P + n, D), whose `count` is n; None: this method has none.
        """
        return None

    def run_blocks(self, model: nn.Module, tokens: Tokens, call: Call) -> Tokens:
        """The tokens behind the model's last block. A token reducer takes some out on the way.

        Args:
            model: a SelectiveViT, whose blocks are run.
            tokens: what enters the first block.
            call: the call's settings.
        """
        return Tokens(model.run_blocks(tokens.all, tokens.rotary), tokens.prefix, tokens.places)

    @classmethod
    def reads_lines(cls) -> bool:
        """Whether it scores line drawings."""
        return cls.draw_lines is not PatchSelector.draw_lines

    @classmethod
    def reduces_tokens(cls) -> bool:
        """Whether it takes tokens out between the blocks, instead of before them."""
        return cls.run_blocks is not PatchSelector.run_blocks

    @classmethod
    def keeps_patches(cls) -> bool:
        """Whether the blocks see some of the patches, as they are, and nothing else."""
        return not cls.reduces_tokens() and cls.replace_patches is PatchSelector.replace_patches

    def _apply(self, fn, recurse: bool = True):
        """torch's way to move and convert a module, but weights of single precision are not made half."""

        def keep_single(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            halved = moved.dtype in (torch.float16, torch.bfloat16) and tensor.dtype != moved.dtype
            return tensor.to(moved.device) if halved else moved

        return super()._apply(keep_single, recurse)


def keep_count(num_patches: int, keep_ratio: float) -> int:
    """K = max(1, floor(N * keep_ratio)).

    Args:
        num_patches: N.
        keep_ratio: in (0, 1].

    Raises:
        ValueError: the ratio is not a number in (0, 1].
    """
    number = isinstance(keep_ratio, int | float) and not isinstance(keep_ratio, bool)
    if not (number and 0 < keep_ratio <= 1):  # nan fails the comparison too
        raise ValueError(f"keep_ratio is {keep_ratio!r}: expected a number in (0, 1], e.g. 0.5 for half of the patches")
    return max(1, math.floor(num_patches * keep_ratio))


def stable_topk(scores: Tensor, keep: int) -> Tensor:
    """The indices of the highest scores, best first.

    Of equal scores the first in raster order is the better, on every device; torch.topk promises no order among equals.

    Args:
        scores: (B, N).
        keep: K, how many.

    Returns:
        Indices (B, K).
    """
    return torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :keep]
