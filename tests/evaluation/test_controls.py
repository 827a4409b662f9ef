"""Controls tell a choice that looks at the image from one mask for all."""

import pytest
import torch

from asel_lib import configs, tables
from asel_lib.evaluation import answers, controls
from asel_lib.selection import Selection
from asel_lib.training import stages

IMAGES = 24


def scenes(seed=0):
    """Black images of 4 x 4 patches; one patch is striped in one of three colours, the image's class."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (IMAGES,), generator=rng)
    images = torch.full((IMAGES, 3, 32, 32), -1.0)
    for image, label, place in zip(images, labels, torch.randperm(IMAGES, generator=rng) % 16, strict=True):
        top, left = 8 * (place // 4), 8 * (place % 4)
        image[label, top : top + 8 : 2, left : left + 8] = 1
    return [(images[:10], labels[:10]), (images[10:], labels[10:])]


def seeing(model):
    """The model, but it answers with the brightest colour of the patches that it keeps; without any light with 0."""

    def forward(images, keep_ratio=1.0, policy=None, lines=None, *, kept=None, return_selection=False, **options):
        if kept is None:
            kept = model.select(images, keep_ratio, policy, **options)
        patches = images.unfold(2, 8, 8).unfold(3, 8, 8).mean(dim=(4, 5)).flatten(2)  # (B, 3, 16)
        logits = patches.gather(2, kept[:, None].expand(-1, 3, -1)).amax(dim=2)
        return (logits, Selection(None, kept)) if return_selection else logits

    model.forward = forward
    return model


def test_a_choice_that_looks_is_ahead_of_every_control(tiny):
    model = seeing(tiny(selector="edge_energy", num_classes=3))
    right, common = controls.controlled(model, scenes(), scenes(1), [0.07, 0.25], draws=3, progress=False)
    table = controls.table(right).set_index(["control", "keep_ratio"])
    assert set(table.index.unique("control")) == {"one_mask", "another_image", "even", "random"}
    assert (table["own"] == 1).all() and (table["n_images"] == IMAGES).all()
    assert (table["low"] > 0).all()
    assert (common["in_common"] < 0.4).all()


def test_one_mask_for_all_has_no_advantage_and_is_found_out(tiny):
    model = seeing(tiny(selector="central", num_classes=3))
    right, common = controls.controlled(model, scenes(), scenes(1), [0.25], progress=False)
    table = controls.table(right).set_index("control")
    assert table.loc[["one_mask", "another_image"], "difference"].tolist() == [0, 0]
    assert common["in_common"].tolist() == [1] and common["chance"].tolist() == [0.25]


def test_the_one_mask_has_the_patches_that_are_kept_most_often():
    kept = torch.tensor([[3, 1], [3, 0], [5, 3], [1, 5]])
    assert controls.one_mask(kept, 6).tolist() == [3, 1]


@pytest.mark.parametrize("count", [2, 3, 50])
def test_another_image_is_never_the_image_itself(count):
    others = controls.other_images(count)
    assert sorted(others.tolist()) == list(range(count))
    assert not (others == torch.arange(count)).any()


def test_a_single_image_has_no_other():
    with pytest.raises(ValueError, match="1 image"):
        controls.other_images(1)


def test_of_a_checkpoint_they_are_printed_and_its_answers_kept(workplace, capsys):
    made = stages.direct(configs.load("smoke"), "synthetic", selector="random", progress=False)
    controls.main([made.file.stem, "--profile", "smoke", "--ratios", "0.25"])
    said = capsys.readouterr().out
    assert "one_mask" in said and "in_common" in said
    kept = tables.ANSWERS.read(answers.file_of(made.file.stem, "smoke", "controls"))
    assert set(kept["policy"]) == {"random", "one_mask", "another_image", "even"}
