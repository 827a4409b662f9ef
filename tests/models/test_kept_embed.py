"""Selecting before embedding: the same logits for less."""

import copy

import pytest
import torch

from asel_lib.evaluation import cost
from asel_lib.models import SelectiveViT
from asel_lib.models.kept_embed import KeptPatchEmbed, take_patches

POLICIES = ["random", "central", "line_guided:choice=sample", "line_guided:choice=top,lines=sobel"]


def embed_all(model, images, ratio, policy):
    """Embed every patch, then keep the same ones: what the model did before."""
    kept = model.select(images, ratio, policy)
    tokens = model._pos_embed(model.patch_embed(images))
    prefix, patches = tokens[:, : model.num_prefix_tokens], tokens[:, model.num_prefix_tokens :]
    chosen = torch.stack([p[k] for p, k in zip(patches, kept, strict=True)])
    x = model.norm_pre(torch.cat([prefix, chosen], 1))
    for block in model.blocks:
        x = block(x)
    return model.forward_head(model.norm(x)), kept


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(
    ("architecture", "size", "settings"),
    [
        ("vit_tiny_patch16_224", (224, 224), {}),
        ("vit_tiny_patch16_224", (256, 256), {"img_size": 256}),
        ("vit_tiny_patch16_224", (320, 192), {"img_size": (320, 192)}),
        ("vit_tiny_patch16_224", (192, 320), {"dynamic_img_size": True}),
        ("deit3_small_patch16_224", (64, 64), {"img_size": 64}),  # no position embedding on the class token
        ("vit_small_patch14_reg4_dinov2", (70, 70), {"img_size": 70}),  # register tokens
        ("vit_base_patch16_clip_224", (64, 64), {"img_size": 64}),  # norm_pre, no bias in the embedding
    ],
)
def test_logits_are_those_of_embedding_everything(architecture, size, settings, policy):
    torch.manual_seed(0)
    model = SelectiveViT(architecture, 5, depth=2, **settings).eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        logits, chosen = model(images, 0.3, policy, return_selection=True)
        expected, kept = embed_all(model, images, 0.3, policy)
    assert torch.equal(chosen.kept, kept)
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=0)


def test_gradients_are_those_of_embedding_everything(tiny):
    model, images = tiny(selector="line_guided"), torch.randn(3, 3, 32, 32)
    model(images, 0.5).square().sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    embed_all(model, images, 0.5, None)[0].square().sum().backward()
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("policy", POLICIES)
def test_only_the_kept_patches_are_paid_for(policy):
    model = SelectiveViT("vit_tiny_patch16_224", 10).eval()
    found = cost.gmacs(model, 224, 0.3, policy)
    expected = cost.analytic_gmacs(196, 58, 192, 12, 4, 1, 16, 3, 10, embedded=58)
    assert found.total - found.selector == pytest.approx(expected, rel=1e-3)
    assert found.selector < 0.005 * expected
    assert (found.selector > 0) == policy.startswith("line_guided")
    learned = cost.gmacs(model, 224, 0.3, "learned")
    assert learned.total - learned.selector == pytest.approx(expected + 138 * 192 * 768 / 1e9, rel=1e-3)


def test_pixels_of_a_patch_are_its_pixels():
    images = torch.arange(2 * 3 * 6 * 8.0).view(2, 3, 6, 8)
    kept = torch.tensor([[5, 0], [3, 4]])  # on a grid of 2 x 4 patches of 3 x 2
    taken = take_patches(images, kept, (3, 2))
    assert taken.shape == (2, 2, 3, 3, 2)
    assert torch.equal(taken[0, 0], images[0, :, 3:6, 2:4])
    assert torch.equal(taken[1, 0], images[1, :, 0:3, 6:8])
    assert torch.equal(take_patches(images.contiguous(memory_format=torch.channels_last), kept, (3, 2)), taken)
    with pytest.raises(ValueError, match="patches of 3 x 3 pixels do not divide images of 6 x 8"):
        take_patches(images, kept, (3, 3))


def test_a_copy_and_dropout_on_positions_keep_their_meaning(tiny):
    model, images = tiny(selector="random"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(copy.deepcopy(model)(images, 0.5), model(images, 0.5))
    dropping = tiny(selector="random", pos_drop_rate=0.5).train()
    assert dropping(images, 0.5).isfinite().all()
    assert isinstance(model.patch_embed, KeptPatchEmbed)
    padded = SelectiveViT("vit_tiny_patch16_224", 5, "random", depth=1, dynamic_img_size=True, dynamic_img_pad=True)
    assert padded.eval()(torch.randn(1, 3, 50, 70), 0.5).shape == (1, 5)


@pytest.mark.parametrize(
    ("size", "settings", "message"),
    [
        ((224, 250), {"dynamic_img_size": True}, "patches of 16 x 16 pixels do not divide images of 224 x 250"),
        ((256, 256), {}, r"images of 256 x 256 pixels, but this model takes 224 x 224.*img_size=\(256, 256\)"),
        ((250, 250), {"img_size": 250}, "patches of 16 x 16 pixels do not divide images of 250 x 250"),
    ],
)
def test_images_that_do_not_fit_are_named(size, settings, message):
    model = SelectiveViT("vit_tiny_patch16_224", 5, "line_guided", depth=1, **settings)
    with pytest.raises(ValueError, match=message):
        model(torch.randn(1, 3, *size), 0.5)
