import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import asel_lib
from asel_lib import checkpoints, configs, methods, paths
from asel_lib.data import lines
from asel_lib.data.informative import Generator
from asel_lib.data.sets import open_recorded, open_set, recorded_batches
from asel_lib.errors import AselError, CheckpointError
from asel_lib.evaluation.accuracy import evaluate
from asel_lib.identity import ModelKey
from asel_lib.training import jobs, stages


@pytest.fixture
def smoke(workplace):
    return configs.load("smoke")


def test_warm_up_then_transfer_then_reuse(smoke, capsys):
    warm = stages.warm_up(smoke, recipe="dropped", progress=False)
    tuned = stages.transfer(smoke, recipe="dropped", progress=False)
    assert not warm.reused
    assert tuned.record["start"] == "synthetic_closeups warm-up from random"
    again = stages.transfer(smoke, recipe="dropped", progress=False)
    assert again.reused
    assert "already trained" in capsys.readouterr().out
    assert len(again.history) == smoke.transfer.epochs
    assert not list((paths.run("smoke") / "state").glob("*"))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again.model(images, 0.5), tuned.model(images, 0.5))


def test_transfer_starts_from_the_warm_up_without_its_head(smoke, monkeypatch):
    warm = stages.warm_up(smoke, recipe="masked", progress=False)
    started = {}

    def train(model, *arguments, **options):
        started.update({key: value.clone() for key, value in model.state_dict().items()})
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "train", train)
    with pytest.raises(KeyboardInterrupt):
        stages.transfer(smoke, recipe="masked", progress=False)
    for key, value in warm.model.state_dict().items():
        assert torch.equal(started[key], value) != key.startswith("head."), key


def test_a_training_with_reset_embeddings_is_direct_and_has_a_name_of_its_own(smoke, monkeypatch):
    monkeypatch.setattr(stages, "run", lambda job, **options: job)
    pretrained = replace(smoke, model=replace(smoke.model, start="imagenet"))
    job = stages.direct(pretrained, selector="random", keep_ratio=0.3, reset_embeddings=True)
    assert job.key.name == "synthetic-direct-random+reset_embeddings-k0.3-s0" and job.model.reset_embeddings
    reset = replace(pretrained, model=job.model)
    assert stages.direct(reset, selector="random", keep_ratio=0.3).key == job.key
    with pytest.raises(ValueError, match="'smoke' has reset_embeddings, which is of the direct schedule alone"):
        stages.warm_up(reset, recipe="dropped")


def test_transfer_before_the_warm_up_says_what_to_run(smoke):
    with pytest.raises(CheckpointError, match="run 01_cifar10_warmup with profile='smoke', recipe='dropped', seed=0"):
        stages.transfer(smoke, recipe="dropped")


def test_another_seed_or_recipe_is_not_reused(smoke):
    stages.warm_up(smoke, recipe="dropped", progress=False)
    other = stages.warm_up(smoke, recipe="dropped", seed=1, progress=False)
    assert not other.reused
    assert other.file.name == "synthetic_closeups-warmup-learned-s1.safetensors"


def test_changed_settings_train_again_and_say_why(smoke, capsys):
    stages.warm_up(smoke, recipe="dropped", progress=False)
    changed = replace(smoke, warmup=replace(smoke.warmup, sparsity=0.5))
    assert not stages.warm_up(changed, recipe="dropped", progress=False).reused
    assert "made with other settings (sparsity 0.02, asked for 0.5)" in capsys.readouterr().out


def test_a_shipped_checkpoint_is_taken_over(smoke):
    trained = stages.warm_up(smoke, recipe="dropped", progress=False)
    checkpoints.save(trained.model, paths.saved_models() / trained.file.stem, trained.record, half=True)
    for file in trained.file.parent.iterdir():
        file.unlink()
    assert stages.warm_up(smoke, recipe="dropped", progress=False).reused
    assert sorted(file.name for file in trained.file.parent.iterdir()) == [
        "synthetic_closeups-warmup-learned-s0.json",
        "synthetic_closeups-warmup-learned-s0.safetensors",
        "synthetic_closeups-warmup-learned-s0_history.csv",
    ]


def test_an_own_folder_is_trained_on_and_tested_on_its_own_split(smoke, image_folder):
    root = image_folder({"beach": 30, "forest": 30})
    stages.warm_up(smoke, recipe="dropped", progress=False)
    tuned = stages.transfer(smoke, str(root), recipe="dropped", progress=False)
    assert tuned.file.stem == "pictures-published-learned-s0"
    assert asel_lib.load(tuned.file).classes == ("beach", "forest")
    images, split = open_recorded(tuned.record)
    assert split.fingerprint == tuned.record["split"]["fingerprint"]
    (root / "beach" / "000.png").unlink()
    with pytest.raises(CheckpointError, match="trained on other files of pictures"):
        open_recorded(tuned.record)


def test_a_warm_up_of_changed_settings_is_no_start(smoke):
    stages.warm_up(smoke, recipe="dropped", progress=False)
    changed = replace(smoke, warmup=replace(smoke.warmup, sparsity=0.5))
    with pytest.raises(CheckpointError, match="run 01_cifar10_warmup with profile='smoke'"):
        stages.transfer(changed, recipe="dropped")


def test_a_run_folder_that_cannot_be_written_is_an_error_before_training(smoke, monkeypatch):
    (paths.root() / "benchmarks_results").write_text("a file where the folder should be")
    monkeypatch.setattr(jobs, "train", lambda *_, **__: pytest.fail("trained first"))
    with pytest.raises(AselError, match="cannot write into .*checkpoints"):
        stages.warm_up(smoke, recipe="dropped")


@pytest.mark.parametrize(
    ("selector", "name"),
    [
        (methods.LINE_GUIDED, "line_guided,lines=xdog,choice=sample"),
        ("line_guided:lines=sobel,choice=top", "line_guided,lines=sobel,choice=top"),
        ("random", "random"),
        ("learned", "learned"),
    ],
)
def test_a_direct_training_is_one_stage_for_all_ratios(smoke, selector, name):
    stage = stages.direct(smoke, selector=selector, progress=False)
    assert stage.file.stem == f"synthetic-direct-{name}-s0"
    assert ModelKey.of(stage.record) == ModelKey("synthetic", "direct", selector) and stage.record["start"] == "random"
    assert 0.05 <= stage.history["keep_ratio"].min() < stage.history["keep_ratio"].max() <= 1
    loaded = asel_lib.load(stage.file)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded.select(images, 0.3), stage.model.select(images, 0.3))
    assert stages.direct(smoke, selector=selector, progress=False).reused


def test_selectors_start_from_the_same_backbone(smoke, monkeypatch):
    started = []

    def train(model, *arguments, **options):
        started.append({k: v.clone() for k, v in model.state_dict().items() if not k.startswith("patch_drop.")})
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "train", train)
    for selector in (methods.LINE_GUIDED, "line_guided:lines=xdog,choice=top", "random", "learned"):
        with pytest.raises(KeyboardInterrupt):
            stages.direct(smoke, selector=selector, progress=False)
    for other in started[1:]:
        assert other.keys() == started[0].keys()
        assert all(torch.equal(other[key], value) for key, value in started[0].items())


def test_a_model_for_one_ratio_is_trained_and_chosen_at_it(smoke):
    stage = stages.direct(smoke, keep_ratio=0.25, progress=False)
    assert stage.file.stem == "synthetic-direct-line_guided,lines=xdog,choice=sample-k0.25-s0"
    assert set(stage.history["keep_ratio"]) == {0.25}
    assert "val_accuracy_0.25" in stage.history and "val_accuracy_0.5" not in stage.history


def test_a_folder_of_drawings_guides_training_and_testing(smoke, image_folder, workplace):
    root = image_folder({"beach": 30, "forest": 30})
    for file in root.rglob("*.png"):
        out = workplace / "drawn" / file.relative_to(root)
        out.parent.mkdir(parents=True, exist_ok=True)
        drawing = np.zeros((64, 64), dtype=np.uint8)
        drawing[40:, 40:] = 255
        Image.fromarray(drawing).save(out)
    # Not turned: then what the drawings say is known.
    still = replace(smoke, direct=replace(smoke.direct, augmentation="none"))
    folder = str(workplace / "drawn")
    options = dict(selector="line_guided:choice=top", drawings=folder, progress=False)
    stage = stages.direct(still, str(root), **options)
    assert stage.file.stem == "pictures-direct-line_guided,lines=given,choice=top-s0"
    images, split = open_recorded(stage.record)
    batches = recorded_batches(images, split.test, stage.record)
    for batch, _, drawn in batches:
        assert set(stage.model.select(batch, 0.1, lines=drawn).flatten().tolist()) == {15}
    assert (
        evaluate(stage.model, batches, [0.5], ["line_guided:lines=given,choice=top"], progress=False)["n_images"][0]
        == 12
    )
    other = evaluate(stage.model, batches, [0.5], ["line_guided:lines=xdog,choice=top"], progress=False)
    plain = [(batch, labels) for batch, labels, _ in batches]
    alone = evaluate(stage.model, plain, [0.5], ["line_guided:lines=xdog,choice=top"], progress=False)
    assert other.equals(alone)  # another extractor draws for itself
    Image.fromarray(255 - drawing).save(out)
    assert not stages.direct(still, str(root), **options).reused


def test_informative_drawings_are_made_once_and_read_back(smoke, image_folder, monkeypatch):
    root = image_folder({"beach": 30, "forest": 30})
    torch.manual_seed(0)
    paths.saved_models().mkdir()
    torch.save(Generator(1, 1, width=4).state_dict(), lines.generator_file())
    options = dict(selector="line_guided:lines=informative,choice=top", progress=False)
    stage = stages.direct(smoke, str(root), **options)
    assert stage.file.stem == "pictures-direct-line_guided,lines=informative,choice=top-s0"
    with monkeypatch.context() as patch:
        patch.setattr(lines, "draw", lambda *_: pytest.fail("drawn again"))
        again = stages.direct(smoke, str(root), retrain=True, **options)
    assert torch.equal(again.model.patch_embed.proj.weight, stage.model.patch_embed.proj.weight)
    images, split = open_recorded(stage.record)
    assert len(next(iter(recorded_batches(images, split.test, stage.record)))) == 3  # tested on the same drawings
    torch.save(Generator(1, 1, width=4).state_dict(), lines.generator_file())  # other weights, other drawings
    with pytest.raises(CheckpointError, match="was trained with other line drawings"):
        recorded_batches(images, split.test, stage.record)
    assert not stages.direct(smoke, str(root), **options).reused


def test_a_folder_in_parts_is_trained_on_train_and_tested_on_val(smoke, image_folder):
    """As Imagenette and ImageNet come."""
    image_folder({"tench": 20, "church": 20}, name="mini/train", seed=1)
    root = image_folder({"tench": 4, "church": 4}, name="mini/val", seed=2).parent
    stage = stages.direct(smoke, str(root), progress=False)
    images, split = open_recorded(stage.record)
    assert {images.parts[i] for i in split.test} == {"val"} and len(split.test) == 8
    assert {images.parts[i] for i in [*split.train, *split.val]} == {"train"}
    assert stage.record["classes"] == ["church", "tench"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"selector": "line_guided:lines=canny"},
            "unknown lines of line_guided 'canny': expected one of xdog, sobel, informative",
        ),
        ({"selector": "line_guided:choice=best"}, "unknown choice of line_guided 'best': expected one of sample, top"),
        ({"selector": "best"}, "unknown policy 'best': expected one of .*learned"),
        ({"selector": "random", "drawings": "."}, "drawings is '.', but selector 'random' reads no lines"),
        ({"drawings": "nowhere"}, "drawings is 'nowhere': expected a folder of line drawings"),
        ({"keep_ratio": 1.5}, "keep_ratio is 1.5"),
        ({"selector": "line_guided:lines=informative"}, "Put its published netG_A_latest.pth there, or draw with xdog"),
    ],
)
def test_wrong_direct_calls_end_before_any_training(smoke, wrong, message):
    with pytest.raises((ValueError, CheckpointError), match=message):
        stages.direct(smoke, progress=False, **wrong)


def test_a_selectors_learning_rates_are_multiplied_by_its_factor_alone(monkeypatch):
    monkeypatch.setattr(stages, "run", lambda job, *_: job)
    profile = replace(configs.load("smoke"), direct_rates={"learned/masked": 0.25, "glance/anytime": 2})
    plain = profile.direct
    for selector, recipe, factor in (("learned", "masked", 0.25), ("learned", "dropped", 1), ("glance", "anytime", 2)):
        settings = stages.direct(profile, "synthetic", selector=selector, recipe=recipe).settings
        assert settings == replace(
            plain,
            lr_selector=plain.lr_selector * factor,
            lr_backbone=plain.lr_backbone * factor,
            lr_head=plain.lr_head * factor,
        )


def test_the_command_line_trains_a_stage_and_names_what_is_wrong(workplace, capsys):
    from asel_lib.training.__main__ import main

    assert main(["warm_up", "--profile", "smoke", "--recipe", "anytime"]) == 0
    assert "synthetic_closeups_anytime.safetensors: epoch " in capsys.readouterr().out
    assert main(["transfer", "--profile", "smoke", "--recipe", "masked"]) == 1
    assert "error: no synthetic_closeups_warmup.safetensors" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["warm_up", "--selector", "random"])
    assert "--selector is not an option of warm_up" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "accelerate launch --multi_gpu --num_processes 2 -m asel_lib.training" in said and "--processes" not in said


def test_a_stage_trains_on_the_data_that_it_is_given(smoke):
    images, split = open_set(smoke, "synthetic_closeups")
    plain = stages.warm_up(smoke, recipe="dropped", data=(images, split), progress=False)
    assert plain.record["edited"] == "" and stages.warm_up(smoke, recipe="dropped", progress=False).reused

    fewer = replace(split, train=split.train[:32])
    stage = stages.warm_up(smoke, recipe="dropped", data=(images, fewer), progress=False)
    assert not stage.reused and stage.record["split"]["train"] == 32 and stage.record["edited"]
    assert stages.warm_up(smoke, recipe="dropped", data=(images, fewer), progress=False).reused

    darker = replace(images, pixels=np.asarray(images.pixels) // 2)
    stage = stages.warm_up(smoke, recipe="dropped", data=(darker, split), progress=False)
    assert not stage.reused and stage.record["edited"]
    with pytest.raises(ValueError, match="read-only"):
        images.labels[0] = 1
    with pytest.raises(ValueError, match="read-only"):
        split.train[0] = 1


def test_a_checkpoint_serves_another_copy_of_its_data_set_and_is_tested_on_what_it_never_saw(
    smoke, image_folder, monkeypatch, capsys
):
    """A shipped checkpoint, and a user's copy of a public set: the same names, other sizes and endings, and some images
    more. Names of an own folder prove nothing."""
    classes = ("aGrass", "bField", "cIndustry", "dRiverLake", "eForest", "fResident", "gParking")

    def another_copy(name, counts):
        root = image_folder(dict(zip(classes, counts, strict=True)), size=(48, 40), name=name, seed=1)
        for file in root.rglob("*.png"):
            Image.open(file).save(file.with_suffix(".bmp"))
            file.unlink()
        return root

    for name in ("rsscn7", "views"):
        root = image_folder(dict.fromkeys(classes, 10), name=name)
        shipped = stages.direct(smoke, name, selector="random", progress=False)
        checkpoints.save(shipped.model, paths.saved_models() / shipped.file.stem, shipped.record, half=True)
        shutil.rmtree(root)
        another_copy(name, [14, *[11] * 6])
    shutil.rmtree(paths.run("smoke"))
    shutil.rmtree(paths.results() / "runs", ignore_errors=True)

    stage = stages.direct(smoke, "rsscn7", selector="random", progress=False)
    assert stage.reused
    assert "chosen on: reused, and tested on 24 that it never saw" in capsys.readouterr().out
    images, split = open_recorded(stage.record)
    assert split.protocol == "by name" and len(split.test) == 14 + 10
    trained = {*stage.record["seen"]["train"].split("\n"), *stage.record["seen"]["val"].split("\n")}
    assert not trained & {images.names[index].removesuffix(".bmp") for index in split.test}

    assert not stages.direct(smoke, "views", selector="random", progress=False).reused
    assert "views are not the ones here, byte by byte" in capsys.readouterr().out

    first = sorted(trained)[0]
    (paths.data() / "rsscn7" / f"{first}.bmp").rename(paths.data() / "rsscn7/aGrass/first.bmp")
    with pytest.raises(CheckpointError, match="was trained on other files of rsscn7"):
        open_recorded(stage.record)
    shutil.rmtree(paths.run("smoke"))
    assert not stages.direct(smoke, "rsscn7", selector="random", progress=False).reused
    assert f"it saw 1 images of rsscn7 that are not here by their names, the first is {first.lower()}" in (
        capsys.readouterr().out
    )
