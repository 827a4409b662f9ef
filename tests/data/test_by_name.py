"""Public sets as people have them: the files of a checkpoint's training in another size and encoding, and some more."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from asel_lib import configs, paths
from asel_lib.data.by_name import find_seen, seen, split_by_name
from asel_lib.data.decode import load
from asel_lib.data.sets import open_recorded, open_set
from asel_lib.errors import CheckpointError

RSSCN7 = ("aGrass", "bField", "cIndustry", "dRiverLake", "eForest", "fResident", "gParking")
HERE, PUBLIC = 6, 9  # images a class of the copy that was trained on, and of the public one


def aid(number: int) -> list[str]:
    return [f"Scene{label:02d}/scene{label:02d}_{index}" for label in range(30) for index in range(1, number + 1)]


def eurosat(number: int) -> list[str]:
    return [f"Class{label}/Class{label}_{index}" for label in range(10) for index in range(1, number + 1)]


def rsscn7(number: int) -> list[str]:
    return [f"{label}/{label[0]}{index:03d}" for label in RSSCN7 for index in range(1, number + 1)]


def ucmerced(number: int) -> list[str]:
    return [f"use{label:02d}/use{label:02d}{index:02d}" for label in range(21) for index in range(number)]


def cifar10(number: int) -> list[str]:
    return [f"{part}/thing{c}/{i:04d}" for part in ("train", "test") for c in range(10) for i in range(number)]


def put(folder: str, stems: list[str], ending: str, size: int, seed: int = 0) -> Path:
    """Images of noise under data/<folder>."""
    rng, root = np.random.default_rng(seed), paths.data() / folder
    for stem in stems:
        file = root / f"{stem}.{ending}"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(file)
    return root


def recorded(dataset: str) -> dict:
    """What a checkpoint's record says of the data set as it is now."""
    images, split = open_set(configs.load("smoke"), dataset)
    return {
        "name": f"{dataset}_finetuned",
        "dataset": dataset,
        "source": dataset,
        "images": len(images),
        "classes": list(images.classes),
        "dataset_fingerprint": images.fingerprint,
        "split": split.record(),
        "seen": seen(images, split),
        "transform": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3},
    }


@pytest.mark.parametrize(
    ("named", "folder", "ending", "size"),
    [
        (rsscn7, "RSSCN7-master", "JPG", 40),
        (aid, "AID-data/AID", "jpg", 60),
        (eurosat, "EuroSAT/2750", "jpg", 33),
        (ucmerced, "UCMerced_LandUse/Images", "tif", 48),
        (cifar10, "CIFAR-10", "png", 32),
    ],
)
def test_a_public_copy_is_tested_on_the_images_that_the_training_never_saw(workplace, named, folder, ending, size):
    dataset = named.__name__
    put(dataset, named(HERE), "jpg", 24)
    record = recorded(dataset)
    assert open_recorded(record)[1].tested == "test"
    shutil.rmtree(paths.data() / dataset)
    put(folder, named(PUBLIC), ending, size, seed=1)

    images, split = open_recorded(record)
    assert images.name == dataset and split.tested == "unseen"
    stems = [name.rpartition(".")[0] for name in images.names]
    known = {part: set(record["seen"][part].split("\n")) for part in ("train", "val")}
    assert {stems[index] for index in split.train} == known["train"]
    assert {stems[index] for index in split.val} == known["val"]
    tested = {stem for stem in named(PUBLIC) if dataset != "cifar10" or stem.startswith("test/")}  # its own test part
    assert {stems[index] for index in split.test} == tested - known["train"] - known["val"]
    assert len(split.test) > len(named(PUBLIC)) / 3


@pytest.fixture
def record(workplace) -> dict:
    """Of a training on a copy of RSSCN7 that is there no more."""
    root = put("rsscn7", rsscn7(HERE), "jpg", 24)
    record = recorded("rsscn7")
    shutil.rmtree(root)
    return record


def test_a_file_of_the_bytes_of_a_trained_one_is_not_tested_under_another_name(record):
    root = put("rsscn7", rsscn7(PUBLIC), "png", 24, seed=1)
    trained, new = record["seen"]["train"].split("\n")[0], rsscn7(PUBLIC)[-1]
    shutil.copy(root / f"{trained}.png", root / f"{new}.png")
    images, split = open_recorded(record)
    assert f"{new}.png" not in {images.names[index] for index in split.test} and len(split.test) > 20


def test_where_names_prove_nothing_the_reason_is_said(record):
    names = [f"{stem}.png" for stem in rsscn7(PUBLIC)]
    train, val = find_seen(names, RSSCN7, record)
    assert len(train) + len(val) == sum(len(part.split("\n")) for part in record["seen"].values())
    for changed, message in (
        ((names, RSSCN7[1:], record), "it has other classes \\(7, here 6; not in both: aGrass\\)"),
        ((names, RSSCN7[::-1], record), "other classes"),  # another order: each answer would mean another class
        ((names[PUBLIC:], RSSCN7, record), r"it saw \d images of rsscn7 that are not here by their names.* agrass/a00"),
        (([*names, names[3].replace("png", "bmp")], RSSCN7, record), "two images here are called aGrass/a004"),
        ((names, RSSCN7, record | {"seen": {}}), "not the ones here, byte by byte"),
        ((names, RSSCN7, record | {"dataset": "my_views"}), "its images of my_views are not the ones here"),
        ((names, RSSCN7, record | {"dataset": "synthetic"}), "its images of synthetic are not the ones here"),
    ):
        with pytest.raises(CheckpointError, match=message):
            find_seen(*changed)


def test_without_an_image_that_it_never_saw_a_checkpoint_is_not_tested(record):
    known = [stem for part in record["seen"].values() for stem in part.split("\n")]
    put("rsscn7", known, "png", 24, seed=1)
    images = load("rsscn7", 32)
    with pytest.raises(CheckpointError, match="its training saw every image of rsscn7 that is here"):
        split_by_name(images, record)
