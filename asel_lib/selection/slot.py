"""The module in timm's `patch_drop` slot: it scores the patches, keeps K, and hands the blocks what is left.

Pure tensor functions first; the module below only joins them.
"""

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from asel_lib.data.lines import grey_of
from asel_lib.reproducibility import BatchSliceGenerator, uniform
from asel_lib.selection import base
from asel_lib.selection.fixed import image_seeds
from asel_lib.selection.reducers import TokenReducer

MODES = ("gather", "mask", "gumbel")


@dataclass
class Selection:
    """What the slot chose: scores (B, N) and kept (B, K), both None where all patches were kept unseen."""

    scores: Tensor | None = None
    kept: Tensor | None = None


@dataclass(frozen=True)
class Call:
    """One call's settings, which timm's forward cannot hand to the slot, and the place for what the slot chose.

    lines None: a selector that reads drawings makes them of the images. given (B, K): these patches are kept, whatever
    a selector says. mode "gather": the K best patches enter the
    blocks (inference, and training of what learns nothing). "mask": all do, multiplied by the
    straight-through mask (ASEL's published training). "gumbel": K patches drawn by Gumbel top-k enter (`dropped`).
    """

    keep_ratio: float = 1.0
    policy: str | None = None
    lines: Tensor | None = None
    grid: tuple[int, int] = (0, 0)
    images: Tensor | None = None
    draw: int = 0
    given: Tensor | None = None
    mode: str = "gather"
    generator: torch.Generator | None = None
    selection: Selection = field(default_factory=Selection)


def take(patches: Tensor, kept: Tensor) -> Tensor:
    """(B, N, D) patches, (B, K) indices -> (B, K, D)."""
    return patches.gather(1, kept.unsqueeze(-1).expand(-1, -1, patches.shape[-1]))


def straight_through(scores: Tensor) -> Tensor:
    """1 with the gradient of `scores`: 1 - stopgrad(s) + s."""
    return 1 + (scores - scores.detach())


def masked(patches: Tensor, scores: Tensor, keep: int) -> tuple[Tensor, Tensor]:
    """ASEL's training: z_i * (stopgrad(M - s) + s), M = 1 on the K highest scores. -> ((B, N, D), kept (B, K))."""
    kept = base.best(scores.detach(), keep)
    hard = torch.zeros_like(scores).scatter(1, kept, 1.0)
    # hard + (s - stopgrad(s)) is exactly 0 or 1 forward, in any precision.
    return patches * (hard + (scores - scores.detach())).unsqueeze(-1), kept


def gumbel_top_k(scores: Tensor, keep: int, generator: torch.Generator | BatchSliceGenerator | None = None) -> Tensor:
    """Draw K patches without replacement, in proportion to their odds s / (1 - s): top-k of the log-odds plus
    Gumbel noise (Kool et al. 2019). scores in (0, 1), (B, N) -> kept (B, K)."""
    return draw_order(torch.logit(scores.float(), eps=1e-6), generator)[:, :keep]


def draw_order(weights: Tensor, generator: torch.Generator | BatchSliceGenerator | None = None) -> Tensor:
    """Log-weights (B, N) -> all patches (B, N), drawn one after the other in proportion to their weights."""
    # Drawn on the CPU, so that a GPU run keeps the same patches as a CPU run of the same seed.
    even = uniform(tuple(weights.shape), generator).clamp_min(1e-20).to(weights.device)
    return base.best(weights.detach() - torch.log(-torch.log(even)), weights.shape[1])


@functools.lru_cache(maxsize=32)
def _made(policy: str, dim: int) -> base.PatchSelector:
    """Kept from call to call: making a module takes as long as choosing with it."""
    return base.create(policy, dim)


def _choosing(selector: base.PatchSelector, options: dict) -> base.PatchSelector:
    """The same weights with another choice."""
    other = copy.copy(selector)
    other.options, other.choice, other.stochastic = options, options["choice"], options["choice"] == "sample"
    return other


class PatchSelection(nn.Module):
    """(B, P + N, D) -> (B, P + K, D), P prefix tokens (class, registers) kept as they are."""

    def __init__(
        self,
        selector: base.PatchSelector,
        num_prefix_tokens: int,
        dim: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
    ):
        """mean, std: what the images are normalised by, for selectors that look at pixels."""
        super().__init__()
        self.selector = selector
        self.num_prefix_tokens = num_prefix_tokens
        self.dim = dim
        self.mean, self.std = tuple(mean), tuple(std)
        self.call = Call()

    def score(self, patches: Tensor | None, call: Call) -> Tensor:
        """(B, N, D) -> (B, N), by the model's own selector or, for this call, another policy. patches None: they are
        not embedded yet, which is all the same to a selector that does not read them."""
        return self.score_by(self.chooser(call), patches, call.grid, call.images, call.lines, call.draw)

    def score_by(
        self,
        selector: base.PatchSelector,
        patches: Tensor | None,
        grid: tuple[int, int],
        images: Tensor,
        lines: Tensor | None = None,
        draw: int = 0,
    ) -> Tensor:
        """`score`, with all that a call says given one by one."""
        if patches is None:
            patches = images.new_empty(images.shape[0], grid[0] * grid[1], 0)
        extra = {"images": images.float()} if selector.reads_images else {}
        if selector.stochastic:
            extra["seeds"] = image_seeds(images, draw)
        # In float32 also under autocast: eight bits of score would tie, and ties keep the top rows of the image.
        with torch.autocast(patches.device.type, enabled=False):
            if selector.reads_lines and lines is None:
                lines = self._draw(selector, images)
            return selector(patches.float(), grid, lines, **extra)

    def drawings(self, images: Tensor, policy: str | None = None) -> Tensor:
        """The line drawings (B, 1, h, w) that a policy which reads them makes of normalised images (B, 3, H, W)."""
        return self._draw(self.chooser(Call(policy=policy)), images)

    def _draw(self, selector: base.PatchSelector, images: Tensor) -> Tensor:
        # In float32 also under autocast, as the scores that are made of them.
        with torch.autocast(images.device.type, enabled=False):
            return selector.draw(grey_of(images.float(), self.mean, self.std))

    def brought(self, policy: str | None, lines: Tensor | None) -> Tensor | None:
        """The drawings that came with the images, for the policy they are meant for: the model's own. Another one has
        an extractor of its own to be compared with them."""
        return lines if self.chooser(Call(policy=policy)) is self.selector else None

    def chooser(self, call: Call) -> base.PatchSelector:
        """Who chooses in this call."""
        return self.selector if call.policy is None else self._policy(call.policy)

    def reducer(self, call: Call) -> TokenReducer | None:
        """Who takes tokens out between the blocks in this call, None: nobody does."""
        chooser = self.chooser(call)
        some = call.keep_ratio < 1 or call.mode != "gather"
        return chooser if isinstance(chooser, TokenReducer) and some and call.given is None else None

    def choose_unseen(self, call: Call) -> None:
        """Choose before the patches are embedded: those given, or by a selector that does not read them."""
        if call.given is not None:
            call.selection.kept = call.given
            return
        scores = self.score(None, call)
        call.selection.scores = scores
        call.selection.kept = base.best(scores, base.keep_count(scores.shape[1], call.keep_ratio))

    def forward(self, tokens: Tensor) -> Tensor:
        call = self.call
        if call.selection.kept is not None:
            return tokens  # chosen before embedding: these are the kept ones
        if self.reducer(call) is not None:
            return tokens  # taken out between the blocks
        prefix, patches = tokens.split([self.num_prefix_tokens, tokens.shape[1] - self.num_prefix_tokens], dim=1)
        if call.given is not None:
            call.selection.kept = call.given
            return torch.cat([prefix, take(patches, call.given)], dim=1)
        keep = base.keep_count(patches.shape[1], call.keep_ratio)
        if keep == patches.shape[1] and call.mode == "gather":
            # Nothing to choose, so nothing to pay: this is the plain timm model.
            return tokens
        scores = self.score(patches, call)
        if call.mode == "mask":
            patches, kept = masked(patches, scores, keep)
        elif call.mode == "gumbel":
            kept = gumbel_top_k(scores, keep, call.generator)
            weight = straight_through(scores.gather(1, kept)).to(patches.dtype)
            patches = take(patches, kept) * weight.unsqueeze(-1)
        else:
            kept = base.best(scores, keep)
            patches = take(patches, kept)
        call.selection.scores, call.selection.kept = scores, kept
        return torch.cat([prefix, patches], dim=1)

    def _policy(self, policy: str) -> base.PatchSelector:
        """The model's own selector where it is that one, with the choice that is asked for, else a policy that needs
        no training."""
        kind, options = base.parse(policy)
        if type(self.selector) is kind:
            own = getattr(self.selector, "options", {})
            if own == options:
                return self.selector
            if kind.trained and own | {"choice": None} == options | {"choice": None}:
                return _choosing(self.selector, options)
        made = _made(policy, self.dim)
        if made.trained or next(made.parameters(), None) is not None:
            raise ValueError(
                f"policy {policy!r} has trained weights, and this model was made with another selector "
                f"({type(self.selector).__name__}): load a model made with selector={policy!r}"
            )
        return made
