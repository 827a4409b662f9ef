"""The ImageNet head without any training: whose classes are whose, and what is written."""

import pytest
import torch

from asel_lib import tables
from asel_lib.evaluation import answers, imagenet_head
from asel_lib.identity import ModelKey

CLASSES = ("n01440764", "n03888257")  # tench, parachute


def test_folders_called_by_wordnet_ids_are_imagenets_classes():
    assert imagenet_head.class_numbers(CLASSES) == (0, 701)
    with pytest.raises(ValueError, match="class 'tench' is none of ImageNet-1k's: expected folders called by WordNet"):
        imagenet_head.class_numbers(("n01440764", "tench"))


def test_an_answer_outside_the_data_sets_classes_is_wrong_among_all_and_left_out_among_its_own(tiny):
    model, images = tiny(num_classes=1000, selector="random"), torch.randn(6, 3, 32, 32)
    with torch.no_grad():
        model.head.bias[5] += 100.0  # a class that the data set has not
        model.head.bias[701] += 50.0
    found = imagenet_head.outcomes(
        model, [(images, torch.tensor([0, 1, 1, 0, 1, 1]))], (0, 701), [0.5, 1.0], ["random", "tome"], draws=2
    )
    among_all, own = (found[head]["tome", 0.5] for head in imagenet_head.HEADS)
    assert not among_all.right.any() and (among_all.ranked[:, :, 0] == 5).all()
    assert own.right.tolist() == [[False, True, True, False, True, True]]
    assert found[""]["random", 0.5].right.shape == (2, 6) and found[""]["random", 1.0].right.shape == (1, 6)


def test_rows_and_answers_are_written_under_names_that_read_back(image_folder, tiny, monkeypatch):
    folder = image_folder(dict.fromkeys(CLASSES, 3), name="some")
    made = tiny(num_classes=1000, selector="random")
    monkeypatch.setattr(imagenet_head, "SelectiveViT", lambda *arguments: made)
    monkeypatch.setattr(imagenet_head, "load_start", lambda *arguments: "0123456789abcdef")
    frames = imagenet_head.measure(
        str(folder), "smoke", ratios=[0.25, 1], policies=["central", "evit"], most=4, progress=False
    )
    for frame, name in zip(frames, ("some_imagenet_head", "some_imagenet_head_own_classes"), strict=True):
        tables.RESULTS.checked(frame, "these rows")
        assert set(frame["checkpoint"]) == {name} and ModelKey.parse(name) == ModelKey.of(frame.iloc[0])
        assert len(frame) == 4 and set(frame["n_images"]) == {4}
        assert frame["latency_ms"].isna().all() and frame["gmacs"].notna().all()
        assert set(tables.read(answers.file_of(name, "smoke"), tables.ANSWERS)["policy"]) == {"central", "evit"}


def test_when_the_time_is_over_what_was_answered_counts(image_folder, tiny, monkeypatch):
    folder = image_folder(dict.fromkeys(CLASSES, 12), name="some")
    made = tiny(num_classes=1000, selector="random")
    monkeypatch.setattr(imagenet_head, "SelectiveViT", lambda *arguments: made)
    monkeypatch.setattr(imagenet_head, "load_start", lambda *arguments: "0123456789abcdef")
    frame, _ = imagenet_head.measure(
        str(folder), "smoke", ratios=[1], policies=["central"], minutes=0.0, progress=False
    )
    kept = tables.read(answers.file_of("some_imagenet_head", "smoke"), tables.ANSWERS)
    assert set(frame["n_images"]) == {8} and len(kept) == 8  # one batch, of both classes: the order is drawn
    assert {name.partition("/")[0] for name in kept["image"]} == set(CLASSES)


def test_every_policy_that_is_asked_by_default_needs_no_training(tiny):
    model = tiny(num_classes=2, selector="random")
    for policy in imagenet_head.POLICIES:
        assert not model.chooser(policy).trained
