"""ToMe: the most similar tokens are merged, a few in every block (Bolya et al., ICLR 2023)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asel_lib.selection.base import keep_count
from asel_lib.selection.call import Call, Tokens
from asel_lib.selection.reducers import TokenReducer, attention_half, mlp_half
from asel_lib.selection.registry import register


@register("tome", label="ToMe", color="#000000", marker="*")
class ToMe(TokenReducer):
    """Between attention and MLP of every block: bipartite soft matching on the mean of the heads' keys, merged tokens
    are means by size, and attention is proportional to size. As many tokens go in every block, but never more than
    half. Needs no training.
    """

    def __init__(self, dim: int = 0):
        super().__init__()

    def reduce(self, blocks: nn.Sequential, tokens: Tokens, call: Call) -> Tokens:
        x, prefix = tokens.all, tokens.prefix
        count = int(tokens.patches.shape[1])  # int: a tracer's sizes are tensors
        counts = schedule(count, keep_count(count, call.keep_ratio), len(blocks))
        size = x.new_ones(x.shape[:2], dtype=torch.float32)
        for block, left in zip(blocks, counts, strict=True):
            x, attended = attention_half(block, x, size=size)
            gone = int(x.shape[1]) - prefix - left
            if gone:
                patches, sizes = merge(x[:, prefix:], size[:, prefix:], attended.keys.mean(dim=1)[:, prefix:], gone)
                x, size = torch.cat([x[:, :prefix], patches], dim=1), torch.cat([size[:, :prefix], sizes], dim=1)
            x = mlp_half(block, x)
        return Tokens(x, prefix)


def schedule(patches: int, keep: int, depth: int) -> list[int]:
    """How many patch tokens are left behind each block: down in equal steps, where no block may merge more than half of
    what it has.

    Args:
        patches: before the first block.
        keep: wanted behind the last one.
        depth: number of blocks.
    """
    line = [patches - round((patches - keep) * (number + 1) / depth) for number in range(depth)]
    counts = [min(count, keep * 2 ** (depth - 1 - number)) for number, count in enumerate(line)]
    for number, count in enumerate(counts):
        before = patches if number == 0 else counts[number - 1]
        counts[number] = max(count, -(-before // 2))  # a shallow ViT cannot merge down to every count
    return counts


def merge(x: Tensor, size: Tensor, metric: Tensor, gone: int) -> tuple[Tensor, Tensor]:
    """Bipartite soft matching (ToMe, section 3.1).

    Tokens take turns to go into sets A and B; each of A points to the most similar of B by cosine of the metric, and
    the `gone` most similar pairs merge into their mean by size.

    Args:
        x: tokens (B, n, D).
        size: how many patches each stands for, (B, n).
        metric: (B, n, d), what their similarity is told by.
        gone: how many tokens are merged into others.

    Returns:
        Tokens (B, n - gone, D) and their sizes (B, n - gone).
    """
    with torch.autocast(x.device.type, enabled=False):  # as for scores: eight bits would tie
        metric = F.normalize(metric.float(), dim=-1)
        similarity, partner = (metric[:, ::2] @ metric[:, 1::2].transpose(1, 2)).max(dim=2)
    order = similarity.argsort(dim=1, descending=True, stable=True)
    merged, stays = order[:, :gone], order[:, gone:].sort(dim=1).values
    into = partner.gather(1, merged)

    def join(values: Tensor) -> Tensor:
        wide = values.shape[-1]
        source, target = values[:, ::2], values[:, 1::2]
        moved = source.gather(1, merged.unsqueeze(-1).expand(-1, -1, wide))
        target = target.scatter_add(1, into.unsqueeze(-1).expand(-1, -1, wide), moved)
        return torch.cat([source.gather(1, stays.unsqueeze(-1).expand(-1, -1, wide)), target], dim=1)

    sizes = join(size.unsqueeze(-1))
    return (join(x.float() * size.unsqueeze(-1)) / sizes).to(x.dtype), sizes.squeeze(-1)
