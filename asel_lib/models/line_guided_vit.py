"""The published line-guided model under its own name and arguments, on top of SelectiveViT."""

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn

from asel_lib.models.selective_vit import SelectiveViT
from asel_lib.selection import keep_count


class SelectiveMagnoViT(nn.Module):
    """A ViT that sees the share `patch_percentage` of its patches, drawn by a line drawing's density and centre.

    Parameters are named as in the published state dict (`vit.<timm's names>`). The drawn patches of an image are always
    the same in eval mode, others in every call in training mode, from torch's global generator.

    Args:
        patch_percentage: in (0, 1].
        num_classes: outputs of the head.
        color_img_size: side of the colour image, pixels.
        ld_img_size: side of the drawing, pixels.
        pretrained: with the ViT's ImageNet weights, whose position embedding is resampled to the grid.
        vit_model_name: timm's name of the model.
        selector: a registered name, with options where it has some.
        timm_kwargs: go to timm.

    Raises:
        ValueError: a patch_percentage outside (0, 1].
    """

    def __init__(
        self,
        patch_percentage: float = 0.4,
        num_classes: int = 10,
        color_img_size: int = 256,
        ld_img_size: int = 64,
        pretrained: bool = True,
        vit_model_name: str = "vit_tiny_patch16_224.augreg_in21k",
        selector: str = "line_guided:choice=sample",
        **timm_kwargs,
    ):
        super().__init__()
        keep_count(1, patch_percentage)
        self.patch_percentage = patch_percentage
        self.vit = SelectiveViT(
            vit_model_name,
            num_classes,
            f"{selector}{',' if ':' in selector else ':'}size={ld_img_size}",
            pretrained,
            img_size=color_img_size,
            **timm_kwargs,
        )
        self.vit.patch_drop.mean, self.vit.patch_drop.std = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD

    def forward(self, color: Tensor, lines: Tensor | None = None) -> Tensor:
        """Classify images from the patches that their drawings choose.

        The published model takes drawings of any range; those that leave [0, 1] are stretched to it, each by itself.

        Args:
            color: (B, 3, S, S), normalised by ImageNet's mean and deviation as published.
            lines: drawings (B, 1, s, s); None: made of the images.

        Returns:
            Logits (B, classes).
        """
        if lines is not None:
            low, high = (end(dim=(1, 2, 3), keepdim=True) for end in (lines.amin, lines.amax))
            stretched = (lines - low) / (high - low).clamp_min(1e-12)
            lines = torch.where((low < 0) | (high > 1), stretched, lines)
        draw_index = int(torch.randint(2**62, ())) if self.training else 0
        return self.vit(color, self.patch_percentage, lines=lines, draw_index=draw_index)

    def get_num_selected_patches(self) -> int:
        """K = max(1, floor(N * patch_percentage))."""
        return keep_count(self.vit.patch_embed.num_patches, self.patch_percentage)
