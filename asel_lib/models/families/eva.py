"""timm's Eva: each block takes the patches' rotary positions beside the tokens, and kept patches keep theirs."""

from timm.layers import apply_keep_indices_nlc
from timm.models import checkpoint
from timm.models.eva import Eva
from torch import Tensor

from asel_lib.models.selective_vit import SelectiveViT
from asel_lib.registry import FAMILIES
from asel_lib.selection.slot import PatchSelection


class EvaSlot(PatchSelection):
    """Eva's slot answers with the tokens and the indices that it kept, None for all."""

    def forward(self, tokens: Tensor) -> tuple[Tensor, None]:
        return tokens, None


class SelectiveEva(SelectiveViT, Eva):
    """EVA, EVA-02, DINOv3, Perception Encoder and ViTs with rotary positions."""

    examples = "eva_*, eva02_*, vit_*_dinov3, vit_*_rope_*, vit_pe_*"
    slot = EvaSlot

    def placed(self, embedded: Tensor) -> Tensor:
        return self._pos_embed(embedded)[0]

    def rotary(self, grid: tuple[int, int], places: Tensor) -> Tensor | None:
        """(B, 1, n, d), or of learned frequencies (depth, B, heads, n, d), as timm's own patch dropout makes them."""
        if self.rope is None:
            return None
        laid_out = not self.dynamic_img_size and hasattr(self.rope, "feat_shape")
        every = self.rope.get_embed() if laid_out else self.rope.get_embed(shape=list(grid))
        kept = apply_keep_indices_nlc(places, every, places)
        return kept.transpose(0, 1) if self.rope_mixed else kept.unsqueeze(1)

    def run_blocks(self, tokens: Tensor, rotary: Tensor | None = None) -> Tensor:
        for number, block in enumerate(self.blocks):
            rope = rotary[number] if self.rope_mixed and rotary is not None else rotary
            tokens = checkpoint(block, tokens, rope=rope) if self.grad_checkpointing else block(tokens, rope=rope)
        return tokens


FAMILIES.add("Eva", SelectiveEva)
