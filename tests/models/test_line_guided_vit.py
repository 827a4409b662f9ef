"""The published line-guided system under its own names."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.layers import resample_abs_pos_embed
from timm.models import create_model

import asel_lib
from asel_lib.data.lines import draw
from asel_lib.models import SelectiveMagnoViT, SelectiveViT


def test_the_published_smoke_test_runs():
    model = SelectiveMagnoViT(
        patch_percentage=0.4, num_classes=10, color_img_size=256, ld_img_size=64, pretrained=False
    )
    model.eval()
    color = torch.randn(1, 3, 256, 256)
    lines = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        logits = model(color, lines)
        assert torch.equal(model(color, lines), logits)
    assert logits.shape == (1, 10)
    assert model.get_num_selected_patches() == 102


@torch.no_grad()
def test_a_published_file_gives_the_logits_of_its_vit_on_the_patches_drawn(tmp_path):
    """The reference is a plain timm model under `vit.`, its tokens gathered by hand."""
    torch.manual_seed(0)
    settings = {"img_size": 256, "depth": 2, "num_classes": 7}
    vit = timm.create_model("vit_tiny_patch16_224", **settings).eval()
    state = {f"vit.{key}": value for key, value in vit.state_dict().items()}
    images, lines = torch.randn(3, 3, 256, 256), torch.rand(3, 1, 64, 64)
    for name, content in (("plain", state), ("wrapped", {"epoch": 3, "model_state_dict": state})):
        torch.save(content, tmp_path / f"{name}.pth")
        model = asel_lib.load_published(tmp_path / f"{name}.pth", classes=tuple("abcdefg"))
        kept = model.select(images, 0.3, lines=lines)
        assert kept.shape == (3, 76)
        tokens = vit._pos_embed(vit.patch_embed(images))
        rows = [torch.cat([t[:1], t[1:][k]]) for t, k in zip(tokens, kept, strict=True)]
        expected = vit.forward_head(vit.norm(vit.blocks(torch.stack(rows))))
        torch.testing.assert_close(model(images, 0.3, lines=lines), expected, atol=1e-4, rtol=0)
        torch.testing.assert_close(model(images, 1.0), vit(images), atol=1e-5, rtol=0)

    own = SelectiveMagnoViT(0.3, 7, pretrained=False, depth=2).eval()
    own.load_state_dict(state)  # strict: the names are the published ones
    torch.testing.assert_close(own(images, lines), expected, atol=1e-4, rtol=0)


def test_files_are_prepared_as_published(tmp_path):
    from PIL import Image

    vit = timm.create_model("vit_tiny_patch16_224", img_size=256, depth=1, num_classes=2)
    torch.save({f"vit.{k}": v for k, v in vit.state_dict().items()}, tmp_path / "x.pth")
    model = asel_lib.load_published(tmp_path / "x.pth", classes=("a", "b"))
    pixels = np.zeros((292, 500, 3), dtype=np.uint8)
    pixels[:, 122:378] = 255  # the middle 256 of 500 columns
    image = model.transform(Image.fromarray(pixels))
    assert image.shape == (3, 256, 256)
    white = (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(image[:, 100, 128], white)
    assert (image[:, :, 2:-2] > 2).all()
    assert model.predict([Image.fromarray(pixels)], keep_ratio=0.4)[0].label in ("a", "b")


def test_pretrained_patch_and_position_embeddings_are_kept_and_resampled(tmp_path):
    """The published model makes both anew. The weights are made here; timm reads them as it reads downloaded ones."""
    torch.manual_seed(0)
    source = create_model("vit_tiny_patch16_224", num_classes=3, depth=2)
    save_file(source.state_dict(), tmp_path / "model.safetensors")
    overlay = {"file": str(tmp_path / "model.safetensors"), "num_classes": 3}
    model = SelectiveMagnoViT(0.4, 3, 256, pretrained=True, pretrained_cfg_overlay=overlay, depth=2).vit
    torch.testing.assert_close(model.patch_embed.proj.weight, source.patch_embed.proj.weight)
    assert model.pos_embed.shape == (1, 257, 192)
    torch.testing.assert_close(model.pos_embed, resample_abs_pos_embed(source.pos_embed, [16, 16], num_prefix_tokens=1))
    eight = SelectiveViT(
        "vit_tiny_patch16_224", 3, "line_guided", True, pretrained_cfg_overlay=overlay, depth=2, patch_size=8
    )
    before, after = source.patch_embed.proj.weight, eight.patch_embed.proj.weight
    assert after.shape == (192, 3, 8, 8)
    # a resampled patch answers a smooth image much as the patch of twice the size does
    flat = torch.ones(1, 3, 16, 16)
    large, small = (before * flat).sum((1, 2, 3)), (after * flat[..., :8, :8]).sum((1, 2, 3))
    assert torch.corrcoef(torch.stack([large, small]))[0, 1] > 0.9


def test_training_draws_anew_and_a_bad_share_is_named():
    torch.manual_seed(0)
    model = SelectiveMagnoViT(0.2, 4, 64, pretrained=False, depth=1).train()
    color, lines = torch.randn(2, 3, 64, 64), torch.rand(2, 1, 64, 64)
    assert not torch.equal(model(color, lines), model(color, lines))
    model.eval()
    assert torch.equal(model(color, lines), model(color, lines))
    with pytest.raises(ValueError, match="keep_ratio is 1.4"):
        SelectiveMagnoViT(1.4, 4, 64, pretrained=False)


@torch.no_grad()
def test_an_images_answer_does_not_depend_on_the_range_of_its_neighbours_drawing():
    model = SelectiveMagnoViT(0.3, 4, 64, pretrained=False, depth=1, selector="line_guided:choice=top").eval()
    color, faint, wide = torch.randn(2, 3, 64, 64), torch.rand(1, 1, 64, 64) * 0.3, torch.randn(1, 1, 64, 64)
    together = model(color, torch.cat([faint, wide]))
    torch.testing.assert_close(together[:1], model(color[:1], faint))


@torch.no_grad()
def test_drawings_are_made_of_the_image_before_its_normalisation():
    model = SelectiveMagnoViT(0.3, 4, 64, pretrained=False, depth=1, selector="line_guided").eval()
    pixels = torch.rand(2, 3, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    color = (pixels - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    torch.testing.assert_close(model.vit.view(color).lines, draw(pixels), atol=1e-4, rtol=0)
