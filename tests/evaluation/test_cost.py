import math

import pytest
import timm
import torch

from asel_lib.evaluation import cost
from asel_lib.models import SelectiveViT

# ASEL's analytic GMACs, ViT-Tiny/16 at 224, without the selector. They are those of round(196 * ratio) patches (59 and
# 20 at 0.3 and 0.1), where the model keeps floor(196 * ratio): 58 and 19.
PUBLISHED = {1.0: 1.254, 0.7: 0.849, 0.5: 0.600, 0.3: 0.364, 0.1: 0.143}


@pytest.fixture(scope="module")
def vit_tiny():
    return SelectiveViT("vit_tiny_patch16_224", 1000).eval()


@pytest.mark.parametrize("ratio", PUBLISHED)
def test_the_analytic_count_is_the_papers(ratio):
    counted = cost.analytic_gmacs(196, round(196 * ratio), 192, 12, 4, 1, 16, 3, 10)
    assert counted == pytest.approx(PUBLISHED[ratio], rel=0.005)


@pytest.mark.parametrize("policy", ["learned", "random", "central"])
@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.1])
def test_counted_macs_are_within_half_a_percent_of_the_analytic_ones(vit_tiny, ratio, policy):
    found = cost.gmacs(vit_tiny, 224, ratio, policy)
    kept = math.floor(196 * ratio)
    # what does not read the patches chooses before they are embedded
    embedded = 196 if policy == "learned" else kept
    expected = cost.analytic_gmacs(196, kept, 192, 12, 4, 1, 16, 3, 1000, embedded)
    assert found.total - found.selector == pytest.approx(expected, rel=0.005)
    assert (found.selector > 0) == (policy == "learned" and ratio < 1)


def test_the_attention_inside_the_fused_operator_is_counted(vit_tiny):
    assert all(block.attn.fused_attn for block in vit_tiny.blocks)
    fused = cost.gmacs(vit_tiny, 224, 1.0).total
    attention = 12 * 2 * 197**2 * 192 / 1e9
    plain = timm.create_model("vit_tiny_patch16_224")
    weights = sum(p.numel() for p in plain.blocks.parameters() if p.ndim > 1)
    expected = attention + (197 * weights + (196 * 768 + 1000) * 192) / 1e9
    assert fused == pytest.approx(expected, rel=0.005)


def test_latency_is_measured_in_turn_and_fewer_patches_take_less_time(vit_tiny):
    images = torch.randn(4, 3, 224, 224)
    times = cost.latencies(vit_tiny, images, [1.0, 0.1], ["central"], seconds=0.3, rounds=3)
    assert times["central", 0.1].median_ms < times["central", 1.0].median_ms
    one = times["central", 1.0]
    assert one.throughput == pytest.approx(4 / one.median_ms * 1e3)


def test_peak_memory_grows_with_the_patches_kept_and_the_batch(vit_tiny):
    images = torch.randn(8, 3, 224, 224)
    full, few = (cost.peak_memory(vit_tiny, images, ratio, "central") for ratio in (1.0, 0.1))
    # the MLP's hidden layer alone: 8 images x 197 tokens x 768 x 4 bytes
    assert full > 8 * 197 * 768 * 4 / 1e6
    assert few < full
    assert cost.peak_memory(vit_tiny, images[:2], 1.0) < full


def test_the_table_has_a_row_a_ratio_against_the_first(tiny):
    table = cost.table(tiny(), [1.0, 0.25], batch_size=2, seconds=0.02)
    assert table["patches"].tolist() == [16, 4]
    assert table["GMACs saved"].iloc[0] == table["speed-up"].iloc[0] == 1
    assert table["GMACs saved"].iloc[1] > 1.5


@pytest.mark.parametrize("ratio", [1.0, 0.3])
def test_scaling_by_formula_is_the_count_of_the_model(ratio):
    table = cost.scaling(["vit_tiny_patch16_224", "vit_large_patch16_224"], [ratio])
    assert table["architecture"].tolist() == ["vit_tiny_patch16_224", "vit_large_patch16_224"]
    # all of ViT-Large's blocks are alike: two are counted by trace, the rest follow
    shallow = [SelectiveViT("vit_large_patch16_224", 1000, "central", depth=depth).eval() for depth in (1, 2)]
    one, two = (cost.gmacs(model, 224, ratio).total for model in shallow)
    assert table["gmacs"].iloc[1] == pytest.approx(one + 23 * (two - one), rel=0.005)


def test_choosing_is_a_share_of_the_vit_on_as_many_patches(tiny):
    model = tiny()  # what has no weights runs in any model
    images, policies = torch.randn(4, 3, 32, 32), ["line_guided:choice=top", "central", "learned"]
    table = cost.choosing(model, images, 0.25, policies, seconds=0.1, rounds=3).set_index("policy")
    assert table.index.tolist() == policies
    assert (table["share_low"] <= table["share"]).all() and (table["share"] <= table["share_high"]).all()
    # drawing lines takes longer than taking the middle
    assert table.loc[policies[0], "choosing_ms"] > table.loc["central", "choosing_ms"] > 0
    assert table["vit_ms"].nunique() == 1


def test_drawing_lines_is_counted_as_the_selectors_and_given_lines_are_free(tiny):
    model = tiny(selector="line_guided:lines=xdog,choice=top")
    drawn, given = cost.gmacs(model, 32, 0.5), cost.gmacs(model, 32, 0.5, lines=torch.zeros(1, 1, 64, 64))
    assert drawn.selector > given.selector
    assert drawn.total - drawn.selector == pytest.approx(given.total - given.selector)
    assert cost.gmacs(model, 32, 1.0).selector == 0
