"""timm's VisionTransformer: positions are added to patches, and the blocks take nothing but tokens."""

import torch
from timm.models import checkpoint_seq
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from asel_lib.models.selective_vit import SelectiveViT
from asel_lib.registry import FAMILIES


class SelectiveVisionTransformer(SelectiveViT, VisionTransformer):
    """Adds nothing to SelectiveViT but how timm runs these blocks."""

    examples = "vit_*, deit_* without 'distilled', deit3_*, dinov2, siglip"

    def run_blocks(self, tokens: Tensor, rotary: Tensor | None = None) -> Tensor:
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.blocks, tokens)
        return self.blocks(tokens)


FAMILIES.add("VisionTransformer", SelectiveVisionTransformer)
