"""Embedding the kept patches alone, where they were chosen before anything was embedded."""

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from torch import Tensor, nn


class KeptPatchEmbed(PatchEmbed):
    """timm's patch embedding (its parameters under their names), which also embeds chosen patches alone: K projections
    instead of N."""

    @classmethod
    def taking_over(cls, embed: PatchEmbed) -> "KeptPatchEmbed":
        """The given embedding as this class, without a copy of its constructor's arguments."""
        taken = cls.__new__(cls)
        taken.__dict__.update(embed.__dict__)
        return taken

    @staticmethod
    def fits(embed: nn.Module) -> bool:
        """Whether it is timm's plain one: no hybrid stem, no padding of images that the patches do not divide."""
        return type(embed) is PatchEmbed and not embed.dynamic_img_pad

    def forward(self, images: Tensor, kept: Tensor | None = None) -> Tensor:
        """Embed patches.

        Args:
            images: (B, C, H, W), normalised.
            kept: indices (B, K) of patches; None: all.

        Returns:
            (B, K, D); of all patches what timm's own returns.
        """
        if kept is None:
            return super().forward(images)
        return self.project(take_patches(images, kept, self.patch_size))

    def every(self, images: Tensor) -> Tensor:
        """All patches of images (B, C, H, W), (B, N, D), as one matrix product, which can be quantised."""
        (height, width), (_, channels, rows, columns) = self.patch_size, images.shape
        across, down = int(columns) // width, int(rows) // height
        pieces = images.reshape(-1, channels, down, height, across, width).permute(0, 2, 4, 1, 3, 5)
        return self.project(pieces.reshape(-1, down * across, channels, height, width))

    def project(self, patches: Tensor) -> Tensor:
        """Pixels of patches (B, K, C, h, w) -> tokens (B, K, D)."""
        # By its forward: a tracer puts a class of its own around each module.
        if type(self.proj).forward is nn.Conv2d.forward and not self.proj._forward_hooks:
            return self.norm(F.linear(patches.flatten(2), self.proj.weight.flatten(1), self.proj.bias))
        # What was put around the convolution, an adapter say, is asked itself.
        embedded = self.proj(patches.flatten(0, 1)).flatten(1)
        return self.norm(embedded.unflatten(0, (patches.shape[0], patches.shape[1])))


def take_patches(images: Tensor, kept: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """The pixels of some patches.

    Args:
        images: (B, C, H, W).
        kept: indices (B, K) in raster order.
        patch_size: (h, w), pixels.

    Returns:
        (B, K, C, h, w).

    Raises:
        ValueError: patches of that size do not divide the images.
    """
    height, width = patch_size
    batch, channels, rows, columns = images.shape
    across = columns // width
    if rows % height or columns % width:
        raise ValueError(f"patches of {height} x {width} pixels do not divide images of {rows} x {columns}")
    # A patch is h pieces of w pixels in each channel, and a piece lies in one place: copied whole, half of the patches
    # of 64 images of 128 pixels take 1.4 ms, by an index for each pixel 14.7 (one thread).
    first = torch.div(kept, across, rounding_mode="floor") * (height * across) + kept % across  # its first piece
    images_at = torch.arange(batch, device=kept.device) * (channels * rows * across)
    channels_at = torch.arange(channels, device=kept.device) * (rows * across)
    lines_at = torch.arange(height, device=kept.device) * across
    piece = (images_at[:, None] + first)[:, :, None, None] + channels_at[:, None] + lines_at
    taken = images.reshape(-1, width).index_select(0, piece.flatten())
    return taken.view(*kept.shape, channels, height, width)


def grid_of(embed: PatchEmbed, images: Tensor) -> tuple[int, int]:
    """How many patches there are along each side.

    Args:
        embed: a model's patch embedding.
        images: (B, C, H, W).

    Returns:
        (rows, columns).

    Raises:
        ValueError: the model does not take images of this size.
    """
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
