"""A timm model of each family, in hand, made selective: timm's logits with all patches, exactly the kept ones below."""

import copy

import pytest
import timm
import torch
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import asel_lib
from asel_lib.models import SelectiveViT
from asel_lib.registry import FAMILIES

TINY = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3)
MODELS = {
    "vit": ("vit_tiny_patch16_224", TINY),
    "deit": ("deit_tiny_patch16_224", TINY),
    "deit3": ("deit3_small_patch16_224", TINY),
    "dinov2": ("vit_small_patch14_dinov2", TINY),
    "dinov2_registers": ("vit_small_patch14_reg4_dinov2", TINY),
    "siglip": ("vit_base_patch16_siglip_224", TINY),
    "any_size": ("vit_tiny_patch16_224", TINY | {"dynamic_img_size": True}),
    "eva": ("eva_giant_patch14_224", TINY | {"mlp_ratio": 2}),
    "eva02": ("eva02_tiny_patch14_224", TINY),
    "dinov3": ("vit_small_patch16_dinov3", TINY),
    "mixed": ("vit_small_patch16_rope_mixed_224", TINY),
    "eva_any_size": ("eva02_tiny_patch14_224", TINY | {"dynamic_img_size": True}),
}
every_model = pytest.mark.parametrize("name", MODELS)


def images(count=2, channels=3):
    return torch.randn(count, channels, 32, 32, generator=torch.Generator().manual_seed(1))


def plain(name="vit", **changes):
    architecture, settings = MODELS[name]
    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=5, **settings | changes).eval()
    with torch.no_grad():  # these begin at next to nothing, which would hide an error in them
        for key, parameter in model.named_parameters():
            if key.split(".")[-1] in ("gamma", "gamma_1", "gamma_2"):
                parameter.fill_(0.5)
            elif key in ("head.weight", "pos_embed", "cls_token", "reg_token"):
                parameter.normal_(std=0.5)
    return model


def by_hand(model, batch, kept):
    """timm's own modules on timm's own tokens of all patches, of which the prefix and the kept ones are picked."""
    placed = model._pos_embed(model.patch_embed(batch))
    tokens, rope = placed if isinstance(model, Eva) else (placed, None)
    prefix, answers = model.num_prefix_tokens, []
    for row, chosen in enumerate(kept):
        one = torch.cat([tokens[row : row + 1, :prefix], tokens[row : row + 1, prefix:][:, chosen]], dim=1)
        one = model.norm_pre(one)
        for number, block in enumerate(model.blocks):
            if rope is None:
                one = block(one)
            else:
                own = rope[number] if model.rope_mixed else rope
                one = block(one, rope=own[..., chosen, :])
        answers.append(model.forward_head(model.norm(one)))
    return torch.cat(answers)


@every_model
@torch.no_grad()
def test_all_patches_give_timms_logits_and_the_kept_ones_are_exactly_those(name):
    model = plain(name)
    twin, names = copy.deepcopy(model), list(model.state_dict())
    made = asel_lib.make_selective(model, "random")
    assert made is model and isinstance(made, SelectiveViT) and isinstance(made, type(twin))
    assert [key for key in made.state_dict() if not key.startswith("patch_drop.")] == names
    torch.testing.assert_close(made(images()), twin(images()), atol=1e-5, rtol=0)
    for policy in (None, "central", "edge_energy", "line_guided:choice=top"):
        logits, selection = made(images(), 0.4, policy, return_selection=True)
        assert selection.kept.shape == (2, 6)
        torch.testing.assert_close(logits, by_hand(twin, images(), selection.kept), atol=1e-5, rtol=0)
        assert not torch.allclose(logits, twin(images()), atol=1e-3)
    order = torch.tensor([[9, 2, 4], [0, 15, 7]])
    torch.testing.assert_close(made(images(), kept=order), by_hand(twin, images(), order), atol=1e-5, rtol=0)
    torch.testing.assert_close(made(images(), kept=order.flip(1)), made(images(), kept=order), atol=1e-5, rtol=0)


@every_model
def test_gradients_reach_the_model_and_a_trained_selector(name):
    model = asel_lib.make_selective(plain(name), "learned").train()
    for mode in ("mask", "gumbel"):
        model.zero_grad()
        model(images(), 0.5, mode=mode).square().sum().backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.selector.mlp[0].parameters())
        assert model.patch_embed.proj.weight.grad.abs().sum() > 0
        assert model.blocks[0].norm1.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("policy", ["evit", "tome"])
@torch.no_grad()
def test_token_reducers_work_on_a_model_in_hand_or_say_why_not(policy):
    made = asel_lib.make_selective(plain("deit", depth=4))
    assert made(images(), 0.5, policy).isfinite().all()
    made = asel_lib.make_selective(plain("eva02"))
    with pytest.raises(ValueError, match=f"{policy} works on timm's plain blocks.*has EvaBlock with EvaAttention"):
        made(images(), 0.5, policy)
    made = asel_lib.make_selective(plain("siglip"))
    if policy == "evit":
        with pytest.raises(ValueError, match="evit asks the class token, and this model has none"):
            made(images(), 0.5, policy)
    else:
        assert made(images(), 0.5, policy).isfinite().all()


def test_other_models_are_refused_with_the_families_named():
    assert sorted(FAMILIES.names()) == ["Eva", "VisionTransformer"]
    expected = r"exactly one of these classes: Eva \(.*\); VisionTransformer \(vit_\*"
    tiny = {key: value for key, value in TINY.items() if key != "img_size"}
    distilled = timm.create_model("deit_tiny_distilled_patch16_224", **TINY)
    naflex = timm.create_model("naflexvit_base_patch16_gap", **tiny)
    own = type("OwnViT", (VisionTransformer,), {})(**TINY)
    cases = (
        (timm.create_model("resnet18"), "is a ResNet: "),
        (distilled, "two heads"),
        (naflex, "NaFlexVit, and its slot for patches is open in training alone"),
        (own, "is a OwnViT: "),
        (nn.DataParallel(plain()), "the model is its `module`"),
        (torch.compile(plain(), backend="eager"), "make it selective first, and compile it then"),
    )
    for model, message in cases:
        before = dict(vars(model))
        with pytest.raises(ValueError, match=message) as caught:
            asel_lib.make_selective(model)
        with pytest.raises(ValueError, match=expected):
            raise caught.value
        assert vars(model) == before


@pytest.mark.parametrize("name", ["vit", "eva02"])
@torch.no_grad()
def test_an_error_leaves_the_users_model_as_it_was(name):
    model = plain(name)
    answer, before, parts, kind = model(images()), dict(vars(model)), dict(model._modules), type(model)
    wrong = (
        (dict(selector="best"), "unknown policy 'best'"),
        (dict(classes=["a"]), "expected the names of the head's 5 outputs"),
        (dict(classes="abcde"), "expected the names of the head's 5 outputs"),
    )
    if name == "eva02":
        wrong += ((dict(selector="agent"), "agent works on timm's plain blocks"),)
    for settings, message in wrong:
        with pytest.raises(ValueError, match=message):
            asel_lib.make_selective(model, **settings)
    assert vars(model) == before and model._modules == parts and type(model) is kind
    assert torch.equal(model(images()), answer)
    asel_lib.make_selective(model)
    with pytest.raises(ValueError, match="selective already, its own selector is 'glance'"):
        asel_lib.make_selective(model, "random")


@pytest.mark.parametrize("name", ["vit", "eva02"])
def test_a_rate_of_dropped_patches_is_refused_and_why(name):
    with pytest.raises(ValueError, match=r"patch_drop_rate=0.5\), in the slot where the selector chooses.*_rate=0"):
        asel_lib.make_selective(plain(name, patch_drop_rate=0.5))
