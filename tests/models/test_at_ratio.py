"""One keep ratio as a plain module: the model's own logits."""

import pytest
import torch

from asel_lib.models import SelectiveViT
from asel_lib.models.at_ratio import AtRatio

POLICIES = [None, "random", "central", "even", "smaller_image", "line_guided:lines=sobel,choice=top"]


@pytest.mark.parametrize(
    ("architecture", "settings", "selector"),
    [
        ("vit_tiny_patch16_224", {"img_size": 64}, "learned"),
        ("vit_tiny_patch16_224", {"img_size": 64}, "glance"),
        ("vit_tiny_patch16_224", {"img_size": 64, "dynamic_img_size": True}, "glance"),
        ("deit3_small_patch16_224", {"img_size": 64}, "learned"),  # no position embedding on the class token
        ("vit_small_patch14_reg4_dinov2", {"img_size": 70}, "glance"),  # register tokens
        ("vit_base_patch16_clip_224", {"img_size": 64}, "learned"),  # norm_pre
    ],
)
def test_logits_are_the_models_own(architecture, settings, selector):
    torch.manual_seed(0)
    model = SelectiveViT(architecture, 5, selector, depth=2, **settings).eval()
    images = torch.randn(3, 3, settings["img_size"], settings["img_size"])
    with torch.inference_mode():
        for ratio in (1.0, 0.5, 0.07):
            for policy in POLICIES:
                torch.testing.assert_close(
                    AtRatio(model, ratio, policy)(images), model(images, ratio, policy), atol=1e-5, rtol=0
                )


def test_it_shares_the_models_weights_and_refuses_what_it_cannot_do(tiny):
    model = tiny(selector="random")
    assert list(AtRatio(model, 0.5).parameters()) == list(model.parameters())
    with pytest.raises(ValueError, match="keep_ratio is 0"):
        AtRatio(model, 0)
    with pytest.raises(ValueError, match="'tome' keeps no patches before the first block"):
        AtRatio(model, 0.5, "tome")
