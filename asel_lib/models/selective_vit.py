"""SelectiveViT: a timm VisionTransformer with a patch selector in its `patch_drop` slot."""

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import prod

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from asel_lib import checks
from asel_lib.data import inputs
from asel_lib.models.kept_embed import KeptPatchEmbed
from asel_lib.selection import PatchSelection, budget, create, keep_count
from asel_lib.selection.base import best, parse
from asel_lib.selection.fixed import image_seeds
from asel_lib.selection.reducers import TokenReducer, Tokens
from asel_lib.selection.slot import MODES, Call, Selection, take


@dataclass(frozen=True)
class Prediction:
    """A classifier's answer for one image. kept: the kept patches, numbered in raster order, best first."""

    label: str
    probability: float
    kept: list[int]


class SelectiveViT(VisionTransformer):
    """Any timm model of class VisionTransformer, by name; position embedding, class and register tokens,
    `dynamic_img_size`, `forward_features` and the rest of its methods are timm's own. A selector that does not read
    the patches (random, central, line_guided) chooses first, and only the kept patches are embedded.

    SelectiveViT("vit_tiny_patch16_224", num_classes=10, selector="learned", pretrained=False, **timm_kwargs)
    selector: a registered name, with options where it has some, e.g. "line_guided:lines=sobel,choice=top".

    `asel_lib.load` sets `classes` (names), `transform` (PIL image -> (3, S, S) float tensor) and `record`.
    """

    classes: tuple[str, ...] | None = None
    transform = None
    record: dict | None = None
    budgets: dict[float, float] = {}  # keep ratio on average -> factor, see selection.budget.lengths

    def __init__(
        self, architecture: str, num_classes: int, selector: str = "learned", pretrained: bool = False, **timm_kwargs
    ):
        built = timm.create_model(architecture, num_classes=num_classes, pretrained=pretrained, **timm_kwargs)
        if type(built) is not VisionTransformer:
            raise ValueError(
                f"{architecture!r} is a {type(built).__name__}: expected a timm model of class VisionTransformer "
                "(vit_*, deit_* without 'distilled', deit3_*, dinov2 ...)"
            )
        # timm builds by name through a factory; taking over what it built makes this very object that model,
        # without a wrapper (state-dict names stay timm's) and without a copy of its constructor's arguments.
        self.__dict__.update(built.__dict__)
        self.architecture = architecture
        self.patch_drop = PatchSelection(
            create(selector, self.embed_dim),
            self.num_prefix_tokens,
            self.embed_dim,
            self.pretrained_cfg["mean"],
            self.pretrained_cfg["std"],
        )
        if KeptPatchEmbed.fits(self.patch_embed):
            self.patch_embed = KeptPatchEmbed.taking_over(self.patch_embed, self.patch_drop)
        self.selector.attach(self)

    @property
    def selector(self):
        return self.patch_drop.selector

    def forward(
        self,
        images: Tensor,
        keep_ratio: float | str = 1.0,
        policy: str | None = None,
        lines: Tensor | None = None,
        *,
        draw: int = 0,
        kept: Tensor | None = None,
        mode: str = "gather",
        generator: torch.Generator | None = None,
        return_selection: bool = False,
    ) -> Tensor | tuple[Tensor, Selection]:
        """Classify images from the patches that the policy keeps.

        images (B, C, H, W) normalised; lines (B, 1, 64, 64) in [0, 1] for selectors that read line drawings, which
        make them of the images where there are none; keep_ratio in (0, 1], or "auto", or "auto:0.2": each image keeps
        as many patches as its own scores ask for, a fifth on average (see `calibrate`); policy None: the model's own
        selector, else a registered one for this call;
        draw: which random subset, for policies that draw; kept (B, K): patch indices, in place of a ratio and a policy;
        mode, generator: see selection.slot.Call (training).
        -> logits (B, classes), with return_selection also the scores and kept indices ("auto": -1 behind an image's
        last).
        ValueError for a keep ratio outside (0, 1], an unknown policy or mode, images of a size the model does not
        take, drawings or indices of a wrong shape or range.
        """
        if isinstance(keep_ratio, str):
            if self.training or kept is not None or lines is not None or mode != "gather" or not len(images):
                raise ValueError(
                    f"keep_ratio={keep_ratio!r} is for images of a model in eval mode, without kept, lines or mode: "
                    "call model.eval(), and leave these out"
                )
            logits, selection = self._adaptive(images, budget.average_of(keep_ratio), policy, draw)
            return (logits, selection) if return_selection else logits
        with self._selecting(images, keep_ratio, policy, lines, draw, mode, generator, kept) as call:
            if self._chooses_unseen(call):
                self.patch_drop.choose_unseen(call)
            logits = self.forward_head(self.forward_features(images))
        return (logits, call.selection) if return_selection else logits

    def scores(
        self, images: Tensor, policy: str | None = None, lines: Tensor | None = None, *, draw: int = 0
    ) -> Tensor:
        """The selector's score of each patch, (B, N); only the selector runs, and the embedding if it reads that."""
        with self._selecting(images, 1.0, policy, lines, draw, "gather", None) as call:
            if not self.patch_drop.chooser(call).reads_patches:
                return self.patch_drop.score(None, call)
            return self.patch_drop.score(self.patch_tokens(images), call)

    def weigh(self, images: Tensor, tokens: Tensor | None = None, policy: str | None = None) -> Tensor:
        """The log-weights behind the scores of a selector that was trained, (B, N). tokens (B, N, D): what it reads,
        None: `patch_tokens`. ValueError where there are none."""
        with self._selecting(images, 1.0, policy, None, 0, "gather", None) as call:
            chooser = self.patch_drop.chooser(call)
            if not chooser.trained or isinstance(chooser, TokenReducer):
                raise ValueError(
                    f"policy {policy or chooser.name!r} has learned no weights that say how many patches an image "
                    "needs: use a model with selector 'glance' or 'learned', or a number as keep_ratio"
                )
            if tokens is None and chooser.reads_patches:
                tokens = self.patch_tokens(images)
            with torch.autocast(images.device.type, enabled=False):  # as for scores: eight bits would tie
                return chooser.log_weights(None if tokens is None else tokens.float(), call.grid, images.float())

    @torch.inference_mode()
    def calibrate(self, batches: Iterable[tuple[Tensor, ...]], averages: Sequence[float] = budget.AVERAGES) -> None:
        """Prepare keep_ratio="auto:<average>" for these keep ratios: factors with which the images of `batches`
        (those of val) keep that share of their patches on average. Checkpoints of recipe "anytime" bring theirs."""
        was_training = self.training
        self.eval()
        try:
            weights = torch.cat([self.weigh(images) for images, *_ in batches])
        finally:
            self.train(was_training)
        self.budgets = self.budgets | {float(average): budget.factor_for(weights, average) for average in averages}

    def patch_tokens(self, images: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, N, D): all patches, embedded, with their positions: what the first block would see."""
        return self._pos_embed(self.patch_embed(images))[:, self.num_prefix_tokens :]

    def select(
        self,
        images: Tensor,
        keep_ratio: float,
        policy: str | None = None,
        lines: Tensor | None = None,
        *,
        draw: int = 0,
    ) -> Tensor:
        """Indices (B, K) of the kept patches, best first, in raster order's numbering; of a policy that takes tokens
        out between the blocks those left at the end, -1 for a token made of several. ValueError for one that merges."""
        chooser = self.patch_drop.chooser(Call(policy=policy))
        if isinstance(chooser, TokenReducer):
            if keep_ratio == 1:
                return torch.arange(prod(self._grid(images)), device=images.device).expand(len(images), -1)
            _, selection = self(images, keep_ratio, policy, lines, draw=draw, return_selection=True)
            if selection.kept is None:
                raise ValueError(f"policy {chooser.name!r} merges patches and keeps none as they are")
            return selection.kept
        scores = self.scores(images, policy, lines, draw=draw)
        return best(scores, keep_count(scores.shape[1], keep_ratio))

    @torch.inference_mode()
    def predict(
        self,
        images: Sequence,
        keep_ratio: float | str = 1.0,
        policy: str | None = None,
        batch_size: int = 64,
        lines: Tensor | None = None,
        *,
        white: float | None = None,
        on_error: str = "raise",
    ) -> list[Prediction | None]:
        """Classify PIL images or paths; lines: their line drawings (n, 1, h, w) in [0, 1], for a selector that does not
        draw them itself. white: the number that is white in images of more than 8 bits, None: as in the images that the
        model learnt from. on_error, for files that cannot be read: "raise" answers the others and raises
        data.inputs.UnreadableImages, which carries them; "skip" has None in their places, and warns.
        -> one Prediction an image, in order."""
        if self.transform is None or self.classes is None:
            raise ValueError("predict needs the model's transform and classes: load it with asel_lib.load(name)")
        device, failed = next(self.parameters()).device, {}
        answers: list[Prediction | None] = [None] * len(inputs.checked(images, on_error))
        for places, batch in inputs.batched(images, self.transform, batch_size, failed, white):
            batch, drawn = batch.to(device), None if lines is None else lines[places].to(device)
            logits, selection = self(batch, keep_ratio, policy, drawn, return_selection=True)
            probabilities, winners = logits.softmax(dim=1).max(dim=1)
            rows = zip(
                winners.tolist(), probabilities.tolist(), self.kept_of(selection, batch, policy, drawn), strict=True
            )
            for place, (winner, probability, patches) in zip(places, rows, strict=True):
                answers[place] = Prediction(self.classes[winner], probability, patches)
        return inputs.settled(answers, failed, on_error)

    def kept_of(
        self, selection: Selection, batch: Tensor, policy: str | None = None, lines: Tensor | None = None
    ) -> list[list[int]]:
        """The patches of each image that a call's answer is made from, best first: `selection` is what it returned. All
        of them where none was left out, or where they were merged; not those fused into one token (EViT)."""
        if selection.kept is not None:
            return [[patch for patch in patches if patch >= 0] for patches in selection.kept.tolist()]
        if isinstance(self.patch_drop.chooser(Call(policy=policy)), TokenReducer):
            return [list(range(prod(self._grid(batch))))] * len(batch)
        return self.select(batch, 1.0, policy, lines).tolist()

    def forward_features(self, x: Tensor, *args, **kwargs) -> Tensor:
        """timm's, unless this call's policy takes tokens out between the blocks."""
        call = self.patch_drop.call
        reducer = self.patch_drop.reducer(call)
        if reducer is None:
            return super().forward_features(x, *args, **kwargs)
        reducer.check(self)
        x = self.norm_pre(self.patch_drop(self._pos_embed(self.patch_embed(x))))
        patches = x.shape[1] - self.num_prefix_tokens
        places = torch.arange(patches, device=x.device).expand(len(x), -1)
        left = reducer.reduce(
            self.blocks, Tokens(x, self.num_prefix_tokens, places), call.keep_ratio, call.mode, call.generator
        )
        call.selection.kept = left.places
        return self.norm(left.all)

    def _pos_embed(self, x: Tensor) -> Tensor:
        """timm's, also for tokens of the kept patches alone: prefix tokens, position embedding."""
        kept = self.patch_drop.call.selection.kept
        if kept is None:
            return super()._pos_embed(x)
        # What timm's own method adds to nothing is the position embedding, resampled if need be, behind the prefix.
        grid = self.patch_drop.call.grid
        shape = grid if self.dynamic_img_size else (grid[0] * grid[1],)
        added = super()._pos_embed(x.new_zeros(1, *shape, self.embed_dim)).expand(len(x), -1, -1)
        prefix, places = added.split([self.num_prefix_tokens, added.shape[1] - self.num_prefix_tokens], dim=1)
        return torch.cat([prefix, x + take(places, kept)], dim=1)

    def _adaptive(self, images: Tensor, average: float, policy: str | None, draw: int) -> tuple[Tensor, Selection]:
        """Images that keep equally many patches pass together, so that fewer patches are less work."""
        if average not in self.budgets:
            known = ", ".join(f"{one:g}" for one in sorted(self.budgets)) or "none"
            raise ValueError(
                f"this model is not prepared to keep {average:g} of the patches on average (prepared for: {known}): "
                f"call model.calibrate(batches of val images, [{average:g}]) first"
            )
        weights = self.weigh(images, policy=policy)
        chooser = self.patch_drop.chooser(Call(policy=policy))
        seeds = image_seeds(images, draw) if chooser.stochastic else None
        order = best(chooser.ranked(weights, self._grid(images), seeds), weights.shape[1])
        asked = budget.lengths(weights, self.budgets[average])
        kept = torch.where(torch.arange(order.shape[1], device=order.device) < asked[:, None], order, -1)
        logits = None
        for count in asked.unique().tolist():
            rows = (asked == count).nonzero()[:, 0]
            some = self(images[rows], kept=order[rows, :count]) if count < order.shape[1] else self(images[rows])
            logits = some.new_empty(len(images), some.shape[1]) if logits is None else logits
            logits[rows] = some
        return logits, Selection(weights, kept[:, : int(asked.max())])

    def _chooses_unseen(self, call: Call) -> bool:
        """Whether this call's patches can be chosen before they are embedded, and some are left out."""
        patches = call.grid[0] * call.grid[1]
        if not isinstance(self.patch_embed, KeptPatchEmbed) or (self.training and self.pos_drop.p):
            return False  # dropout would also drop from the position embedding's shares
        if call.given is not None:
            return True
        fewer = call.mode == "gather" and keep_count(patches, call.keep_ratio) < patches
        return fewer and not self.patch_drop.chooser(call).reads_patches

    @contextlib.contextmanager
    def _selecting(self, images, keep_ratio, policy, lines, draw, mode, generator, kept=None):
        """Hand the slot this call's settings, and take them back whatever happens."""
        keep_count(1, keep_ratio)  # a bad ratio is an error before any work
        checks.one_of("mode", mode, MODES)
        if policy is not None:
            parse(policy)
        grid = self._grid(images)
        if kept is not None and (kept.ndim != 2 or len(kept) != len(images) or not 0 < kept.shape[1] <= prod(grid)):
            raise ValueError(
                f"kept is {tuple(kept.shape)}: expected ({len(images)}, K), indices of 1 to {prod(grid)} patches"
            )
        if kept is not None and not (0 <= int(kept.min()) and int(kept.max()) < prod(grid)):
            raise ValueError(f"kept has an index outside of 0 to {prod(grid) - 1}, the image's patches")
        self.patch_drop.call = Call(keep_ratio, policy, lines, grid, images, draw, kept, mode, generator)
        try:
            yield self.patch_drop.call
        finally:
            self.patch_drop.call = Call()

    def _grid(self, images: Tensor) -> tuple[int, int]:
        """(rows, columns) of patches; ValueError where the model does not take images of this size."""
        embed = self.patch_embed
        size, patch = tuple(images.shape[-2:]), embed.patch_size
        if images.ndim != 4:
            raise ValueError(f"images are {tuple(images.shape)}: expected (B, {embed.proj.in_channels}, H, W)")
        if embed.strict_img_size and embed.img_size is not None and size != tuple(embed.img_size):
            raise ValueError(
                f"images of {size[0]} x {size[1]} pixels, but this model takes {embed.img_size[0]} x "
                f"{embed.img_size[1]}: resize them, or make the model with img_size={size} or dynamic_img_size=True"
            )
        if not embed.dynamic_img_pad and (size[0] % patch[0] or size[1] % patch[1]):
            raise ValueError(
                f"patches of {patch[0]} x {patch[1]} pixels do not divide images of {size[0]} x {size[1]}: choose "
                "multiples, or make the model with dynamic_img_pad=True"
            )
        return tuple(int(n) for n in embed.dynamic_feat_size(size))
