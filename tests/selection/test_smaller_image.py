"""The whole image made smaller, and the even layout: what every selection is measured against."""

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import checkpoint_filter_fn

from asel_lib.evaluation import cost
from asel_lib.models import SelectiveViT
from asel_lib.selection import blue_noise, keep_count
from asel_lib.selection.smaller_image import smaller_grid


@pytest.mark.parametrize(
    ("full", "keep", "grid"),
    [
        ((14, 14), 196, (14, 14)),
        ((14, 14), 49, (7, 7)),
        ((14, 14), 39, (6, 6)),
        ((14, 14), 1, (1, 1)),
        ((4, 5), 20, (4, 5)),
        ((4, 16), 16, (2, 8)),
        ((16, 4), 16, (8, 2)),
        ((1, 20), 10, (1, 10)),
        ((20, 1), 10, (10, 1)),
    ],
)
def test_the_grid_keeps_its_proportions_and_has_at_most_k_patches(full, keep, grid):
    assert smaller_grid(full, keep) == grid


def test_no_grid_has_more_patches_than_may_be_kept():
    for full in ((14, 14), (3, 17), (9, 2)):
        for keep in range(1, full[0] * full[1] + 1):
            rows, columns = smaller_grid(full, keep)
            assert 1 <= rows * columns <= keep and rows <= full[0] and columns <= full[1]


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "deit3_small_patch16_224"])
@pytest.mark.parametrize("dynamic", [False, True])
def test_it_answers_as_timms_model_on_the_shrunk_image(architecture, dynamic):
    small = dict(patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=4)
    torch.manual_seed(0)
    ours = SelectiveViT(architecture, selector="smaller_image", img_size=64, dynamic_img_size=dynamic, **small).eval()
    images = torch.randn(2, 3, 64, 64)
    for ratio, side in ((0.25, 32), (0.6, 48)):
        plain = timm.create_model(architecture, img_size=side, **small).eval()
        # timm resamples the positions of a checkpoint as it loads it.
        weights = {name: value for name, value in ours.state_dict().items() if not name.startswith("patch_drop.")}
        plain.load_state_dict(checkpoint_filter_fn(weights, plain, antialias=True))
        shrunk = F.interpolate(images, (side, side), mode="bilinear", antialias=True)
        torch.testing.assert_close(ours(images, ratio), plain(shrunk))
        torch.testing.assert_close(ours(images, ratio)[1:], ours(images[1:], ratio))
    assert torch.equal(ours(images, 1.0), ours(images, 1.0, "random"))


def test_it_costs_what_the_smaller_model_costs_and_trains_positions(tiny):
    model = tiny(selector="smaller_image")
    same = tiny(selector="smaller_image", img_size=16)
    assert cost.gmacs(model, 32, 0.25).total == pytest.approx(cost.gmacs(same, 16, 1.0).total)
    model.train()
    logits, selection = model(torch.randn(2, 3, 32, 32), 0.25, mode="gumbel", return_selection=True)
    assert selection.kept is None
    logits.sum().backward()
    assert (model.pos_embed.grad[0, 1:].abs().sum(dim=1) > 0).all()
    with pytest.raises(ValueError, match="'smaller_image' keeps no patches"):
        model.select(torch.randn(2, 3, 32, 32), 0.25)
    # Patches that the caller names are kept all the same.
    kept = torch.tensor([[0, 5], [2, 3]])
    assert torch.equal(model.eval()(torch.ones(2, 3, 32, 32), kept=kept), model(torch.ones(2, 3, 32, 32), kept=kept))


def test_a_model_that_cannot_be_asked_with_a_smaller_image_is_named(tiny):
    rotary = dict(img_size=32, patch_size=8, embed_dim=48, depth=1, num_heads=3)
    with pytest.raises(ValueError, match="vit_small_patch16_rope_224 has rotary positions"):
        SelectiveViT("vit_small_patch16_rope_224", 4, "smaller_image", **rotary)
    with pytest.raises(ValueError, match=r"dropout of positions \(pos_drop_rate=0.1\)"):
        tiny(selector="smaller_image", pos_drop_rate=0.1)
    model = tiny(selector="random", pos_drop_rate=0.1)
    model(torch.zeros(1, 3, 32, 32), 0.5, "smaller_image")
    with pytest.raises(ValueError, match="dropout of positions"):
        model.train()(torch.zeros(1, 3, 32, 32), 0.5, "smaller_image")


def test_the_even_layout_keeps_one_blue_noise_order_at_every_ratio(tiny):
    model, images = tiny(), torch.randn(3, 3, 32, 32)
    order = blue_noise.order(4, 4)
    for ratio in (0.1, 0.25, 0.5):
        kept = model.select(images, ratio, "even")
        assert kept.tolist() == [order[: keep_count(16, ratio)].tolist()] * 3
    torch.testing.assert_close(model(images, 0.25, "even"), model(images, kept=kept[:, :4]))


def test_the_even_layout_lies_farther_apart_than_random_patches():
    def nearest(patches):
        places = np.stack(np.divmod(np.asarray(patches), 14), axis=1)
        gaps = np.linalg.norm(places[:, None] - places[None], axis=2) + 99 * np.eye(len(places))
        return gaps.min(axis=1).mean()

    order, rng = blue_noise.order(14, 14), np.random.default_rng(0)
    for count in (9, 19, 39):
        drawn = [nearest(rng.choice(196, count, replace=False)) for _ in range(50)]
        assert nearest(order[:count]) > max(drawn)
