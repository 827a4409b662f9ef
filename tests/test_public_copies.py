"""Shipped checkpoints serve the public sets as people have them: nothing is trained, only measured and drawn."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from asel_lib import configs, paths
from asel_lib.configs import Profile
from asel_lib.data.sets import open_recorded
from asel_lib.identity import ModelKey
from asel_lib.training import jobs, stages
from pipeline import plan, preview

REPOSITORY = Path(__file__).parents[1]
SHIPPED = REPOSITORY / "saved_models"
EACH = {"train": 6, "val": 2}  # images of a class that a record is cut to: a set of few files is soon read
MORE = 3  # images of a class that no training here had


def serving() -> list[str]:
    """Checkpoints of the paper's setting that say which images they have seen; no ablations."""
    found = {file.stem: json.loads(file.read_text()) for file in sorted(SHIPPED.glob("*.json"))}
    return [
        name
        for name, record in found.items()
        if record["profile"] == "compact" and record.get("seen") and not ModelKey.of(record).variant
    ]


def ship(name: str, whole: bool = False) -> dict:
    """Put a checkpoint into this checkout, with a record of a few of the images that it has seen."""
    record = json.loads((SHIPPED / f"{name}.json").read_text())
    for part, most in EACH.items() if not whole else ():
        kept, of_class = [], Counter()
        for stem in record["seen"][part].split("\n"):
            of_class[stem.rpartition("/")[0]] += 1
            kept += [stem] if of_class[stem.rpartition("/")[0]] <= most else []
        record["seen"][part] = "\n".join(kept)
    paths.saved_models().mkdir(exist_ok=True)
    (paths.saved_models() / f"{name}.json").write_text(json.dumps(record))
    os.link(SHIPPED / f"{name}.safetensors", paths.saved_models() / f"{name}.safetensors")
    return record


def put_public_copy(record: dict) -> int:
    """The images that a record names as tiny files of another kind, no two alike, and some more of each class. Their
    number."""
    known = {stem for part in record["seen"].values() for stem in part.split("\n")}
    folders = {stem.rpartition("/")[0] for stem in known}
    folders |= {folder.replace("train/", "test/") for folder in folders}
    stems = sorted(known | {f"{folder}/more_{number}" for folder in folders for number in range(MORE)})
    for number, stem in enumerate(stems):
        file = paths.data() / record["dataset"] / f"{stem}.ppm"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"P6 1 1 255\n" + number.to_bytes(3, "big"))
    return len(stems)


def asked(key: ModelKey, profile: Profile) -> jobs.Stage:
    """What a run asks for where it wants the model of that key."""
    if key.schedule == "warmup":
        return stages.warm_up(profile, key.dataset, recipe=key.recipe, seed=key.seed)
    if key.schedule == "published":
        return stages.transfer(profile, key.dataset, recipe=key.recipe, seed=key.seed)
    if key.schedule == "agentvit":
        return stages.agentvit(profile, key.dataset, seed=key.seed)
    chosen = dict(selector=key.selector, recipe=key.recipe, keep_ratio=key.keep_ratio, seed=key.seed)
    return stages.direct(profile, key.dataset, **chosen)


@pytest.mark.parametrize("name", serving())
def test_a_shipped_checkpoint_is_reused_on_a_public_copy_without_training_or_imagenet_weights(
    workplace, monkeypatch, name
):
    for step in ("new_model", "train"):
        monkeypatch.setattr(jobs, step, lambda *given, step=step, **more: pytest.fail(f"{step} was called"))
    record = ship(name)
    if start := record["start_checkpoint"]:
        ship(start)
    put_public_copy(record)
    stage = asked(ModelKey.of(record), configs.load("compact"))
    assert stage.reused and stage.record["name"] == name
    images, split = open_recorded(stage.record)
    assert split.tested == "unseen" and len(split.test) == MORE * len(images.classes)
    assert all("/more_" in images.names[index] for index in split.test)
    if images.parts:
        assert {images.parts[index] for index in split.test} == {"test"}


@pytest.mark.slow
def test_a_run_on_public_copies_is_measuring_and_drawing_alone(workplace):
    """All of RSSCN7 under its public names, and a part of CIFAR-10; in a dry run no file of them is opened."""
    ship("rsscn7_finetuned", whole=True)
    cifar10 = put_public_copy(ship("cifar10_warmup"))
    for letter, label in zip(
        "abcdefg", ("Grass", "Field", "Industry", "RiverLake", "Forest", "Resident", "Parking"), strict=True
    ):
        (folder := paths.data() / "RSSCN7-master" / f"{letter}{label}").mkdir(parents=True)
        for number in range(1, 401):
            (folder / f"{letter}{number:03d}.jpg").touch()
    command = [sys.executable, REPOSITORY / "pipeline/run.py", "--profile", "compact", "--dry-run"]
    command += ["--datasets", "rsscn7", "--recipes", "masked"]
    answer = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(REPOSITORY)})
    assert answer.returncode == 0, answer.stdout + answer.stderr
    for step, images, seen in (
        ("01_cifar10_warmup cifar10_warmup", cifar10, cifar10 - 2 * 10 * MORE),
        ("02_remote_sensing_transfer rsscn7_finetuned", 2800, 1755 + 251),
    ):
        file = paths.saved_models() / f"{step.split()[1]}.safetensors"
        why = f"its settings match (of the {images} images here it saw {seen}, {images - seen} not), else trained anew"
        assert f"would run  {step}\n           {file} is reused where {why}\n" in answer.stdout, answer.stdout
    assert re.search(r"checkpoints: \d+ trained, 2 reused where they match", answer.stdout), answer.stdout

    (paths.data() / "RSSCN7-master/aGrass/a001.jpg").rename(paths.data() / "RSSCN7-master/aGrass/first.jpg")
    training = plan.Training(ModelKey.parse("rsscn7_finetuned"), plan.TRANSFER, "rsscn7")
    file, why = preview.at_hand(training, "compact")
    assert (
        file is None and "it saw 1 images of rsscn7 that are not here by their names, the first is agrass/a001" in why
    )
