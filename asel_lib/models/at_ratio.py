"""A SelectiveViT at one keep ratio as a plain module: what is compiled, exported, or run image by image."""

import copy

import torch
from torch import Tensor, nn

from asel_lib.models.kept_embed import KeptPatchEmbed
from asel_lib.selection import View, gather_patches, keep_count, stable_topk


class AtRatio(nn.Module):
    """Images (B, C, H, W), normalised, of the model's own size -> logits (B, classes), those of
    `model(images, keep_ratio, policy)` to 1e-5 in float32.

    Nothing but images goes in, so torch.compile and an exporter see one graph; position embeddings and what the
    selector can prepare are laid ready, so a call of one image is shorter. It shares the model's weights (but the
    selector's, where those are prepared), and is for inference.

    Args:
        model: a SelectiveViT; it is put into eval mode.
        keep_ratio: in (0, 1].
        policy: who chooses; None: the model's own selector.
        precision: "float32"; "bfloat16" or "float16": a copy of the model with its weights in that format, but for the
            selector, whose scores would tie. Under autocast they are converted anew at each call, which for one image
            takes as long as the rest; logits differ from autocast's by what the last bit of a number is.

    Raises:
        ValueError: a keep ratio outside (0, 1], an unknown policy, one that takes tokens out between the blocks, or an
            unknown precision.
    """

    def __init__(self, model, keep_ratio: float, policy: str | None = None, precision: str = "float32"):
        super().__init__()
        model = _converted(model.eval(), precision)
        chooser = model.chooser(policy)
        self.replacing = None
        self.model, self.keep_ratio = model, keep_ratio
        self.grid = tuple(int(side) for side in model.patch_embed.grid_size)
        self.chooser = chooser.prepared(self.grid, tuple(model.patch_embed.img_size)) if keep_ratio < 1 else chooser
        self.patches = self.grid[0] * self.grid[1]
        self.keep = keep_count(self.patches, keep_ratio)
        if self.keep < self.patches and not chooser.keeps_patches():
            if chooser.reduces_tokens() or (replacing := chooser.replacing(model, self.keep)) is None:
                raise ValueError(
                    f"policy {chooser.name!r} keeps no patches before the first block: expected e.g. 'central'"
                )
            self.replacing = replacing
        with torch.no_grad():
            shape = self.grid if model.dynamic_img_size else (self.patches,)
            empty = next(model.parameters()).new_zeros(1, *shape, model.embed_dim)
            placed = model.placed(empty)  # what timm's own adds to nothing: prefix tokens, position embeddings
        prefix, places = placed.split([model.num_prefix_tokens, self.patches], dim=1)
        self.register_buffer("prefix", prefix, persistent=False)
        self.register_buffer("places", places[0], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.model.run_blocks(*self.tokens(images))
        return self.model.forward_head(self.model.norm(tokens))

    def tokens(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the first block sees: prefix tokens and the kept patches, (B, P + K, D), and the latter's rotary
        positions, where the model has some."""
        if self.replacing is not None:
            return self.model.norm_pre(self.replacing(images)), None
        model, pixels = self.model, images.to(self.places.dtype)

        def embed() -> Tensor:
            return self.embed(pixels) + self.places

        if self.keep == self.patches:
            tokens = embed()
            kept = torch.arange(self.patches, device=images.device).expand(images.shape[0], -1)
        else:
            view = View(
                images,
                self.grid,
                embed,
                draw_lines=lambda: model.patch_drop.draw_lines(self.chooser, images),
                model=model,
            )
            kept = stable_topk(self.chooser.score_before_blocks(view), self.keep)
            if view.embedded is None and isinstance(model.patch_embed, KeptPatchEmbed):
                tokens = model.patch_embed(pixels, kept) + self.places[kept]
            else:
                tokens = gather_patches(view.tokens()[1], kept)
        # shape[0], here and in what is called: len() would make a tracer take the batch for a constant
        tokens = torch.cat([self.prefix.expand(images.shape[0], -1, -1).to(tokens.dtype), tokens], dim=1)
        return model.norm_pre(tokens), model.rotary(self.grid, kept)

    def embed(self, pixels: Tensor) -> Tensor:
        """All patches, (B, N, D), without their positions."""
        return self.model.patch_embed(pixels).flatten(1, -2)


def _converted(model, precision: str):
    if precision == "float32":
        return model
    if precision not in ("bfloat16", "float16"):
        raise ValueError(f"precision is {precision!r}: expected 'float32', 'bfloat16' or 'float16'")
    return copy.deepcopy(model).to(getattr(torch, precision))
