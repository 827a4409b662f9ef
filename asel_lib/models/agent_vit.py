"""AgentViT: a ViT from scratch whose patches a reinforcement-learning agent chooses (Cauteruccio et al. 2025)."""

import torch
from timm.layers import Attention
from torch import Tensor, nn

from asel_lib.models.families.vision_transformer import SelectiveVisionTransformer
from asel_lib.models.kept_embed import KeptPatchEmbed, take_patches


class AgentViT(SelectiveVisionTransformer):
    """The published network on timm's VisionTransformer, so that all of SelectiveViT's methods are its own.

    dim 128, 6 blocks, 8 heads of 64 (wider inside than `dim`), MLP 512, fixed 2-d sine-cosine positions, no class
    token but mean pooling, layer norm on the patches' pixels and on their embedding, no biases in attention. Its own
    selector is "agent", another registered one can take its place.

    Args:
        num_classes: outputs of the head.
        selector: a registered name, with options where it has some.
        img_size: side of the images, pixels.
        patch_size: side of a patch, pixels.
        dim: width of the tokens.
        depth: number of blocks.
        heads: of attention.
        dim_head: width of a head.
        mlp_dim: width of the MLP's hidden layer.
    """

    def __init__(
        self,
        num_classes: int,
        selector: str = "agent",
        img_size: int = 224,
        patch_size: int = 16,
        dim: int = 128,
        depth: int = 6,
        heads: int = 8,
        dim_head: int = 64,
        mlp_dim: int = 512,
    ):
        class WideAttention(Attention):  # timm hands its attention neither of the two
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs | {"attn_head_dim": dim_head, "proj_bias": False})

        super().__init__(
            "vit_tiny_patch16_224",
            num_classes,
            selector,
            img_size=img_size,
            patch_size=patch_size,
            embed_dim=dim,
            depth=depth,
            num_heads=heads,
            mlp_ratio=mlp_dim / dim,
            qkv_bias=False,
            class_token=False,
            global_pool="avg",
            embed_layer=NormedPatchEmbed,
            embed_norm_layer=nn.LayerNorm,
            norm_layer=nn.LayerNorm,
            attn_layer=WideAttention,
            weight_init="skip",  # torch's own, as published
        )
        self.architecture = "agentvit"
        # What it is now that it is built: a class of this function alone could not be pickled.
        for block in self.blocks:
            block.attn.__class__ = Attention
        self._model_args = getattr(self, "_model_args", {}) | {"attn_layer": Attention}  # timm's record of arguments
        self.pos_embed = nn.Parameter(sine_cosine(*self.patch_embed.grid_size, dim)[None], requires_grad=False)


class NormedPatchEmbed(KeptPatchEmbed):
    """Layer norm of a patch's pixels, projection, layer norm; of the kept patches alone where they are known."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.pixel_norm = nn.LayerNorm(self.proj.weight[0].numel())

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        if kept is None:
            kept = torch.arange(self.num_patches, device=images.device).expand(images.shape[0], -1)
        return self.project(take_patches(images, kept, self.patch_size))

    def project(self, patches: Tensor) -> Tensor:
        return super().project(self.pixel_norm(patches.flatten(2)))


def sine_cosine(rows: int, columns: int, dim: int, temperature: float = 10000.0) -> Tensor:
    """Position embeddings: sin x, cos x, sin y, cos y, a quarter each, at frequencies temperature^(-i / (dim/4 - 1)).

    timm's own spaces them by dim/4, which gives other logits than the published weights were trained with.

    Args:
        rows: of the grid.
        columns: of the grid.
        dim: width of the tokens, a multiple of 4, at least 8.
        temperature: the longest wave, in patches, by 2 pi.

    Returns:
        (rows * columns, dim).

    Raises:
        ValueError: a dim that is no such number.
    """
    if dim % 4 or dim < 8:
        raise ValueError(
            f"dim is {dim}: expected a multiple of 4, at least 8, for two-dimensional sine-cosine positions"
        )
    frequencies = temperature ** -(torch.arange(dim // 4) / (dim // 4 - 1))
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    x, y = x.flatten()[:, None] * frequencies, y.flatten()[:, None] * frequencies
    return torch.cat([x.sin(), x.cos(), y.sin(), y.cos()], dim=1)
