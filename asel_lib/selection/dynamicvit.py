"""DynamicViT: three small predictors say which tokens go on (Rao et al., NeurIPS 2021)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from asel_lib.reproducibility import uniform
from asel_lib.selection.base import keep_count, stable_topk
from asel_lib.selection.call import Call, Tokens
from asel_lib.selection.reducers import TokenReducer, attention_half, mlp_half, stages
from asel_lib.selection.registry import register
from asel_lib.selection.view import at_least_single


class Predictor(nn.Module):
    """Tokens (B, n, D) -> log of the probabilities of keeping and of dropping each, (B, n, 2): a local half of its
    features and a half that is the mean over the tokens that are still there (eq. 1-4)."""

    def __init__(self, dim: int):
        super().__init__()
        half, quarter = max(2, dim // 2), max(1, dim // 4)
        self.half = half
        self.embed = nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2 * half), nn.GELU())
        self.judge = nn.Sequential(
            nn.Linear(2 * half, half), nn.GELU(), nn.Linear(half, quarter), nn.GELU(), nn.Linear(quarter, 2)
        )

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """there (B, n): 1 for tokens that no predictor has dropped yet."""
        with torch.autocast(x.device.type, enabled=False):  # as for scores: eight bits would tie
            local, wide = self.embed(at_least_single(x)).split([self.half, self.half], dim=-1)
            there = there.unsqueeze(-1).to(local.dtype)
            whole = (wide * there).sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True).clamp_min(1)
            return self.judge(torch.cat([local, whole.expand_as(local)], dim=-1)).log_softmax(dim=-1)


@register("dynamicvit", label="DynamicViT", color="#AA4499", marker="p", recipes=("dropped",))
class DynamicViT(TokenReducer):
    """Before three blocks a predictor keeps keep_ratio^(1/3) of the tokens, the most probable ones. In training they
    are drawn by Gumbel-softmax, and dropped ones masked in attention (eq. 7-10), which costs as much as keeping them.

    The paper trains a model for one ratio and holds it by a term in the loss; here one model serves all, so exactly the
    share that was asked for is drawn, and no such term is needed. Nor is there the paper's teacher, which is a trained
    model of the same architecture: every method here starts from the same weights.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.predictors = nn.ModuleList(Predictor(dim) for _ in range(3))

    def reduce(self, blocks: nn.Sequential, tokens: Tokens, call: Call) -> Tokens:
        if call.mode == "gumbel":
            return self._masked(blocks, tokens, call)
        patches, found, predictors = tokens.patches.shape[1], stages(len(blocks)), iter(self.predictors)
        for number, block in enumerate(blocks):
            if number in found:
                there = tokens.patches.new_ones(tokens.patches.shape[:2])
                odds = next(predictors)(tokens.patches, there)
                keep = keep_count(patches, call.keep_ratio ** found[number])
                if keep < tokens.patches.shape[1]:
                    tokens = tokens.keep(stable_topk(odds[..., 0] - odds[..., 1], keep))
            tokens = Tokens(block(tokens.all), tokens.prefix, tokens.places)
        return tokens

    def _masked(self, blocks: nn.Sequential, tokens: Tokens, call: Call) -> Tokens:
        x, prefix = tokens.all, tokens.prefix
        patches, found, predictors = x.shape[1] - prefix, stages(len(blocks)), iter(self.predictors)
        there = x.new_ones(len(x), patches, dtype=torch.float32)
        for number, block in enumerate(blocks):
            if number in found:
                odds = next(predictors)(x[:, prefix:], there.detach())
                there = there * drawn(
                    odds, there.detach(), keep_count(patches, call.keep_ratio ** found[number]), call.generator
                )
            weight = torch.cat([there.new_ones(len(x), prefix), there], dim=1)
            x, _ = attention_half(block, x, weight=weight)
            x = mlp_half(block, x)
        return Tokens(x, prefix, tokens.places)


def drawn(odds: Tensor, there: Tensor, keep: int, generator: torch.Generator | None = None) -> Tensor:
    """Gumbel-softmax, hard, with the gradient of the soft draw.

    Args:
        odds: log-probabilities of keeping and of dropping, (B, n, 2).
        there: (B, n), 1 for the tokens that are still there.
        keep: how many of these are drawn.
        generator: torch's, or that of a part of a batch; None: torch's global one.

    Returns:
        (B, n), 1 for the tokens whose draw is most in favour, else 0.
    """
    # Drawn on the CPU, so that a GPU run keeps the same tokens as a CPU run of the same seed.
    even = uniform(tuple(odds.shape), generator).clamp(1e-20, 1 - 1e-7).to(odds.device)
    noisy = odds - torch.log(-torch.log(even))
    favour = (noisy[..., 0] - noisy[..., 1]).masked_fill(there == 0, -torch.inf)
    hard = torch.zeros_like(there).scatter(1, stable_topk(favour.detach(), keep), 1.0)
    soft = F.softmax(noisy, dim=-1)[..., 0]
    return hard + (soft - soft.detach())  # exactly 0 or 1 forward
