"""SelectiveViT: a timm VisionTransformer whose blocks see only the patches that a selector keeps."""

from collections.abc import Iterable, Sequence
from math import prod

import timm
import torch
from timm.models import checkpoint_seq
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from asel_lib.models.kept_embed import KeptPatchEmbed
from asel_lib.models.predict import Prediction, evaluating, predict
from asel_lib.selection import Call, PatchSelector, Selection, View, budget, create, gather_patches, keep_count
from asel_lib.selection.base import stable_topk
from asel_lib.selection.call import Tokens
from asel_lib.selection.slot import PatchSelection, choose


class SelectiveViT(VisionTransformer):
    """Any timm model of class VisionTransformer, by name; position embedding, class and register tokens,
    `dynamic_img_size`, `forward_head` and the rest of its methods are timm's own. Where a selector does not look at the
    patches (random, central, line_guided, glance), only the kept ones are embedded. A call changes nothing in the
    model, so that several threads can use it.

        SelectiveViT("vit_tiny_patch16_224", num_classes=10, selector="learned")

    `asel_lib.load` sets `classes` (names), `transform` (PIL image -> (3, S, S) float tensor) and `record`.

    Args:
        architecture: timm's name of the model.
        num_classes: outputs of the head.
        selector: a registered name, with options where it has some, e.g. "line_guided:lines=sobel,choice=top".
        pretrained: with timm's ImageNet weights.
        timm_kwargs: go to timm.

    Raises:
        ValueError: the model is not of class VisionTransformer, or does not suit the selector.
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
        normalised_by = self.pretrained_cfg["mean"], self.pretrained_cfg["std"]
        self.patch_drop = PatchSelection(create(selector, self.embed_dim), self.embed_dim, *normalised_by)
        if KeptPatchEmbed.fits(self.patch_embed):
            self.patch_embed = KeptPatchEmbed.taking_over(self.patch_embed)
        self.selector.attach(self)

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
            if self.training or kept is not None or lines is not None or mode != "gather" or not len(images):
                raise ValueError(
                    f"keep_ratio={keep_ratio!r} is for images of a model in eval mode, without kept, lines or mode: "
                    "call model.eval(), and leave these out"
                )
            logits, selection = self._adaptive(images, budget.average_of(keep_ratio), policy, draw_index)
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
            attn_mask: timm's, for all patches alone.
            is_causal: the same.
            keep_ratio: and all that follow: as `forward`'s.

        Returns:
            (B, P + K, D), the P prefix tokens first.
        """
        call = Call(keep_ratio, policy, lines, draw_index, kept)
        if attn_mask is None and not is_causal:
            return self._features(images, call)[0]
        if keep_ratio != 1 or kept is not None:
            raise ValueError("attn_mask and is_causal are for all patches: leave out keep_ratio and kept")
        return super().forward_features(images, attn_mask, is_causal)

    def run_blocks(self, tokens: Tensor) -> Tensor:
        """(B, T, D) tokens through all blocks, as timm runs them."""
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.blocks, tokens)
        return self.blocks(tokens)

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
                return self._pos_embed(self.patch_embed(images))
            with torch.no_grad():
                tokens = self._pos_embed(self.patch_embed(images))
            torch.clear_autocast_cache()  # or the passes to come would take over weights without a gradient
            return tokens

        return View(
            images,
            self._grid(images),
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
        """The selector's score of each patch, (B, N); only the selector runs, and the embedding if it looks at that.
        Arguments and errors as `forward`'s."""
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
        """All patches as the first block would see them, embedded and with their positions: (B, C, H, W) images ->
        (B, N, D)."""
        return self._pos_embed(self.patch_embed(images))[:, self.num_prefix_tokens :]

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
            Indices (B, K) in raster order's numbering, best first; of a policy that takes tokens out between the blocks
            those left at the end, -1 for a token made of several.

        Raises:
            ValueError: the policy merges patches and keeps none as they are.
        """
        keep_count(1, keep_ratio)
        view, chooser = self.view(images, policy, lines, draw_index=draw_index), self.chooser(policy)
        if (scores := chooser.score_before_blocks(view)) is not None:
            return stable_topk(scores, keep_count(view.num_patches, keep_ratio))
        if keep_ratio == 1:
            return torch.arange(view.num_patches, device=images.device).expand(images.shape[0], -1)
        _, selection = self._features(images, Call(keep_ratio, policy, lines, draw_index))
        if selection.kept is None:
            raise ValueError(f"policy {chooser.name!r} merges patches and keeps none as they are")
        return selection.kept

    def predict(
        self,
        images: Sequence,
        keep_ratio: float | str = 1.0,
        policy: str | None = None,
        batch_size: int = 64,
        lines: Tensor | None = None,
    ) -> list[Prediction]:
        """Classify pictures.

        Args:
            images: PIL images or paths.
            keep_ratio: as `forward`'s.
            policy: as `forward`'s.
            batch_size: images in a forward.
            lines: their line drawings (n, 1, h, w) in [0, 1], for a selector that does not draw them itself.

        Returns:
            One Prediction an image, in order.

        Raises:
            ValueError: the model has no transform and classes, or `images` is no list of images.
            DatasetError: names the image that cannot be read by its place in the list.
        """
        return predict(self, images, keep_ratio, policy, batch_size, lines)

    def kept_of(
        self, selection: Selection, images: Tensor, policy: str | None = None, lines: Tensor | None = None
    ) -> list[list[int]]:
        """The patches of each image that a call's answer is made from, best first.

        Args:
            selection: what the call returned.
            images: the call's.
            policy: the call's.
            lines: the call's.

        Returns:
            All patches of an image where none was left out, or where they were merged; not those fused into one token
            (EViT).
        """
        kept = self.select(images, 1.0, policy, lines) if selection.kept is None else selection.kept
        return [[patch for patch in patches if patch >= 0] for patches in kept.tolist()]

    def _features(self, images: Tensor, call: Call) -> tuple[Tensor, Selection]:
        """The normalised tokens behind the last block, and what was chosen."""
        grid, chooser = self._grid(images), self.chooser(call.policy)
        keep = keep_count(prod(grid), call.keep_ratio)
        if call.kept is not None:
            _check_kept(call.kept, images.shape[0], prod(grid))
        elif keep == prod(grid) and call.mode == "gather":
            # Nothing to choose, so nothing to pay: this is the plain timm model.
            return super().forward_features(images), Selection()
        view = self.view(images, call.policy, call.lines, draw_index=call.draw_index)
        scores, kept, weights = None, call.kept, None
        if kept is None and (scores := chooser.score_before_blocks(view)) is not None:
            kept, weights = choose(scores, keep, call.mode, call.generator)
        x, places = self._entering(images, view, kept, weights)
        tokens = chooser.run_blocks(self, Tokens(self.norm_pre(x), self.num_prefix_tokens, places), call)
        return self.norm(tokens.all), Selection(scores, tokens.places if kept is None else kept)

    def _entering(
        self, images: Tensor, view: View, kept: Tensor | None, weights: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """The tokens of a call that enter the blocks, (B, P + n, D), and their places (B, n).

        kept (B, K), None: all patches; weights (B, K) of the kept ones, (B, N) of all: these enter then."""
        every = torch.arange(view.num_patches, device=view.device).expand(view.batch_size, -1)
        if kept is None:
            return torch.cat(view.tokens(), dim=1), every
        masked = weights is not None and weights.shape[1] == view.num_patches
        # Dropout on positions would also drop from the position embedding's shares.
        few = isinstance(self.patch_embed, KeptPatchEmbed) and not (self.training and self.pos_drop.p)
        if few and view.embedded is None and not masked:
            patches = self.patch_embed(images, kept)
            prefix, positions = self._positions(patches, view.grid)
            patches = patches + gather_patches(positions, kept)
        else:
            prefix, patches = view.tokens()
            patches = patches if masked else gather_patches(patches, kept)
        if weights is not None:
            patches = patches * weights.unsqueeze(-1).to(patches.dtype)
        return torch.cat([prefix, patches], dim=1), every if masked else kept

    def _positions(self, patches: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The prefix tokens (B, P, D) and the position embeddings of all patches (B, N, D), for embedded `patches`."""
        # What timm's own method adds to nothing is the position embedding, resampled if need be, behind the prefix.
        shape = grid if self.dynamic_img_size else (prod(grid),)
        added = self._pos_embed(patches.new_zeros(1, *shape, self.embed_dim)).expand(patches.shape[0], -1, -1)
        return added.split([self.num_prefix_tokens, prod(grid)], dim=1)

    def _adaptive(
        self, images: Tensor, average: float, policy: str | None, draw_index: int
    ) -> tuple[Tensor, Selection]:
        """Images that keep equally many patches pass together, so that fewer patches are less work."""
        if average not in self.budgets:
            known = ", ".join(f"{one:g}" for one in sorted(self.budgets)) or "none"
            raise ValueError(
                f"this model is not prepared to keep {average:g} of the patches on average (prepared for: {known}): "
                f"call model.calibrate(batches of val images, [{average:g}]) first"
            )
        view, chooser = self.view(images, policy, draw_index=draw_index), self.chooser(policy)
        with view.full_precision():
            weights = chooser.log_weights(view)
        order = stable_topk(chooser.ranked(weights, view), weights.shape[1])
        asked = budget.lengths(weights, self.budgets[average])
        kept = torch.where(torch.arange(order.shape[1], device=order.device) < asked[:, None], order, -1)
        logits = None
        for count in asked.unique().tolist():
            rows = (asked == count).nonzero()[:, 0]
            some = self(images[rows], kept=order[rows, :count]) if count < order.shape[1] else self(images[rows])
            logits = some.new_empty(len(images), some.shape[1]) if logits is None else logits
            logits[rows] = some
        return logits, Selection(weights, kept[:, : int(asked.max())])

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


def _check_kept(kept: Tensor, images: int, patches: int) -> None:
    if kept.ndim != 2 or kept.shape[0] != images or not 0 < kept.shape[1] <= patches:
        raise ValueError(f"kept is {tuple(kept.shape)}: expected ({images}, K), indices of 1 to {patches} patches")
    if torch.compiler.is_compiling():
        return  # a tracer knows shapes and no values
    if not (0 <= int(kept.min()) and int(kept.max()) < patches):
        raise ValueError(f"kept has an index outside of 0 to {patches - 1}, the image's patches")
