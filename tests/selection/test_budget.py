import numpy as np
import pytest
import torch
from PIL import Image

from asel_lib.models import SelectiveViT
from asel_lib.selection.budget import average_of, factor_for, lengths, levels


@pytest.fixture
def vit():
    torch.manual_seed(0)
    made = SelectiveViT("vit_tiny_patch16_224", 5, "glance", img_size=128, depth=2, embed_dim=24, num_heads=3)
    torch.nn.init.normal_(made.selector.network[-1].weight, std=30)
    return made.eval()


def images(count=12):
    noise = torch.randn(count, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    noise[::2, :, 40:, 40:] *= 0.02  # half of them are nearly empty
    return noise


def test_a_length_is_the_root_of_the_perplexity_times_the_factor_rounded_up_to_a_level():
    assert levels(64) == [1, 2, 3, 4, 6, 8, 12, 16, 23, 32, 46, 64] and levels(4) == [1, 2, 3, 4] and levels(1) == [1]
    even = torch.full((1, 64), -100.0)
    for count in (1, 4, 9, 64):
        weights = even.clone()
        weights[0, :count] = 2.5
        for factor, expected in ((1.0, count**0.5), (3.0, 3 * count**0.5)):
            at_least = next(level for level in levels(64) if level >= expected - 1e-9)
            assert lengths(weights, factor).tolist() == [at_least]
    assert lengths(even, 1000.0).tolist() == [64] and lengths(even, 0.0).tolist() == [1]


@pytest.mark.parametrize("average", [0.05, 0.2, 0.5])
def test_the_threshold_meets_the_average(average):
    weights = 2 * torch.randn(500, 64, generator=torch.Generator().manual_seed(1))
    weights[:250] *= 0.1
    kept = lengths(weights, factor_for(weights, average)).double() / 64
    assert 0.7 * average < kept.mean() <= average
    assert kept[250:].mean() < kept[:250].mean()  # a clear choice is a short one


def test_adaptive_answers_are_those_of_each_image_alone_with_its_own_number_of_patches(vit):
    batch = images()
    vit.calibrate([(batch, None)], [0.3])
    logits, selection = vit(batch, "auto:0.3", return_selection=True)
    counts = (selection.kept >= 0).sum(dim=1)
    assert len(counts.unique()) > 1 and counts.float().mean() / 64 <= 0.3
    for image, own, kept, count in zip(batch, logits, selection.kept, counts, strict=True):
        assert torch.equal(kept[:count], vit.select(image[None], 1.0)[0, :count])
        torch.testing.assert_close(vit(image[None], kept=kept[None, :count])[0], own, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(vit(batch[:1], "auto"), logits[:1], atol=1e-5, rtol=1e-5)  # 0.3 is the usual average


def test_predict_takes_auto_and_lists_as_many_patches_as_were_kept(vit):
    vit.calibrate([(images(), None)], [0.3])
    pictures = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(len(images()))]
    vit.classes, vit.transform = tuple("abcde"), lambda picture: images()[picture.getpixel((0, 0))[0]]
    answers = vit.predict(pictures, "auto")
    assert [len(one.kept) for one in answers] == (vit(images(), "auto", return_selection=True)[1].kept >= 0).sum(
        1
    ).tolist()
    assert {one.label for one in answers} <= set("abcde")
    assert np.mean([len(one.kept) for one in vit.predict(pictures, 0.5)]) == 32


@pytest.mark.parametrize("wrong", ["aut", "auto:", "auto:2", "auto:x", "0.5"])
def test_text_that_is_no_budget_is_refused(vit, wrong):
    if wrong == "auto:":
        assert average_of(wrong) == 0.3
        return
    with pytest.raises(ValueError, match='or "auto"'):
        vit(images(1), wrong)


def test_what_auto_cannot_do_is_refused_by_name(vit):
    vit.calibrate([(images(), None)], [0.3])
    for wrong in (dict(kept=torch.zeros(12, 1, dtype=torch.long)), dict(mode="mask")):
        with pytest.raises(ValueError, match="leave these out"):
            vit(images(), "auto", **wrong)
    with pytest.raises(ValueError, match="call model.eval"):
        vit.train()(images(), "auto")


def test_without_a_threshold_or_weights_the_error_says_what_to_do(vit):
    with pytest.raises(ValueError, match="call model.calibrate"):
        vit(images(1), "auto:0.2")
    vit.calibrate([(images(), None)], [0.2])
    with pytest.raises(ValueError, match="prepared for: 0.2"):
        vit(images(1), "auto:0.4")
    with pytest.raises(ValueError, match="'random' has learned no weights"):
        vit(images(1), "auto:0.2", policy="random")
