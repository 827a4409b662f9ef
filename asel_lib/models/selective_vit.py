"""SelectiveViT: a timm Vision Transformer whose blocks see only the patches that a selector keeps."""

from collections.abc import Iterable, Sequence
from math import prod

import timm
import torch
from torch import Tensor, nn

from asel_lib.models.adaptive import adaptive
from asel_lib.models.entering import entering
from asel_lib.models.kept_embed import grid_of
from asel_lib.models.making import taken_over
from asel_lib.models.predict import evaluating, predict_images
from asel_lib.selection import Call, PatchSelector, Selection, View, budget, keep_count, stable_topk
from asel_lib.selection.call import Tokens
from asel_lib.selection.slot import PatchSelection, choose


class SelectiveViT(nn.Module):
    """Any timm model of a family in `models.families`, by name; position embedding, class and register tokens,
    `dynamic_img_size`, `forward_head` and the rest of its methods are timm's own. Where a selector does not look at the
    patches (random, central, line_guided, glance), only the kept ones are embedded. A call changes nothing in the
    model, so that several threads can use it. The object is of its family's subclass, and of timm's class.

        SelectiveViT("vit_tiny_patch16_224", num_classes=10, selector="learned")

    `asel_lib.load` sets `classes` (names), `transform` (PIL image -> (3, S, S) float tensor) and `record`.

    Args:
        architecture: timm's name of the model.
        num_classes: outputs of the head.
        selector: a registered name, with options where it has some, e.g. "line_guided:lines=sobel,choice=top".
        pretrained: with timm's ImageNet weights.
        timm_kwargs: go to timm.

    Raises:
        ValueError: the model is of no known family, or does not suit the selector.
    """

    classes: tuple[str, ...] | None = None
    transform = None
    record: dict | None = None
    budgets: dict[float, float] = {}  # keep ratio on average -> factor, see selection.budget.lengths
    slot = PatchSelection  # what fills timm's `patch_drop`

    def __init__(
        self, architecture: str, num_classes: int, selector: str = "learned", pretrained: bool = False, **timm_kwargs
    ):
        # timm builds by name through a factory; taking over what it built makes this very object that model, without a
        # wrapper (state-dict names stay timm's) and without a copy of its constructor's arguments.
        built = timm.create_model(architecture, num_classes=num_classes, pretrained=pretrained, **timm_kwargs)
        made = taken_over(built, selector, architecture)
        vars(self).update(vars(made))
        if not isinstance(self, type(made)):
            self.__class__ = type(made)

    @property
    def selector(self) -> PatchSelector:
        """The model's own selector."""
        return self.patch_drop.selector

    def chooser(self, policy: str | None = None) -> PatchSelector:
        """Who chooses by a policy, None: the model's own selector; errors as `PatchSelection.chooser`'s."""
        return self.patch_drop.chooser(policy)

    def forward(
        self,
        images: Tensor,
        keep_ratio: float | str = 1.0,
        policy: str | None = None,
        lines: Tensor | None = None,
        *,
        draw_index: int = 0,
        kept: Tensor | None = None,
        mode: str = "gather",
        generator: torch.Generator | None = None,
        return_selection: bool = False,
    ) -> Tensor | tuple[Tensor, Selection]:
        """Classify images from the patches that the policy keeps.

        Args:
            images: (B, C, H, W), normalised.
            keep_ratio: share of the patches that are kept, in (0, 1]; or "auto", or "auto:0.2": each image keeps as
                many patches as its own scores ask for, a fifth on average (see `calibrate`).
            policy: the selector that chooses in this call; None: the model's own.
            lines: drawings (B, 1, h, w) in [0, 1] for selectors that read them; None: these make them of the images.
            draw_index: which random subset, for policies that draw.
            kept: patch indices (B, K), in place of a ratio and a policy.
            mode: see `selection.call.Call` (training).
            generator: what the mode "gumbel" draws with.
            return_selection: return also the scores and the kept indices ("auto": -1 behind an image's last).

        Returns:
            Logits (B, classes), with `return_selection` also the Selection.

        Raises:
            ValueError: a keep ratio outside (0, 1], an unknown policy or mode, images of a size that the model does not
                take, drawings or indices of a wrong shape or range.
        """
        if isinstance(keep_ratio, str):
            call = Call(1.0, policy, lines, draw_index, kept, mode)
            logits, selection = adaptive(self, images, keep_ratio, call)
        else:
            call = Call(keep_ratio, policy, lines, draw_index, kept, mode, generator)
            features, selection = self._features(images, call)
            logits = self.forward_head(features)
        return (logits, selection) if return_selection else logits

    def forward_features(
        self,
        images: Tensor,
        attn_mask: Tensor | None = None,
        is_causal: bool = False,
        *,
        keep_ratio: float = 1.0,
        policy: str | None = None,
        lines: Tensor | None = None,
        draw_index: int = 0,
        kept: Tensor | None = None,
    ) -> Tensor:
        """timm's: the normalised tokens behind the last block, of the patches that the policy keeps.

        Args:
            images: (B, C, H, W), normalised.
            attn_mask: timm's, as is_causal, for all patches alone.
            keep_ratio: as all that follow: `forward`'s.

        Returns:
            (B, P + K, D), the P prefix tokens first.
        """
        call = Call(keep_ratio, policy, lines, draw_index, kept)
        if attn_mask is None and not is_causal:
            return self._features(images, call)[0]
        if keep_ratio != 1 or kept is not None:
            raise ValueError("attn_mask and is_causal are for all patches: leave out keep_ratio and kept")
        return super().forward_features(images, attn_mask, is_causal)

    def placed(self, embedded: Tensor) -> Tensor:
        """What timm makes of all embedded patches: positions added, prefix tokens first, (B, P + N, D)."""
        return self._pos_embed(embedded)

    def rotary(self, grid: tuple[int, int], places: Tensor) -> Tensor | None:
        """What the blocks get beside tokens that are the patches `places` (B, n) of a grid; None: nothing."""

    def run_blocks(self, tokens: Tensor, rotary: Tensor | None = None) -> Tensor:
        """(B, T, D) tokens through all blocks, as timm runs them."""
        raise NotImplementedError  # the family's

    def reset_classifier(self, num_classes: int, *arguments, **options) -> None:
        """timm's; names of classes that are no longer the head's are forgotten."""
        super().reset_classifier(num_classes, *arguments, **options)
        if self.classes is not None and len(self.classes) != num_classes:
            self.classes = self.record = None

    def view(
        self,
        images: Tensor,
        policy: str | None = None,
        lines: Tensor | None = None,
        *,
        draw_index: int = 0,
        train_embedding: bool = True,
    ) -> View:
        """What a selector can see of these images.

        Args:
            images: (B, C, H, W), normalised.
            policy: who looks; None: the model's own selector.
            lines: drawings (B, 1, h, w) that came with the images.
            draw_index: which of many draws.
            train_embedding: pass gradients from the patches to their embedding.
        """
        chooser = self.chooser(policy)

        def embed() -> Tensor:
            if train_embedding:
                return self.placed(self.patch_embed(images))
            with torch.no_grad():
                tokens = self.placed(self.patch_embed(images))
            torch.clear_autocast_cache()  # or the passes to come would take over weights without a gradient
            return tokens

        return View(
            images,
            grid_of(self.patch_embed, images),
            embed,
            self.num_prefix_tokens,
            lines,
            lambda: self.patch_drop.draw_lines(chooser, images),
            draw_index,
            self,
        )

    def scores(
        self, images: Tensor, policy: str | None = None, lines: Tensor | None = None, *, draw_index: int = 0
    ) -> Tensor:
        """The selector's score of each patch, (B, N), without the blocks. Arguments and errors as `forward`'s."""
        view = self.view(images, policy, lines, draw_index=draw_index)
        with view.full_precision():
            return self.chooser(policy)(view)

    def log_weights(self, images: Tensor, policy: str | None = None, *, train_embedding: bool = True) -> Tensor:
        """The log-weights behind the scores of a selector that was trained.

        Args:
            images: (B, C, H, W), normalised.
            policy: who chooses; None: the model's own selector.
            train_embedding: pass gradients to the embedding of the patches, where the selector looks at these.

        Returns:
            (B, N).

        Raises:
            ValueError: the selector has learned none.
        """
        view = self.view(images, policy, train_embedding=train_embedding)
        with view.full_precision():
            return self.chooser(policy).log_weights(view)

    @torch.inference_mode()
    def calibrate(self, batches: Iterable[tuple[Tensor, ...]], averages: Sequence[float] = budget.AVERAGES) -> None:
        """Prepare keep_ratio="auto:<average>": `budgets` gets the factors with which images keep that share on average.
        Checkpoints of recipe "anytime" bring theirs.

        Args:
            batches: (images, ...), those of val.
            averages: keep ratios on average, each in (0, 1].
        """
        with evaluating(self):
            weights = torch.cat([self.log_weights(images) for images, *_ in batches])
        self.budgets = self.budgets | {float(average): budget.factor_for(weights, average) for average in averages}

    def patch_tokens(self, images: Tensor) -> Tensor:
        """All patches of images (B, C, H, W) as the first block would see them, with their positions, (B, N, D)."""
        return self.placed(self.patch_embed(images))[:, self.num_prefix_tokens :]

    def select(
        self,
        images: Tensor,
        keep_ratio: float,
        policy: str | None = None,
        lines: Tensor | None = None,
        *,
        draw_index: int = 0,
    ) -> Tensor:
        """The patches that a policy keeps. Arguments and errors as `forward`'s.

        Returns:
            Indices (B, K), best first; of a token reducer those left at the end, -1 for fused ones.

        Raises:
            ValueError: the policy keeps no patches as they are.
        """
        keep_count(1, keep_ratio)
        view, chooser = self.view(images, policy, lines, draw_index=draw_index), self.chooser(policy)
        if (scores := chooser.score_before_blocks(view)) is not None:
            return stable_topk(scores, keep_count(view.num_patches, keep_ratio))
        if keep_ratio == 1:
            return torch.arange(view.num_patches, device=images.device).expand(images.shape[0], -1)
        _, selection = self._features(images, Call(keep_ratio, policy, lines, draw_index))
        if selection.kept is None:
            raise ValueError(f"policy {chooser.name!r} keeps no patches as they are: it merges or replaces them")
        return selection.kept

    predict = predict_images

    def kept_of(
        self, selection: Selection, images: Tensor, policy: str | None = None, lines: Tensor | None = None
    ) -> list[list[int]]:
        """The patches of each image that a call's answer is made from, best first.

        Args:
            selection: what the call returned; the other arguments are the call's own.

        Returns:
            All where none was left out, or where they were merged; not those fused into one token (EViT).
        """
        kept = self.select(images, 1.0, policy, lines) if selection.kept is None else selection.kept
        return [[patch for patch in patches if patch >= 0] for patches in kept.tolist()]

    def _features(self, images: Tensor, call: Call) -> tuple[Tensor, Selection]:
        """The normalised tokens behind the last block, and what was chosen."""
        grid, chooser = grid_of(self.patch_embed, images), self.chooser(call.policy)
        keep = keep_count(prod(grid), call.keep_ratio)
        if call.kept is not None:
            call.check_kept(images.shape[0], prod(grid))
        elif keep == prod(grid) and call.mode == "gather":
            # Nothing to choose, so nothing to pay: this is the plain timm model.
            return super().forward_features(images), Selection()
        elif (tokens := chooser.replace_patches(self, images, keep)) is not None:
            return self.norm(self.run_blocks(self.norm_pre(tokens.all), tokens.rotary)), Selection()
        view = self.view(images, call.policy, call.lines, draw_index=call.draw_index)
        scores, kept, weights = None, call.kept, None
        if kept is None and (scores := chooser.score_before_blocks(view)) is not None:
            kept, weights = choose(scores, keep, call.mode, call.generator)
        x, places = entering(self, images, view, kept, weights, masked=weights is not None and call.mode == "mask")
        x = Tokens(self.norm_pre(x), self.num_prefix_tokens, places, self.rotary(grid, places))
        tokens = chooser.run_blocks(self, x, call)
        return self.norm(tokens.all), Selection(scores, tokens.places if kept is None else kept)
