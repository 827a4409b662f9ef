"""Export is of the model in hand: what was put around its parts is in the file, or no file is written."""

import numpy as np
import pytest
import timm
import torch
from timm.data import create_transform
from torch import nn

import asel_lib
from asel_lib.data.batches import normalised
from asel_lib.errors import ExportError
from asel_lib.export import export
from asel_lib.export.onnx_graph import answers
from asel_lib.models.at_ratio import AtRatio

onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed: pip install -e '.[export]'")
TINY = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3, num_classes=4)


def in_hand(architecture="vit_tiny_patch16_224", selector="glance", **changes):
    torch.manual_seed(0)
    model = timm.create_model(architecture, **TINY | changes).eval()
    nn.init.normal_(model.head.weight)
    return asel_lib.make_selective(model, selector, classes=list("abcd"))


class Adapted(nn.Module):
    """LoRA around a layer, in a class of one's own."""

    def __init__(self, layer, wide):
        super().__init__()
        self.layer = layer
        self.down, self.up = nn.Linear(48, 2, bias=False), nn.Linear(2, wide, bias=False)

    def forward(self, x):
        return self.layer(x) + self.up(self.down(x))


def around_qkv(model):
    for block in model.blocks:
        block.attn.qkv = Adapted(block.attn.qkv, 144)


def hooked(model):
    model.blocks[0].attn.qkv.register_forward_hook(lambda layer, inputs, output: output * 1.5)


def parametrised(model):
    nn.utils.parametrizations.weight_norm(model.blocks[0].attn.qkv)
    with torch.no_grad():
        model.blocks[0].attn.qkv.parametrizations.weight.original0.mul_(2)


def assert_file_answers_as(model, file, ratio, policy=None):
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    found = answers(onnx.load(file), images.numpy())
    slot = model.patch_drop
    with torch.no_grad():
        expected = model(normalised(images.permute(0, 3, 1, 2), slot.mean, slot.std), ratio, policy)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("change", [around_qkv, hooked, parametrised])
def test_what_was_put_around_the_attention_is_in_the_file(tmp_path, change):
    model = in_hand()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = model(images, 0.5)
        change(model)
        assert (model(images, 0.5) - before).abs().max() > 1e-3
    assert_file_answers_as(model, export(model, 0.5, tmp_path).float32, 0.5)


@pytest.mark.parametrize("architecture", ["eva02_tiny_patch14_224", "vit_small_patch16_rope_mixed_224"])
def test_kept_patches_keep_their_rotary_positions_in_the_file(tmp_path, architecture):
    model = in_hand(architecture)
    assert_file_answers_as(model, export(model, 0.4, tmp_path).float32, 0.4)
    images = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        for ratio, policy in ((1.0, None), (0.4, None), (0.4, "central")):
            at = AtRatio(model, ratio, policy)
            torch.testing.assert_close(at(images), model(images, ratio, policy), atol=1e-5, rtol=0)


class Unseen(nn.Module):
    """Where a tracer looks it does nothing."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(x) * (1 if torch.compiler.is_compiling() else 2)


class Branching(Unseen):
    def forward(self, x):
        return self.layer(x) * (2 if x.sum() > 0 else 3)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [(Unseen, "logits differ from torch's by .* merge it"), (Branching, "cannot be laid out as one ONNX graph")],
)
def test_what_the_graph_cannot_express_is_refused_and_nothing_is_written(tmp_path, wrapper, message):
    model = in_hand()
    model.blocks[0].attn.qkv = wrapper(model.blocks[0].attn.qkv)
    with pytest.raises(ExportError, match=message):
        export(model, 0.5, tmp_path / "deployed")
    assert not list(tmp_path.rglob("*.onnx"))


def test_images_that_the_exported_script_could_not_prepare_are_refused(tmp_path):
    model = in_hand()
    model.transform = create_transform((3, 32, 32), interpolation="bilinear")
    with pytest.raises(ExportError, match="model.transform is a Compose, which the exported predict.py cannot repeat"):
        export(model, 0.5, tmp_path)
    with pytest.raises(ExportError, match="images of 4 channels, and the exported predict.py reads RGB"):
        export(in_hand(in_chans=4), 0.5, tmp_path)
