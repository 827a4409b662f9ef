import pytest
import torch
from torch import nn

from asel_lib.selection import PatchSelector, gather_patches, registry, slot
from asel_lib.selection.sampling import gumbel_top_k


def test_mask_is_zero_or_one_and_carries_the_scores_gradient():
    scores = torch.tensor([[0.9, 0.1, 0.6, 0.3]], requires_grad=True)
    patches = torch.arange(8.0).reshape(1, 4, 2) + 1
    kept, mask = slot.choose(scores, 2, "mask")
    out = patches * mask.unsqueeze(-1)
    assert kept.tolist() == [[0, 2]]
    assert torch.equal(out, patches * torch.tensor([[1.0, 0, 1, 0]]).unsqueeze(-1))
    out.sum().backward()
    # d(sum z_i m_i)/d s_i = sum z_i, for kept and dropped patches alike: the straight-through estimator
    assert torch.equal(scores.grad, patches.sum(-1))


def test_gumbel_top_k_draws_in_proportion_to_the_odds():
    # K = 1: P(i) = odds_i / sum of odds, here 8 : 1 : 1
    odds = torch.tensor([8.0, 1.0, 1.0])
    scores = (odds / (1 + odds)).expand(20_000, 3)
    drawn = torch.bincount(gumbel_top_k(scores, 1, torch.Generator().manual_seed(0)).flatten(), minlength=3)
    assert drawn[0].item() / 20_000 == pytest.approx(0.8, abs=0.01)


def test_gumbel_top_k_keeps_distinct_patches_even_for_scores_of_zero_and_one():
    kept = gumbel_top_k(torch.tensor([[0.0, 1.0, 0.0, 1.0]]).expand(50, 4), 3, torch.Generator().manual_seed(0))
    assert all(len(set(row)) == 3 for row in kept.tolist())
    assert {tuple(sorted(row[:2])) for row in kept.tolist()} == {(1, 3)}


def test_gather_picks_the_named_patches():
    patches = torch.arange(12.0).reshape(1, 6, 2)
    assert torch.equal(gather_patches(patches, torch.tensor([[4, 0]])), patches[:, [4, 0]])


def test_a_selector_of_ones_own_with_weights_is_no_policy_for_another_model(tiny, monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    @registry.register("mine")
    class Mine(PatchSelector):
        def __init__(self, dim):
            super().__init__()
            self.score = nn.Linear(dim, 1)

    with pytest.raises(ValueError, match="policy 'mine' has trained weights"):
        tiny()(torch.randn(1, 3, 32, 32), 0.5, "mine")


def test_drawn_patches_pass_a_gradient_to_their_scores():
    scores = torch.full((1, 6), 0.5, requires_grad=True)
    kept, weights = slot.choose(scores, 3, "gumbel", torch.Generator().manual_seed(0))
    assert weights.tolist() == [[1.0] * 3]
    weights.sum().backward()
    assert scores.grad[0].nonzero().flatten().tolist() == sorted(kept[0].tolist())
