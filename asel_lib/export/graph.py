"""A model at one keep ratio, laid out so that a runtime for inference finds little to do beside the arithmetic."""

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from asel_lib.data.batches import normalised
from asel_lib.models.at_ratio import AtRatio
from asel_lib.models.kept_embed import KeptPatchEmbed
from asel_lib.selection import Call, keep_count, policy_string
from asel_lib.selection._blocks import is_plain
from asel_lib.selection.call import Tokens


class Deployed(AtRatio):
    """images -> logits (B, classes), those of `model(images, keep_ratio, policy)` to 1e-4 in float32.

    preprocessing: images are uint8 (B, H, W, 3), as Pillow gives them, of the model's size, and are normalised here;
    else float32 (B, C, H, W), normalised. A policy that draws at random makes its first draw, which depends on the
    image's own pixels alone.

    Beside AtRatio: queries, keys and values are three products, so that none has to be taken apart again, with the
    attention's scale in the weights; behind the last block's attention only the class token goes on, where the answer
    is read from it alone; embedding all patches is a matrix product too, which can be quantised. Policies that take
    tokens out between the blocks run through the model's own blocks.
    ValueError as AtRatio's, and for a keep ratio that is not a number: a budget for each image has no fixed graph.
    """

    def __init__(self, model, keep_ratio: float, policy: str | None = None, preprocessing: bool = False):
        if isinstance(keep_ratio, str):
            raise ValueError(
                f"keep_ratio is {keep_ratio!r}: a budget for each image has no fixed graph; expected a number in "
                "(0, 1], e.g. 0.3"
            )
        keep_count(1, keep_ratio)  # a bad ratio is an error before any work
        chooser = model.chooser(policy)
        reduces = chooser.reduces_tokens() and keep_ratio < 1
        super().__init__(model, 1.0 if reduces else keep_ratio, policy)
        self.reducer, self.preprocessing = None, preprocessing
        self.asked, self.chosen_by = keep_ratio, policy_string(chooser)
        if reduces:
            chooser.check(model)
            self.reducer = chooser
        plain = all(_is_open(block) for block in model.blocks) and not reduces
        by_class = plain and model.global_pool == "token" and model.attn_pool is None
        last = len(model.blocks) - 1
        self.opened = None
        if plain:
            opened = (OpenBlock(block, by_class and number == last) for number, block in enumerate(model.blocks))
            self.opened = nn.ModuleList(opened)

    def forward(self, images: Tensor) -> Tensor:
        if self.preprocessing:
            images = normalised(images.permute(0, 3, 1, 2), self.model.patch_drop.mean, self.model.patch_drop.std)
        tokens, rotary = self.tokens(images)
        if self.reducer is not None:
            places = torch.arange(self.patches, device=images.device).expand(images.shape[0], -1)
            held = Tokens(tokens, self.model.num_prefix_tokens, places)
            tokens = self.reducer.reduce(self.model.blocks, held, Call(self.asked)).all
        elif self.opened is None:
            tokens = self.model.run_blocks(tokens, rotary)
        else:
            for block in self.opened:
                tokens = block(tokens)
        return self.model.forward_head(self.model.norm(tokens))

    def embed(self, pixels: Tensor) -> Tensor:
        embed = self.model.patch_embed
        return embed.every(pixels) if isinstance(embed, KeptPatchEmbed) else super().embed(pixels)


class OpenBlock(nn.Module):
    """timm's Block in inference, its attention written out. only_first: only the first token goes on behind it."""

    def __init__(self, block: Block, only_first: bool):
        super().__init__()
        self.block, self.only_first = block, only_first
        attention = block.attn
        self.heads, self.wide = attention.num_heads, attention.head_dim
        weights = attention.qkv.weight.detach().chunk(3)
        biases = [None] * 3 if attention.qkv.bias is None else attention.qkv.bias.detach().chunk(3)
        self.query, self.key, self.value = (_linear(*pair) for pair in zip(weights, biases, strict=True))
        self.scale = attention.scale
        if isinstance(attention.q_norm, nn.Identity):
            self.query, self.scale = _linear(weights[0], biases[0], attention.scale), 1.0

    def forward(self, x: Tensor) -> Tensor:
        block, attention = self.block, self.block.attn
        y = block.norm1(x)
        asking, x = (y[:, :1], x[:, :1]) if self.only_first else (y, x)
        query, key, value = (self._split(part) for part in (self.query(asking), self.key(y), self.value(y)))
        query, key = attention.q_norm(query), attention.k_norm(key)
        query = query if self.scale == 1 else query * self.scale
        seen = (query @ key.transpose(-2, -1)).softmax(dim=-1) @ value
        # -1 for the batch: with its size in the shape, every reshape would first have to be told it
        seen = attention.norm(seen.transpose(1, 2).reshape(-1, int(asking.shape[1]), self.heads * self.wide))
        if attention.gate is not None:
            seen = seen * attention.gate(asking).sigmoid()
        x = x + block.ls1(attention.proj(seen))
        return x + block.ls2(block.mlp(block.norm2(x)))

    def _split(self, part: Tensor) -> Tensor:
        """(B, T, heads * d) -> (B, heads, T, d)."""
        return part.reshape(-1, int(part.shape[1]), self.heads, self.wide).transpose(1, 2)


def _linear(weight: Tensor, bias: Tensor | None, scale: float = 1.0) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    made.weight = nn.Parameter(weight * scale, requires_grad=False)
    if bias is not None:
        made.bias = nn.Parameter(bias * scale, requires_grad=False)
    return made


def _is_open(block: nn.Module) -> bool:
    """Whether it does what OpenBlock writes out. Where something was put around a part that is read there (LoRA's
    adapters, hooks, parametrisations), the block itself is traced."""
    if not is_plain(block) or type(block.attn.qkv) is not nn.Linear:
        return False
    return not any(part._forward_hooks or part._forward_pre_hooks for part in (block, block.attn, block.attn.qkv))
