"""What people do with a timm model, done with one that was made selective; what cannot work is a named error."""

import copy

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from timm.data import create_transform, resolve_model_data_config
from torch import nn

import asel_lib
from asel_lib.configs import ModelSettings
from asel_lib.data.batches import Transform

ARCHITECTURES = {"vit": "vit_tiny_patch16_224", "eva": "eva02_tiny_patch14_224"}
SELECTORS = ("glance", "learned", "random")
each = pytest.mark.parametrize("family", ARCHITECTURES)


def images(count=2, channels=3, size=32):
    return torch.randn(count, channels, size, size, generator=torch.Generator().manual_seed(1))


def made(family="vit", selector="glance", transform=None, classes=None, **changes):
    torch.manual_seed(0)
    tiny = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=4) | changes
    model = timm.create_model(ARCHITECTURES[family], **tiny).eval()
    nn.init.normal_(model.head.weight)
    return asel_lib.make_selective(model, selector, transform, classes)


class Adapted(nn.Module):
    """A low-rank adapter around a layer, as peft's LoRA is, in a class of one's own."""

    def __init__(self, layer, wide):
        super().__init__()
        self.layer = layer
        self.down, self.up = nn.Linear(layer.weight.shape[1], 2, bias=False), nn.Linear(2, wide, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def adapted(model):
    for block in model.blocks:
        block.attn.qkv = Adapted(block.attn.qkv, 144)
    return model


class AtHalf(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, batch):
        return self.model(batch, 0.5)


@each
@torch.no_grad()
def test_a_copy_and_a_saved_state_answer_alike(family, tmp_path):
    model = made(family)
    expected = model(images(), 0.5)
    assert torch.equal(copy.deepcopy(model)(images(), 0.5), expected)
    torch.save(model.state_dict(), tmp_path / "state.pth")
    other = made(family)
    nn.init.zeros_(other.head.weight)
    other.load_state_dict(torch.load(tmp_path / "state.pth", weights_only=True))
    assert torch.equal(other(images(), 0.5), expected)
    torch.save(model, tmp_path / "whole.pth")
    assert torch.equal(torch.load(tmp_path / "whole.pth", weights_only=False)(images(), 0.5), expected)


@each
@pytest.mark.parametrize("selector", SELECTORS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@torch.no_grad()
def test_other_number_formats(family, selector, dtype):
    model = made(family, selector)
    single, kept = model(images(), kept=torch.tensor([[3, 7]] * 2)), torch.tensor([[3, 7]] * 2)
    model.to(dtype)
    for answer in (model(images().to(dtype)), model(images().to(dtype), 0.5)):
        assert answer.dtype == dtype and answer.isfinite().all()
    torch.testing.assert_close(model(images().to(dtype), kept=kept).float(), single, atol=0.2, rtol=0.05)


@each
@torch.no_grad()
def test_a_half_model_can_be_made_selective_too(family):
    torch.manual_seed(0)
    plain = timm.create_model(ARCHITECTURES[family], img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3)
    model = asel_lib.make_selective(plain.bfloat16().eval(), "learned")
    assert {p.dtype for p in model.selector.parameters()} == {torch.float32}
    assert model(images().bfloat16(), 0.5).dtype == torch.bfloat16


@each
@torch.no_grad()
def test_it_compiles_and_exports(family):
    model, other = AtHalf(made(family)), images(3)
    torch.compiler.reset()
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images()), model(images()), atol=1e-5, rtol=0)
    exported = torch.export.export(model, (images(),), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))
    torch.testing.assert_close(exported.module()(other), model(other), atol=1e-5, rtol=0)


@each
@pytest.mark.parametrize("selector", ["learned", "glance"])
def test_gradients_are_the_same_with_checkpointed_blocks(family, selector):
    model, found = made(family, selector), []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model(images(), 0.5, mode="gather").square().sum().backward()
        found.append([p.grad.clone() for p in model.blocks.parameters() if p.grad is not None])
    assert found[0] and all(torch.allclose(*pair, atol=1e-5) for pair in zip(*found, strict=True))


@each
@torch.no_grad()
def test_another_head_keeps_the_rest_and_forgets_the_classes(family):
    model = made(family, classes=list("abcd"))
    features = model.forward_features(images(), keep_ratio=0.5)
    model.reset_classifier(7)
    assert model(images(), 0.5).shape == (2, 7) and model.classes is None
    assert torch.equal(model.forward_features(images(), keep_ratio=0.5), features)
    model.reset_classifier(0)
    assert model(images(), 0.5).shape == (2, 48)


@each
@torch.no_grad()
def test_features_of_the_kept_patches_and_of_layers(family):
    model = made(family)
    assert model.forward_features(images()).shape == (2, 17, 48)
    for policy in (None, "central"):
        features = model.forward_features(images(), keep_ratio=0.25, policy=policy)
        assert features.shape == (2, 5, 48)
        assert torch.equal(model.forward_head(features), model(images(), 0.25, policy))
    final, layers = model.forward_intermediates(images(), indices=2)
    assert [layer.shape for layer in layers] == [(2, 48, 4, 4)] * 2
    torch.testing.assert_close(final, model.forward_features(images()))


@each
def test_a_frozen_model_trains_its_selector_alone(family):
    torch.manual_seed(0)
    plain = timm.create_model(ARCHITECTURES[family], img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3)
    model = asel_lib.make_selective(plain.requires_grad_(False), "learned")
    model.train()(images(), 0.5, mode="gumbel").square().sum().backward()
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert touched and all(name.startswith("patch_drop.") for name in touched)


@pytest.mark.parametrize("selector", ["glance", "agent", "tome", "evit", "dynamicvit"])
@torch.no_grad()
def test_an_adapter_around_qkv_counts_for_every_selector(selector):
    model = made(selector=selector, depth=4)
    before = model(images(), 0.5), model.scores(images()) if selector == "agent" else None
    adapted(model)
    after = model(images(), 0.5), model.scores(images()) if selector == "agent" else None
    assert not torch.allclose(before[0], after[0], atol=1e-3)
    if selector == "agent":  # it looks at the first block's attention
        assert not torch.allclose(before[1], after[1], atol=1e-6)


@torch.no_grad()
def test_an_adapter_around_the_embedding_counts_where_only_kept_patches_are_embedded():
    model = made(selector="central")

    class Doubled(nn.Module):
        def __init__(self, layer):
            super().__init__()
            self.layer = layer

        def forward(self, x):
            return 2 * self.layer(x)

    model.patch_embed.proj = Doubled(model.patch_embed.proj)
    kept = torch.tensor([[1, 5]] * 2)
    tokens = model._pos_embed(model.patch_embed(images()))
    tokens = torch.cat([tokens[:, :1], tokens[:, 1:][:, kept[0]]], dim=1)
    expected = model.forward_head(model.norm(model.blocks(tokens)))
    torch.testing.assert_close(model(images(), kept=kept), expected, atol=1e-5, rtol=0)


def test_pefts_lora_trains_adapters_and_the_model_stays_selective():
    peft = pytest.importorskip("peft", reason="peft is not installed: pip install peft", exc_type=ImportError)
    model = peft.get_peft_model(made(), peft.LoraConfig(r=2, target_modules=["qkv", "proj"]))
    model(images(), keep_ratio=0.5).sum().backward()
    assert all("lora_" in name for name, p in model.named_parameters() if p.grad is not None)
    assert model.merge_and_unload()(images(), 0.5).shape == (2, 4)
    plain = timm.create_model(ARCHITECTURES["vit"], img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3)
    with pytest.raises(ValueError, match="make it selective first"):
        asel_lib.make_selective(peft.get_peft_model(plain, peft.LoraConfig(r=2, target_modules=["qkv"])))


@pytest.mark.parametrize("channels", [1, 4])
@pytest.mark.parametrize("selector", ["glance", "learned", "central", "agent", "tome"])
def test_models_of_other_channels_work_from_tensors(selector, channels):
    model = made(selector=selector, in_chans=channels)
    batch = images(channels=channels)
    model(batch, 0.5).square().sum().backward()
    with torch.no_grad():
        twin = copy.deepcopy(model)
        assert torch.equal(twin(batch, 0.5), model(batch, 0.5))
    if channels == 4:
        with pytest.raises(ValueError, match="draws the lines of grey or RGB images, and these have 4 channels"):
            model(batch, 0.5, "edge_energy")
    else:
        assert model(batch, 0.5, "edge_energy").isfinite().all()
    assert model.transform is None
    with pytest.raises(ValueError, match="predict needs the model's transform and classes"):
        model.predict([Image.new("RGB", (32, 32))])


@pytest.mark.parametrize(
    ("timm_settings", "message"),
    [
        ({"in_chans": 4}, "in_chans is 4: image files are read as RGB.*make_selective"),
        ({"in_chans": 1}, "in_chans is 1"),
        ({"patch_drop_rate": 0.25}, "patch_drop_rate is 0.25: the selector chooses"),
    ],
)
def test_a_profile_with_what_cannot_be_trained_is_refused_when_it_is_read(timm_settings, message):
    with pytest.raises(ValueError, match=message):
        ModelSettings("vit_tiny_patch16_224", image_size=32, timm=timm_settings)
    ModelSettings("vit_tiny_patch16_224", image_size=32, timm={"in_chans": 3, "patch_drop_rate": 0.0})


@pytest.mark.parametrize(
    ("architecture", "size", "ours"),
    [
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", 32, True),
        ("vit_small_patch14_reg4_dinov2.lvd142m", 28, True),
        ("vit_tiny_patch16_224.augreg_in21k_ft_in1k", (32, 64), False),
        ("deit3_small_patch16_224.fb_in1k", 32, True),
    ],
)
def test_pictures_are_prepared_as_timm_says(architecture, size, ours):
    model = timm.create_model(architecture, img_size=size, patch_size=4, embed_dim=24, depth=1, num_heads=3)
    data = resolve_model_data_config(model)
    model = asel_lib.make_selective(model.eval())
    shape = (size, size) if isinstance(size, int) else size
    wanted = create_transform(**data | {"input_size": (3, *shape)}, is_training=False)
    chance = np.random.default_rng(0)
    picture = Image.fromarray(chance.integers(0, 255, (9, 13, 3), dtype=np.uint8)).resize((130, 90))
    assert isinstance(model.transform, Transform) == ours
    found = model.transform(picture)
    assert found.shape == (3, *shape)
    assert (found - wanted(picture)).abs().max() < 2.1 / 255 / min(data["std"])  # rounding of levels
    assert (model.patch_drop.mean, model.patch_drop.std) == (data["mean"], data["std"])


def test_predict_answers_once_there_are_classes():
    model, picture = made(classes=list("abcd")), Image.new("RGB", (50, 40), "green")
    answer = model.predict([picture], 0.5)[0]
    assert answer.label in "abcd" and len(answer.kept) == 8
    own = made(classes=list("abcd"), transform=lambda image: images(1)[0])
    with torch.no_grad():
        winner = own(images(1), 0.5).argmax(dim=1).item()
    assert own.predict([picture], 0.5)[0].label == "abcd"[winner]


@torch.no_grad()
def test_a_model_with_a_convolutional_stem_takes_rgb():
    torch.manual_seed(0)
    model = timm.create_model("vit_tiny_r_s16_p8_224", img_size=64, depth=1, num_classes=3).eval()
    model = asel_lib.make_selective(model, "glance", classes=list("abc"))
    assert model(images(size=64), 0.5).shape == (2, 3)
    assert model.predict([Image.new("RGB", (80, 70))], 0.5)[0].label in "abc"
