"""Each method against its paper's equations, written a second time with loops, and what they have in common."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from asel_lib.evaluation import cost
from asel_lib.models import SelectiveViT
from asel_lib.selection import Call, View, create, keep_count
from asel_lib.selection.call import Tokens
from asel_lib.selection.dynamicvit import drawn
from asel_lib.selection.evit import fuse
from asel_lib.selection.reducers import attend, attention_half, mlp_half
from asel_lib.selection.tome import merge, schedule

REDUCERS = ("evit", "tome", "dynamicvit")
SMALL = dict(img_size=64, depth=4, embed_dim=24, num_heads=3)


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def model(selector, **settings):
    torch.manual_seed(0)
    return SelectiveViT("vit_tiny_patch16_224", 5, selector=selector, **SMALL | settings).eval()


def tokens(x, prefix=1):
    return Tokens(x, prefix, torch.arange(x.shape[1] - prefix).expand(len(x), -1))


@pytest.mark.parametrize("fused", [True, False])
def test_attention_is_timms_and_says_what_it_computed(fused):
    block = model("random").blocks[0]
    block.attn.fused_attn = fused
    x = noise(2, 17, 24)
    found = attend(block.attn, x)
    by_class = found.by_class()
    torch.testing.assert_close(found.output, block.attn(x))
    torch.testing.assert_close(mlp_half(block, attention_half(block, x)[0]), block(x))
    query, key, _ = block.attn.qkv(x).reshape(2, 17, 3, 3, 8).permute(2, 0, 3, 1, 4)
    for image in range(2):
        rows = [F.softmax(query[image, head, 0] @ key[image, head].T / 8**0.5, dim=0) for head in range(3)]
        torch.testing.assert_close(by_class[image], torch.stack(rows).mean(dim=0))
    torch.testing.assert_close(found.keys, key)


def test_a_token_of_size_s_weighs_as_much_as_s_copies_of_it():
    block = model("random").blocks[0]
    x = noise(1, 5, 24)
    copies = torch.cat([x, x[:, 4:], x[:, 4:]], dim=1)
    sized = attend(block.attn, x, size=torch.tensor([[1.0, 1, 1, 1, 3]]))
    torch.testing.assert_close(sized.output, block.attn(copies)[:, :5])


def test_a_token_of_weight_0_is_seen_by_itself_alone():
    block = model("random").blocks[0]
    x = noise(1, 6, 24)
    masked = attend(block.attn, x, weight=torch.tensor([[1.0, 1, 0, 1, 0, 1]])).output
    there = [0, 1, 3, 5]
    torch.testing.assert_close(masked[:, there], block.attn(x[:, there]))
    torch.testing.assert_close(masked[:, [2]], block.attn(x[:, [*there, 2]])[:, [4]])


def test_evit_keeps_what_the_class_token_looks_at_and_sums_the_rest_by_attention():
    x, attention = noise(2, 10, 4), noise(2, 9, seed=1).softmax(dim=1)
    left = fuse(tokens(x), attention, keep=4)
    for image in range(2):
        order = np.argsort(-attention[image].numpy())
        torch.testing.assert_close(left.all[image, 0], x[image, 0])
        torch.testing.assert_close(left.all[image, 1:4], x[image, 1 + order[:3]])
        fused = sum(attention[image, i] * x[image, 1 + i] for i in order[3:])
        torch.testing.assert_close(left.all[image, 4], fused)
        assert left.places[image].tolist() == [*order[:3], -1]


def test_evit_in_a_model_is_its_blocks_with_three_reductions():
    vit, images = model("evit"), noise(2, 3, 64, 64)
    x = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
    places = torch.arange(16).expand(2, -1)
    for number, block in enumerate(vit.blocks):
        x, attended = attention_half(block, x)
        if number in (1, 2, 3):
            keep = int(16 * 0.2 ** (number / 3) + 1e-9)
            left = fuse(Tokens(x, 1, places), attended.by_class()[:, 1:], keep)
            x, places = left.all, left.places
        x = mlp_half(block, x)
    logits, selection = vit(images, 0.2, return_selection=True)
    torch.testing.assert_close(logits, vit.forward_head(vit.norm(x)))
    assert torch.equal(selection.kept, places) and torch.equal(vit.select(images, 0.2), places)


def test_tome_merges_the_most_similar_pairs_of_two_sets_into_their_mean_by_size():
    x, metric, size = noise(1, 9, 4), noise(1, 9, 3, seed=1), torch.arange(1.0, 10)[None]
    merged, sizes = merge(x, size, metric, gone=3)
    first, second = list(range(0, 9, 2)), list(range(1, 9, 2))
    cosine = F.cosine_similarity(metric[0, first][:, None], metric[0, second][None], dim=-1).numpy()
    edges = sorted(range(5), key=lambda i: -cosine[i].max())[:3]
    groups = {j: [second[j]] for j in range(4)}
    for i in edges:
        groups[cosine[i].argmax()].append(first[i])
    expected = [[first[i]] for i in range(5) if i not in edges] + list(groups.values())
    for token, members in enumerate(expected):
        weights = size[0, members]
        torch.testing.assert_close(merged[0, token], (x[0, members] * weights[:, None]).sum(0) / weights.sum())
        assert sizes[0, token] == weights.sum()
    assert merged.shape == (1, 6, 4)


@pytest.mark.parametrize(("patches", "keep", "depth"), [(64, 32, 6), (64, 6, 6), (196, 19, 12), (64, 1, 4), (9, 8, 3)])
def test_tome_comes_down_in_equal_steps_and_never_merges_more_than_half(patches, keep, depth):
    counts = schedule(patches, keep, depth)
    before = [patches, *counts[:-1]]
    assert all(b >= a >= b / 2 for a, b in zip(counts, before, strict=True))
    assert counts[-1] == max(keep, -(-patches // 2**depth))
    if patches / keep <= 2:
        assert max(np.diff([patches, *counts])) - min(np.diff([patches, *counts])) <= 1


def test_tome_without_merging_is_the_plain_model_and_equal_patches_merge_without_loss():
    vit, images = model("tome"), noise(2, 3, 64, 64)
    x = vit.norm_pre(vit._pos_embed(vit.patch_embed(images)))
    whole = vit.selector.reduce(vit.blocks, tokens(x), Call(1.0))
    torch.testing.assert_close(vit.forward_head(vit.norm(whole.all)), vit(images))
    vit.pos_embed.data.zero_()
    flat = images.new_ones(1, 3, 64, 64) * torch.tensor([0.3, -0.2, 0.9]).reshape(1, 3, 1, 1)
    torch.testing.assert_close(vit(flat, 0.25), vit(flat), atol=1e-5, rtol=1e-5)


def test_dynamicvit_predicts_from_a_local_and_a_global_half():
    selector = create("dynamicvit", 24)
    x, there = noise(2, 16, 24), (noise(2, 16, seed=2) > 0).float()
    predictor = selector.predictors[0]
    features = predictor.embed(x)
    local, wide = features[..., :12], features[..., 12:]
    for image in range(2):
        mean = wide[image, there[image] == 1].mean(dim=0)
        joined = torch.cat([local[image], mean.expand(16, -1)], dim=-1)
        expected = predictor.judge(joined).log_softmax(dim=-1)
        torch.testing.assert_close(predictor(x, there)[image], expected)


def test_dynamicvit_draws_as_many_as_asked_by_its_probabilities_among_those_that_are_there():
    odds = torch.tensor([0.9, 0.5, 0.5, 0.1, 0.99]).expand(20000, -1)
    odds = torch.stack([odds, 1 - odds], dim=-1).log().requires_grad_()
    there = torch.tensor([1.0, 1, 1, 1, 0]).expand(20000, -1)
    kept = drawn(odds, there, 2, torch.Generator().manual_seed(0))
    assert set(kept.unique().tolist()) == {0.0, 1.0} and (kept.sum(dim=1) == 2).all() and (kept[:, 4] == 0).all()
    shares = kept.detach().mean(dim=0)
    assert shares[0] > shares[1] > shares[3] and shares[1] == pytest.approx(shares[2].item(), abs=0.02)
    kept[:, 0].sum().backward()
    assert (odds.grad[:, 0, 0] > 0).all() and (odds.grad[:, 1:] == 0).all()


def test_dynamicvit_masks_in_training_what_it_takes_out_in_use():
    vit, images = model("dynamicvit"), noise(1, 3, 64, 64)
    with torch.no_grad():  # predictors so sure that a draw is no draw
        for predictor in vit.selector.predictors:
            torch.nn.init.normal_(predictor.judge[-1].weight, std=1e4)
    masked = vit(images, 0.5, mode="gumbel", generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(masked, vit(images, 0.5), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", REDUCERS)
def test_every_reducer_leaves_what_was_asked_costs_less_and_does_not_look_at_the_batch(name):
    vit, images = model(name), noise(3, 3, 64, 64)
    torch.testing.assert_close(vit(images), vit(images, policy="random"))  # at 1 nothing is taken out
    together = vit(images, 0.4)
    torch.testing.assert_close(torch.cat([vit(image[None], 0.4) for image in images]), together, atol=1e-5, rtol=1e-5)
    macs = [cost.gmacs(vit, 64, ratio).total for ratio in (1.0, 0.7, 0.4, 0.1)]
    assert macs == sorted(macs, reverse=True) and macs[0] > 1.2 * macs[-1]
    _, selection = vit(images, 0.4, return_selection=True)
    if name == "tome":
        assert selection.kept is None
        with pytest.raises(ValueError, match="keeps no patches"):
            vit.select(images, 0.4)
    else:
        assert selection.kept.shape == (3, keep_count(16, 0.4))
    assert vit.select(images, 1.0).shape == (3, 16)
    patches = vit.kept_of(selection, images)
    assert [len(one) for one in patches] == ([16] * 3 if name == "tome" else (selection.kept >= 0).sum(1).tolist())
    with pytest.raises(ValueError, match="between the blocks"):
        vit.scores(images)


def test_models_that_a_method_cannot_work_on_are_refused():
    for settings in (
        dict(class_token=False, global_pool="avg"),
        dict(class_token=False, reg_tokens=2, global_pool="avg"),
    ):
        with pytest.raises(ValueError, match="class token"):
            model("evit", **settings)
        with pytest.raises(ValueError, match="class token"):
            model("random", **settings)(noise(1, 3, 64, 64), 0.5, policy="evit")
    other = SelectiveViT("vit_small_patch16_18x2_224", 5, "random", img_size=64, embed_dim=24, num_heads=3, depth=2)
    with pytest.raises(ValueError, match="has ParallelThingsBlock"):
        other(noise(1, 3, 64, 64), 0.5, policy="tome")


def test_edge_energy_is_the_mean_squared_gradient_and_ranks_a_drawn_square_first():
    selector = create("edge_energy", 8)
    image = np.zeros((32, 32))
    image[10:14, 18:22] = 1  # inside patch (1, 2) of 4 x 4
    padded = np.pad(image, 1, mode="edge")
    energy = np.zeros_like(image)
    for y in range(32):
        for x in range(32):
            window = padded[y : y + 3, x : x + 3]
            gx = (window[:, 2] - window[:, 0]) @ [1, 2, 1] / 8
            gy = (window[2] - window[0]) @ [1, 2, 1] / 8
            energy[y, x] = gx**2 + gy**2
    drawing = selector.draw_lines(torch.from_numpy(image).float()[None, None])
    np.testing.assert_allclose(drawing[0, 0].numpy(), energy, atol=1e-6)
    scores = selector(View(torch.zeros(1, 3, 32, 32), (4, 4), lines=drawing))
    np.testing.assert_allclose(scores[0].numpy(), energy.reshape(4, 8, 4, 8).mean((1, 3)).ravel(), atol=1e-6)
    assert scores.argmax().item() == 6
