"""Embedding the kept patches alone, where they were chosen before anything was embedded."""

import torch
import torch.nn.functional as F
from timm.layers import PatchEmbed
from torch import Tensor, nn

from asel_lib.selection import PatchSelection


class KeptPatchEmbed(PatchEmbed):
    """timm's patch embedding (its parameters under their names), except that a call whose patches are already chosen
    costs K projections instead of N: images (B, C, H, W) -> (B, K, D)."""

    @classmethod
    def taking_over(cls, embed: PatchEmbed, slot: PatchSelection) -> "KeptPatchEmbed":
        """The given embedding as this class, without a copy of its constructor's arguments."""
        taken = cls.__new__(cls)
        taken.__dict__.update(embed.__dict__)
        taken.slot = [slot]  # in a list: the slot is the model's child, not ours
        return taken

    @staticmethod
    def fits(embed: nn.Module) -> bool:
        """Whether it is timm's plain one: no hybrid stem, no padding of images that the patches do not divide."""
        return type(embed) is PatchEmbed and not embed.dynamic_img_pad

    def forward(self, images: Tensor) -> Tensor:
        kept = self.slot[0].call.selection.kept
        if kept is None:
            return super().forward(images)
        return self.project(take_patches(images, kept, self.patch_size))

    def project(self, patches: Tensor) -> Tensor:
        """Pixels of patches (B, K, C, h, w) -> tokens (B, K, D)."""
        return self.norm(F.linear(patches.flatten(2), self.proj.weight.flatten(1), self.proj.bias))


def take_patches(images: Tensor, kept: Tensor, patch_size: tuple[int, int]) -> Tensor:
    """(B, C, H, W) images, (B, K) indices in raster order -> the pixels of those patches, (B, K, C, h, w)."""
    height, width = patch_size
    cells = images.unflatten(3, (-1, width)).unflatten(2, (-1, height)).permute(0, 2, 4, 1, 3, 5)
    image = torch.arange(len(images), device=images.device)[:, None]
    rows, columns = torch.div(kept, cells.shape[2], rounding_mode="floor"), kept % cells.shape[2]
    return cells[image, rows, columns]
