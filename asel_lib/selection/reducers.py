"""Policies that take tokens out between the blocks, instead of before them.

With these, `keep_ratio` is the share of the patch tokens that is left at the end, and what they save is less than with
a selector of the same ratio: compare by GMACs.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asel_lib.selection._blocks import check_plain
from asel_lib.selection.base import PatchSelector
from asel_lib.selection.call import Call, Tokens
from asel_lib.selection.view import View


class TokenReducer(PatchSelector):
    """`reduce` runs the blocks and takes tokens out on the way; there is no score before them."""

    def attach(self, model: nn.Module) -> None:
        self.check(model)

    def check(self, model: nn.Module) -> None:
        """Refuse a model that the method cannot work on.

        Args:
            model: a SelectiveViT.

        Raises:
            ValueError: names what the model has, or lacks.
        """
        check_plain(model, model.blocks, self.name)

    def reduce(self, blocks: nn.Sequential, tokens: Tokens, call: Call) -> Tokens:
        """Run the blocks and take tokens out on the way.

        Args:
            blocks: timm's.
            tokens: what enters the first block, N of them patches.
            call: its keep ratio; mode and generator for those that draw in training.

        Returns:
            The tokens behind the last block, of the patch tokens keep_count(N, keep_ratio).
        """
        raise NotImplementedError

    def run_blocks(self, model: nn.Module, tokens: Tokens, call: Call) -> Tokens:
        if call.kept is not None or (call.keep_ratio == 1 and call.mode == "gather"):
            return super().run_blocks(model, tokens, call)
        self.check(model)
        return self.reduce(model.blocks, tokens, call)

    def score_before_blocks(self, view: View) -> None:
        return None

    def explain(self, view: View) -> tuple[None, str]:
        return None, f"{self.name} takes tokens out between the blocks: it has no scores before them"

    def forward(self, view: View) -> Tensor:
        raise ValueError(
            f"{self.name} takes tokens out between the blocks and scores no patches before them: ask the model for its "
            "answer (and select, for what is left), or choose a policy that scores"
        )


@dataclass(frozen=True)
class Attended:
    """What one attention layer computed.

    Args:
        output: (B, T, D).
        keys: (B, heads, T, d).
        first: (B, heads, 1, d), the first token's query.
        scale: of the products of queries and keys.
        bias: (B, 1, 1, T), added to these; None: nothing.
    """

    output: Tensor
    keys: Tensor
    first: Tensor
    scale: float
    bias: Tensor | None

    def by_class(self) -> Tensor:
        """How much the first token attends to each, mean over heads, (B, T). Not all who attend ask for it."""
        with torch.autocast(self.keys.device.type, enabled=False):  # as for scores: eight bits would tie
            logits = (self.first.float() * self.scale) @ self.keys.float().transpose(-2, -1)
            logits = logits if self.bias is None else logits + self.bias
            return logits.softmax(dim=-1).mean(dim=1)[:, 0]


def attend(attention: nn.Module, x: Tensor, size: Tensor | None = None, weight: Tensor | None = None) -> Attended:
    """timm's Attention, with what it computes on the way.

    Args:
        attention: timm's.
        x: tokens (B, T, D), normalised.
        size: (B, T), how many patches a token stands for; its logits get log(size) (ToMe, proportional attention).
        weight: (B, T) in [0, 1], how much of each token the others see; a token always sees itself (DynamicViT,
            eq. 10).
    """
    batch, count, _ = x.shape
    split = attention.qkv(x).reshape(batch, count, 3, attention.num_heads, attention.head_dim)
    query, key, value = split.permute(2, 0, 3, 1, 4).unbind(0)
    query, key = attention.q_norm(query), attention.k_norm(key)
    bias = None if size is None else size.log().to(query.dtype)[:, None, None, :]
    if weight is None and attention.fused_attn:
        drop = attention.attn_drop.p if attention.training else 0.0
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=drop)
    else:
        logits = (query * attention.scale) @ key.transpose(-2, -1)
        logits = logits if bias is None else logits + bias
        shares = logits.softmax(dim=-1) if weight is None else _seen(logits, weight)
        out = attention.attn_drop(shares) @ value
    out = attention.norm(out.transpose(1, 2).reshape(batch, count, attention.attn_dim))
    if attention.gate is not None:
        out = out * attention.gate(x).sigmoid()
    return Attended(attention.proj_drop(attention.proj(out)), key, query[:, :, :1], attention.scale, bias)


def attention_half(block: nn.Module, x: Tensor, **settings) -> tuple[Tensor, Attended]:
    """The first half of a timm Block, x + attention, and what the attention computed.

    Args:
        block: timm's.
        x: tokens (B, T, D).
        settings: size and weight, see `attend`.
    """
    found = attend(block.attn, block.norm1(x), **settings)
    return x + block.drop_path1(block.ls1(found.output)), found


def mlp_half(block: nn.Module, x: Tensor) -> Tensor:
    """The second half of a timm Block: x + MLP.

    Args:
        block: timm's.
        x: tokens (B, T, D).
    """
    return x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))


def stages(depth: int) -> dict[int, float]:
    """Where the published three-stage methods reduce: blocks 3, 6 and 9 of 12, counted from 0. A ViT of less than four
    blocks has fewer stages.

    Args:
        depth: number of blocks.

    Returns:
        Number of a block -> the power of the keep ratio that is left behind it.
    """
    return {depth * stage // 4: stage / 3 for stage in (1, 2, 3)}


def _seen(logits: Tensor, weight: Tensor) -> Tensor:
    """Softmax over the tokens that are there: exp(l_ij) g_ij / sum_k exp(l_ik) g_ik, g_ij = w_j, g_ii = 1."""
    own = torch.eye(weight.shape[1], device=weight.device, dtype=torch.bool)
    graph = torch.where(own, 1.0, weight[:, None, :].float())[:, None]
    raised = (logits.float() - logits.float().amax(dim=-1, keepdim=True)).exp() * graph
    return (raised / raised.sum(dim=-1, keepdim=True)).to(logits.dtype)
