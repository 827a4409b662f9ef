"""asel_lib.train: one call from a model and a folder to a checkpoint that predicts."""

import copy
import importlib

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

import asel_lib
from asel_lib import paths
from asel_lib.data import decode
from asel_lib.errors import CheckpointError, DatasetError
from asel_lib.training import jobs

TINY = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3)
FAST = dict(profile="smoke", epochs=1, progress=False, device="cpu", augmentation="none")


@pytest.fixture
def folder(image_folder):
    return image_folder({"field": 10, "forest": 10, "river": 10})


def in_hand(architecture="vit_tiny_patch16_224", classes=3, **changes):
    torch.manual_seed(0)
    return timm.create_model(architecture, num_classes=classes, **TINY | changes)


def started(monkeypatch):
    """What the training's model was before its first step."""
    held = {}

    def train(model, *arguments, **options):
        held.update({key: value.clone() for key, value in model.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "train", train)
    return held


def test_a_name_and_a_folder_give_a_model_that_predicts(folder):
    stage = asel_lib.train("vit_tiny_patch16_224", folder, **FAST, batch_size=8)
    assert stage.record["settings"]["epochs"] == 1 and stage.record["settings"]["batch_size"] == 8
    assert (stage.record["recipe"], stage.record["selector"], stage.record["schedule"]) == (
        "anytime",
        "glance",
        "direct",
    )
    answer = stage.model.predict([folder / "field" / "000.png"], keep_ratio=0.5)[0]
    assert answer.label in ("field", "forest", "river") and len(answer.kept) == 8
    again = asel_lib.train("vit_tiny_patch16_224", folder, **FAST, batch_size=8)
    assert again.reused and asel_lib.load(stage.file).record == stage.record


@pytest.mark.parametrize("architecture", ["vit_tiny_patch16_224", "eva02_tiny_patch14_224"])
@pytest.mark.parametrize("selective", [True, False])
def test_a_model_in_hand_starts_from_its_weights(folder, monkeypatch, architecture, selective):
    model = in_hand(architecture)
    before, kind = copy.deepcopy(model.state_dict()), type(model)
    if selective:
        asel_lib.make_selective(model, "learned")
        kind = type(model)
    with monkeypatch.context() as patched:
        held = started(patched)
        with pytest.raises(KeyboardInterrupt):
            asel_lib.train(model, folder, **FAST)
    assert all(torch.equal(held[key], value) for key, value in before.items())
    stage = asel_lib.train(model, folder, recipe="dropped", **FAST)
    assert stage.record["selector"] == "learned" and stage.record["start"].startswith("weights.safetensors ")
    assert type(model) is kind and all(torch.equal(model.state_dict()[key], value) for key, value in before.items())
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert not torch.allclose(stage.model(images), model.eval()(images))
        torch.testing.assert_close(asel_lib.load(stage.file)(images, 0.5), stage.model(images, 0.5))


@pytest.mark.parametrize("place", ["local-dir", "hf-hub"])
def test_a_model_by_its_place_starts_from_its_weights_and_normalisation(folder, monkeypatch, tmp_path, place):
    prepared = {"mean": (0.1, 0.2, 0.3), "std": (0.2, 0.3, 0.4), "input_size": (3, 32, 32)}
    model = in_hand(classes=7)
    timm.models.save_for_hf(model, tmp_path / "theirs", data_config=prepared, safe_serialization=True)
    name = f"local-dir:{tmp_path / 'theirs'}"
    if place == "hf-hub":
        name = "hf-hub:somebody/theirs"

        def download(repo_id, filename, **options):
            return tmp_path / "theirs" / filename

        monkeypatch.setattr(importlib.import_module("timm.models._hub"), "hf_hub_download", download)
    seen = {}
    monkeypatch.setattr(jobs, "train", lambda model, *rest, **more: seen.update(model=model, rest=rest) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asel_lib.train(name, folder, **FAST)
    assert torch.equal(seen["model"].blocks[1].mlp.fc1.weight, model.blocks[1].mlp.fc1.weight)
    assert seen["model"].head.weight.shape == (3, 48) and seen["rest"][0].mean == (0.1, 0.2, 0.3)


def test_another_head_and_size_keep_the_rest(folder, monkeypatch):
    model = in_hand(classes=7)
    held = started(monkeypatch)
    with pytest.raises(KeyboardInterrupt):
        asel_lib.train(model, folder, image_size=48, **FAST)
    assert held["head.weight"].shape == (3, 48) and held["pos_embed"].shape == (1, 37, 48)
    assert torch.equal(held["blocks.1.mlp.fc1.weight"], model.blocks[1].mlp.fc1.weight)


def test_two_models_on_one_folder_keep_a_checkpoint_each(folder):
    one = asel_lib.train(in_hand(), folder, **FAST)
    model = in_hand()
    nn.init.ones_(model.head.weight)
    other = asel_lib.train(model, folder, **FAST)
    assert one.file != other.file and one.file.is_file() and not other.reused
    assert asel_lib.train(in_hand(), folder, **FAST).reused
    assert one.file.is_relative_to(paths.results())


def test_rates_of_dropping_are_kept(folder, monkeypatch):
    seen = {}
    monkeypatch.setattr(jobs, "train", lambda model, *rest, **more: seen.update(model=model) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        asel_lib.train(in_hand(drop_path_rate=0.2, drop_rate=0.1), folder, **FAST)
    assert seen["model"].blocks[1].drop_path1.drop_prob == pytest.approx(0.2) and seen["model"].head_drop.p == 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: in_hand(in_chans=4), "in_chans is 4: image files are read as RGB"),
        (lambda: in_hand(norm_layer=nn.LayerNorm), "made with norm_layer=.*record cannot hold"),
        (lambda: in_hand(img_size=(32, 64)), r"images of \(32, 64\) pixels.*pass image_size"),
        (lambda: timm.create_model("resnet18"), "is a ResNet: expected a timm model"),
        (lambda: timm.models.vision_transformer.VisionTransformer(**TINY), "does not say what timm calls it"),
    ],
)
def test_models_that_could_not_be_made_again_are_refused(folder, change, message):
    with pytest.raises(ValueError, match=message):
        asel_lib.train(change(), folder, **FAST)


def test_wrong_settings_are_named(folder):
    wrapped = in_hand()
    wrapped.blocks[0].attn.qkv = nn.Sequential(wrapped.blocks[0].attn.qkv)
    with pytest.raises(ValueError, match="blocks.0.attn.qkv.0.bias is .*merge adapters"):
        asel_lib.train(wrapped, folder, **FAST)
    with pytest.raises(ValueError, match="unknown setting in train 'batchsize'.*batch_size"):
        asel_lib.train(in_hand(), folder, **FAST, batchsize=3)
    with pytest.raises(ValueError, match="recipe 'masked' does not train selector 'glance'"):
        asel_lib.train(in_hand(), folder, recipe="masked", selector="glance", **FAST)
    for name in ("vit_tiniest", "vit_tiny_patch16_224.mine"):
        with pytest.raises(ValueError, match="no model that timm knows.*'local-dir:folder'"):
            asel_lib.train(name, folder, **FAST)
    with pytest.raises(CheckpointError, match="hf-hub:: timm makes no model of it .*hf-hub:owner/name"):
        asel_lib.train("hf-hub:", folder, **FAST)


def test_white_is_what_the_caller_says(workplace, monkeypatch):
    for label in ("dark", "bright"):
        (workplace / "deep" / label).mkdir(parents=True)
        for number in range(5):
            values = np.random.default_rng([number, len(label)]).integers(0, 3000, (32, 32)).astype(np.uint16)
            Image.fromarray(values).save(workplace / "deep" / label / f"{number}.png")
    seen = []
    monkeypatch.setattr(jobs, "train", lambda model, batches, *rest, **more: seen.append(batches) or 1 / 0)
    for given, expected in (({}, (4095, 0)), ({"white": 3000, "black": 100}, (3000, 100))):
        with pytest.raises(ZeroDivisionError):
            asel_lib.train(in_hand(), workplace / "deep", **FAST, **given)
        assert (seen[-1].images.reading.white, seen[-1].images.reading.black) == expected


def test_a_class_that_is_too_small_is_said_before_an_image_is_opened(image_folder, monkeypatch):
    monkeypatch.setattr(decode, "_decode_all", lambda *arguments: pytest.fail("images were decoded"))
    with pytest.raises(DatasetError, match=r"too few different images to split in river \(4\)"):
        asel_lib.train(in_hand(), image_folder({"field": 10, "river": 4}), **FAST)
