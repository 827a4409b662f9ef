"""The table of kept patches says what the model keeps, answers and chooses by, and survives its file."""

import numpy as np
import pytest
import torch

from asel_lib import tables
from asel_lib.data import lines
from asel_lib.data.decode import ImageArray
from asel_lib.evaluation.patches import kept_patches, scores_of
from asel_lib.identity import ModelKey
from asel_lib.selection.line_guided import centre, log_joint

KEY = ModelKey("scenes", "direct", "glance", "anytime")


@pytest.fixture
def images():
    """Five images of four classes, and the batch of the third and the fifth."""
    pixels = np.random.default_rng(0).integers(0, 255, (5, 32, 32, 3), dtype=np.uint8)
    names, digests = tuple(f"a/{n}.png" for n in range(5)), tuple(f"{n:016d}" for n in range(5))
    made = ImageArray("scenes", pixels, np.array([0, 1, 2, 3, 0]), tuple("abcd"), names, digests)
    chosen = np.array([2, 4])
    return made, chosen, torch.from_numpy(pixels[chosen]).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.fixture
def named(tiny):
    def make(selector):
        model = tiny(selector=selector)
        model.classes = tuple("abcd")
        return model

    return make


def numbers(cell):
    return [float(value) for value in cell.split()]


def test_a_row_says_which_image_what_was_kept_by_which_scores_and_what_was_answered(named, images):
    made, chosen, batch = images
    model = named("glance")
    torch.nn.init.normal_(model.selector.network[-1].weight, std=30)
    table = kept_patches(model, batch, made, chosen, 0.25, **KEY.columns(), split="test")
    assert set(table) == set(tables.PATCHES.columns) and len(tables.PATCHES.checked(table, "these rows")) == 2
    assert table["image"].tolist() == ["a/2.png", "a/4.png"] and table["digest"].iloc[1].endswith("4")
    assert table["class"].tolist() == ["c", "a"] and table["policy"].iloc[0].startswith("glance")
    assert [[int(n) for n in cell.split()] for cell in table["kept"]] == model.select(batch, 0.25).tolist()
    np.testing.assert_allclose([numbers(c) for c in table["scores"]], model.log_weights(batch).detach(), rtol=1e-3)
    assert table["answer"].tolist() == ["abcd"[i] for i in model(batch, 0.25).argmax(dim=1)]
    assert set(table["centre"]) == {""} and set(table["scores_of"]) == {"log-weights of glance"}


def test_line_guidance_is_told_with_the_drawings_that_it_saw(named, images):
    made, chosen, batch = images
    model = named("line_guided:lines=given,choice=top")
    drawn = torch.zeros(2, 1, 64, 64)
    drawn[0, 0, 48:, 48:] = 1
    table = kept_patches(model, batch, made, chosen, 0.25, lines=drawn)
    np.testing.assert_allclose([numbers(c) for c in table["scores"]], log_joint(drawn, (4, 4), 0.25), rtol=1e-3)
    np.testing.assert_allclose([numbers(c) for c in table["centre"]], centre(drawn), rtol=1e-3)
    # Another policy has an extractor of its own: the drawings that came with the images are not meant for it.
    other = kept_patches(model, batch, made, chosen, 0.25, "line_guided:lines=sobel", drawn)
    expected = log_joint(lines.draw(batch / 2 + 0.5, "sobel"), (4, 4), 0.25)
    np.testing.assert_allclose([numbers(c) for c in other["scores"]], expected, rtol=1e-3)


@pytest.mark.parametrize(("selector", "reason"), [("random", "draws"), ("tome", "no scores before them")])
def test_where_there_are_no_scores_the_reason_is_given(named, images, selector, reason):
    made, chosen, batch = images
    table = kept_patches(named(selector), batch, made, chosen, 0.25)
    assert set(table["scores"]) == {""} and table["scores_of"].str.contains(reason).all()
    assert scores_of(named("central"), batch)[0].shape == (2, 16)


def test_the_table_is_read_as_it_was_written_and_another_sets_comes_from_the_reference(named, images, tmp_path):
    made, chosen, batch = images
    one = kept_patches(named("random"), batch, made, chosen, 1 / 16, **KEY.columns(), split="test")  # one patch
    other = one.assign(dataset="others")
    (tmp_path / "run").mkdir()
    one.to_csv(tmp_path / "run/c.csv", index=False)
    other.assign(dataset=["others", "scenes"]).to_csv(tmp_path / "committed.csv", index=False)
    found = tables.patches(tmp_path / "run", tmp_path / "committed.csv")
    assert found["dataset"].tolist() == ["scenes", "scenes", "others"]
    assert found["kept"].tolist()[:2] == one["kept"].tolist() and found["digest"].iloc[0] == "0000000000000002"
    assert found["scores"].tolist() == [""] * 3
    empty = tables.patches(tmp_path / "nothing", tmp_path / "nothing.csv")
    assert tuple(empty) == tables.PATCHES.columns and empty.empty
