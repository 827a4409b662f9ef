"""The tokens that enter a model's first block: prefix tokens, and the kept patches with their positions."""

from math import prod

import torch
from torch import Tensor

from asel_lib.models.kept_embed import KeptPatchEmbed
from asel_lib.selection import View, gather_patches


def entering(
    model, images: Tensor, view: View, kept: Tensor | None, weights: Tensor | None = None, masked: bool = False
) -> tuple[Tensor, Tensor]:
    """Embed what enters the blocks: the kept patches alone, where nobody has looked at the others.

    Args:
        model: a SelectiveViT.
        images: (B, C, H, W), normalised.
        view: what the selector saw of them.
        kept: indices (B, K) of patches; None: all enter.
        weights: what patches are multiplied by: (B, K) of the kept ones in their order, or, masked, (B, N) of all in
            raster order.
        masked: whether all patches enter, multiplied by `weights`.

    Returns:
        Tokens (B, P + n, D), the P prefix tokens first, and which patches they are, (B, n).
    """
    every = torch.arange(view.num_patches, device=view.device).expand(view.batch_size, -1)
    if kept is None:
        return torch.cat(view.tokens(), dim=1), every
    # Dropout on positions would also drop from the position embedding's shares.
    few = isinstance(model.patch_embed, KeptPatchEmbed) and not (model.training and model.pos_drop.p)
    if few and view.embedded is None and not masked:
        patches = model.patch_embed(images, kept)
        prefix, positions = _positions(model, patches, view.grid)
        patches = patches + gather_patches(positions, kept)
    else:
        prefix, patches = view.tokens()
        patches = patches if masked else gather_patches(patches, kept)
    if weights is not None:
        patches = patches * weights.unsqueeze(-1).to(patches.dtype)
    return torch.cat([prefix, patches], dim=1), every if masked else kept


def _positions(model, patches: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """The prefix tokens (B, P, D) and the position embeddings of all patches (B, N, D), for embedded `patches`."""
    # What timm's own method adds to nothing is the position embedding, resampled if need be, behind the prefix.
    shape = grid if model.dynamic_img_size else (prod(grid),)
    added = model.placed(patches.new_zeros(1, *shape, model.embed_dim)).expand(patches.shape[0], -1, -1)
    return added.split([model.num_prefix_tokens, prod(grid)], dim=1)
