"""The module in timm's `patch_drop` slot: it holds the model's selector, and knows who chooses by which policy.

It keeps nothing of a call. `SelectiveViT.forward` hands a call's settings from step to step.
"""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from asel_lib.data.lines import grey_of
from asel_lib.selection import registry
from asel_lib.selection.base import PatchSelector, stable_topk
from asel_lib.selection.sampling import gumbel_top_k


class PatchSelection(nn.Module):
    """The model's own selector and what its images are normalised by. As timm's slot it lets all tokens pass.

    Args:
        selector: the model's own.
        dim: width of the tokens.
        mean: what images are normalised by, a channel, for selectors that look at pixels.
        std: the same.
    """

    def __init__(
        self,
        selector: PatchSelector,
        dim: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ):
        super().__init__()
        self.selector, self.dim = selector, dim
        self.mean, self.std = tuple(mean), tuple(std)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens

    def chooser(self, policy: str | None = None) -> PatchSelector:
        """Who chooses by a policy: the model's own selector where it is that one, else one that needs no training.

        Args:
            policy: a selector's name, with options where wanted; None: the model's own.

        Raises:
            ValueError: an unknown policy, or one whose weights this model does not have.
        """
        if policy is None:
            return self.selector
        kind, options = registry.parse(policy)
        if type(self.selector) is kind:
            if self.selector.options == options:
                return self.selector
            if (other := self.selector.choosing_by(options)) is not None:
                return other
        made = _made(policy, self.dim)
        if made.trained or next(made.parameters(), None) is not None:
            raise ValueError(
                f"policy {policy!r} has trained weights, and this model was made with another selector "
                f"({type(self.selector).__name__}): load a model made with selector={policy!r}"
            )
        return made

    def brought(self, policy: str | None, lines: Tensor | None) -> Tensor | None:
        """The drawings that came with the images, for the policy they are meant for: the model's own. Another one has
        an extractor of its own to be compared with them.

        Args:
            policy: who chooses, None: the model's own.
            lines: (B, 1, h, w) or None.
        """
        return lines if self.chooser(policy) is self.selector else None

    def draw_lines(self, chooser: PatchSelector, images: Tensor) -> Tensor | None:
        """The line drawings that a selector makes of normalised images.

        Args:
            chooser: the selector.
            images: (B, C, H, W), normalised.

        Returns:
            (B, 1, h, w); None: it reads none.
        """
        if not chooser.reads_lines():
            return None
        if images.shape[1] not in (1, 3):
            raise ValueError(
                f"policy {chooser.name!r} draws the lines of grey or RGB images, and these have {images.shape[1]} "
                "channels: pass lines (B, 1, h, w), or use a policy that reads none, e.g. 'glance' or 'central'"
            )
        # In float32 also under autocast, as the scores that are made of them.
        with torch.autocast(images.device.type, enabled=False):
            return chooser.draw_lines(grey_of(images.float(), self.mean, self.std))


def choose(
    scores: Tensor, keep: int, mode: str = "gather", generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor | None]:
    """Which patches enter the blocks, and what they are multiplied by to pass a gradient to the scores.

    Args:
        scores: (B, N).
        keep: K.
        mode: see `call.Call`.
        generator: what "gumbel" draws with.

    Returns:
        Indices (B, K), and weights: of all patches (B, N) in mode "mask", of the kept ones (B, K) in mode "gumbel",
        None in mode "gather".
    """
    if mode == "mask":
        return straight_through_mask(scores, keep)
    if mode == "gumbel":
        kept = gumbel_top_k(scores, keep, generator)
        return kept, straight_through(scores.gather(1, kept))
    return stable_topk(scores, keep), None


def straight_through(scores: Tensor) -> Tensor:
    """1 with the gradient of `scores`: 1 - stopgrad(s) + s."""
    return 1 + (scores - scores.detach())


def straight_through_mask(scores: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """ASEL's training: patches are multiplied by stopgrad(M - s) + s, M = 1 on the K highest scores.

    Args:
        scores: (B, N).
        keep: K.

    Returns:
        Indices (B, K) and the mask (B, N).
    """
    kept = stable_topk(scores.detach(), keep)
    hard = torch.zeros_like(scores).scatter(1, kept, 1.0)
    # hard + (s - stopgrad(s)) is exactly 0 or 1 forward, in any precision.
    return kept, hard + (scores - scores.detach())


@functools.lru_cache(maxsize=32)
def _made(policy: str, dim: int) -> PatchSelector:
    """Kept from call to call: making a module takes as long as choosing with it."""
    return registry.create(policy, dim)
