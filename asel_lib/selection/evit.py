"""EViT: what the class token does not look at is fused into one token (Liang et al., ICLR 2022)."""

import torch
from torch import Tensor, nn

from asel_lib.selection.base import keep_count, stable_topk
from asel_lib.selection.call import Call, Tokens
from asel_lib.selection.reducers import TokenReducer, attention_half, mlp_half, stages
from asel_lib.selection.registry import register


@register("evit", label="EViT", color="#009E73", marker="h")
class EViT(TokenReducer):
    """At three blocks, between attention and MLP: of n patch tokens the K with the highest attention of the class token
    stay (mean over heads), and the others become one, sum_i a_i x_i (eq. 3). K falls by the same factor each time.
    """

    def __init__(self, dim: int = 0):
        super().__init__()

    def check(self, model: nn.Module) -> None:
        super().check(model)
        if model.cls_token is None:
            raise ValueError("evit asks the class token, and this model has none: use a model with class_token=True")

    def reduce(self, blocks: nn.Sequential, tokens: Tokens, call: Call) -> Tokens:
        patches = tokens.patches.shape[1]
        found = stages(len(blocks))
        for number, block in enumerate(blocks):
            x, attended = attention_half(block, tokens.all)
            tokens = Tokens(x, tokens.prefix, tokens.places)
            # One of those that stay is the fused one, so that the count is that of every other method.
            keep = keep_count(patches, call.keep_ratio ** found.get(number, 0))
            if keep < tokens.patches.shape[1] and number in found:
                tokens = fuse(tokens, attended.by_class()[:, tokens.prefix :], keep)
            tokens = Tokens(mlp_half(block, tokens.all), tokens.prefix, tokens.places)
        return tokens


def fuse(tokens: Tokens, attention: Tensor, keep: int) -> Tokens:
    """The keep - 1 tokens that the class token looks at most, and the sum of the others by their attention; the best
    alone where only one may stay.

    Args:
        tokens: n patch tokens, with their places.
        attention: (B, n), the class token's to each of them.
        keep: how many are left, the fused one included.
    """
    order = stable_topk(attention, attention.shape[1])
    if keep == 1:
        return tokens.keep(order[:, :1])
    stay, rest = order[:, : keep - 1], order[:, keep - 1 :]
    kept, left = tokens.keep(stay), tokens.keep(rest)
    share = attention.gather(1, rest).unsqueeze(-1).to(left.all.dtype)
    fused = (left.patches * share).sum(dim=1, keepdim=True)
    places = torch.cat([kept.places, torch.full_like(kept.places[:, :1], -1)], dim=1)
    return Tokens(torch.cat([kept.all, fused], dim=1), tokens.prefix, places)
