import copy

import pytest
import timm
import torch
from PIL import Image
from timm.models.vision_transformer import VisionTransformer

from asel_lib.data.batches import transform
from asel_lib.models import SelectiveViT
from asel_lib.selection import keep_count


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64}),
        ("deit3_small_patch16_224", {"img_size": 64, "depth": 3}),
        ("vit_small_patch14_reg4_dinov2", {"img_size": 70, "depth": 3}),
        ("vit_tiny_patch16_224", {"img_size": 64, "depth": 2, "dynamic_img_size": True}),
    ],
)
def test_keeping_every_patch_is_the_plain_timm_model(architecture, settings):
    model = SelectiveViT(architecture, 10, **settings).eval()
    plain = timm.create_model(architecture, num_classes=10, **settings).eval()
    own = {key: value for key, value in model.state_dict().items() if not key.startswith("patch_drop.")}
    plain.load_state_dict(own)  # strict: the names are timm's
    images = torch.randn(2, 3, settings["img_size"], settings["img_size"])
    with torch.no_grad():
        torch.testing.assert_close(model(images, 1.0), plain(images), atol=1e-5, rtol=0)
        assert not torch.allclose(model(images, 0.5), plain(images), atol=1e-5)
    assert isinstance(model, VisionTransformer)


@pytest.mark.parametrize("policy", [None, "learned", "random", "central"])
def test_kept_patches_alone_give_the_logits(tiny, policy):
    """The gather path against a plain forward over the selected tokens."""
    model, images = tiny(), torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        kept = model.select(images, 0.4, policy)
        tokens = model._pos_embed(model.patch_embed(images))
        chosen = torch.stack([tokens[i, 1 + kept[i]] for i in range(3)])
        expected = model.head(model.norm(model.blocks(torch.cat([tokens[:, :1], chosen], 1)))[:, 0])
        torch.testing.assert_close(model(images, 0.4, policy), expected)
    assert kept.shape == (3, keep_count(16, 0.4))


@pytest.mark.parametrize("policy", ["learned", "random", "central"])
def test_an_images_answer_does_not_depend_on_its_batch(tiny, policy):
    model, images = tiny(), torch.randn(5, 3, 32, 32)
    with torch.no_grad():
        together, kept = model(images, 0.3, policy), model.select(images, 0.3, policy)
        for i in (0, 4):
            torch.testing.assert_close(model(images[i : i + 1], 0.3, policy)[0], together[i])
            assert torch.equal(model.select(images[i : i + 1], 0.3, policy)[0], kept[i])


def test_draws_of_the_random_policy_differ_and_repeat(tiny):
    model, images = tiny(), torch.randn(2, 3, 32, 32)
    first, again, other = (model.select(images, 0.5, "random", draw_index=d) for d in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("mode", ["mask", "gumbel"])
def test_below_a_keep_ratio_of_one_gradients_reach_the_selector(tiny, mode):
    model = tiny().train()
    logits, selection = model(torch.randn(4, 3, 32, 32), 0.5, mode=mode, return_selection=True)
    logits.square().sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.selector.mlp[0].parameters())
    assert selection.scores.shape == (4, 16)
    assert selection.kept.shape == (4, 8)


def test_masked_tokens_carry_nothing_but_stay(tiny):
    """`paper` training: dropped tokens are zero, and the blocks still see N of them."""
    model, seen = tiny(), []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        _, selection = model(torch.randn(2, 3, 32, 32), 0.25, mode="mask", return_selection=True)
    patches = seen[0][:, 1:]
    assert patches.shape[1] == 16
    assert (patches.abs().sum(-1) > 0).sum(1).tolist() == [4, 4]


@pytest.mark.parametrize("ratio", [0, -1, 1.1, float("nan")])
def test_a_bad_keep_ratio_is_named(tiny, ratio):
    with pytest.raises(ValueError, match=r"keep_ratio is .*\(0, 1\]"):
        tiny()(torch.zeros(1, 3, 32, 32), ratio)


def test_bad_names_are_errors(tiny):
    model, images = tiny(), torch.zeros(1, 3, 32, 32)
    with pytest.raises(ValueError, match="unknown policy 'best'"):
        model(images, 0.5, "best")
    with pytest.raises(ValueError, match="unknown mode 'drop'"):
        model(images, 0.5, mode="drop")
    with pytest.raises(ValueError, match="resnet18.*VisionTransformer"):
        SelectiveViT("resnet18", 10)
    with pytest.raises(ValueError, match="learned.*trained weights"):
        tiny(selector="central")(images, 0.5, "learned")


def test_an_error_leaves_the_model_usable(tiny):
    model, images = tiny(), torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        before = model(images, 0.5)
        with pytest.raises(RuntimeError):
            model(torch.zeros(1, 5, 32, 32), 0.5)
        torch.testing.assert_close(model(images, 0.5), before)


def test_a_model_can_be_copied_after_training(tiny):
    model = tiny().train()
    model(torch.randn(2, 3, 32, 32), 0.5, mode="gumbel").sum().backward()
    twin = copy.deepcopy(model)
    assert twin.state_dict().keys() == model.state_dict().keys()


def test_a_larger_image_is_taken_where_timm_takes_it(tiny):
    model = tiny(dynamic_img_size=True)
    assert model.select(torch.randn(1, 3, 32, 64), 0.5).shape == (1, 16)
    assert model(torch.randn(1, 3, 32, 64), 0.5, "central").shape == (1, 4)


def test_predict_answers_for_each_image_in_order(tiny, tmp_path):
    model = tiny()
    with pytest.raises(ValueError, match=r"asel_lib\.load"):
        model.predict([Image.new("RGB", (40, 40))])
    model.classes, model.transform = tuple("abcd"), transform(32, (0.5,) * 3, (0.5,) * 3)
    images = [Image.new("RGB", (40, 60), color) for color in ("red", "green", "blue")]
    images[1].save(tmp_path / "green.png")
    answers = model.predict([images[0], tmp_path / "green.png", images[2]], keep_ratio=0.5, batch_size=2)
    assert [len(a.kept) for a in answers] == [8, 8, 8]
    assert all(a.label in "abcd" and 0.25 <= a.probability <= 1 for a in answers)
    assert model.predict([images[1]], keep_ratio=0.5)[0].kept == answers[1].kept
    with pytest.raises(ValueError, match="expected a list"):
        model.predict("green.png")
