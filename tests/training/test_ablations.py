from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import asel_lib
from asel_lib import checkpoints, configs
from asel_lib.data.sets import open_recorded, recorded_batches
from asel_lib.errors import CheckpointError
from asel_lib.evaluation import answers, paired
from asel_lib.evaluation.benchmark import benchmark
from asel_lib.selection import names as selectors
from asel_lib.training import ablations, stages


@pytest.fixture
def smoke(workplace):
    return configs.load("smoke")


@pytest.mark.slow
def test_variants_and_rivals_are_trained_found_by_name_and_compared(smoke):
    for variant in ("unchanged", "random", "no_distill"):
        stage = ablations.run(smoke, "synthetic", variant, progress=False)
        assert stage.file.stem == ablations.name("synthetic", variant)
    assert (
        stage.record["recipe_settings"]["distill"] == 0
        and stage.file.stem == "synthetic-direct-glance-anytime+no_distill-s0"
    )
    assert ablations.run(smoke, "synthetic", "unchanged", progress=False).reused
    short = ablations.run(smoke, "synthetic", "no_distill", epochs=1, progress=False)
    assert (
        short.file.stem
        == ablations.name("synthetic", "no_distill", epochs=1)
        == "synthetic-direct-glance-anytime+no_distill.1epochs-s0"
    )
    assert len(short.history) == 1
    with pytest.raises(ValueError, match="epochs is 2: expected less than the 2 of synthetic's schedule, or 0"):
        ablations.run(smoke, "synthetic", "no_distill", epochs=2)
    # What differs on a data set does so in its trainings alone, and an ablation changes that.
    there = replace(smoke, recipe_settings_on={"synthetic": {"anytime": {"whole": 0.5}}})
    assert not stages.direct(there, "synthetic", selector="glance", recipe="anytime", progress=False).reused
    assert ablations.run(there, "synthetic", "unchanged", progress=False).record["recipe_settings"]["whole"] == 0.5
    assert ablations.run(there, "synthetic", "no_distill", progress=False).record["recipe_settings"]["whole"] == 0.5
    assert ablations.run(there, "synthetic", "no_whole", progress=False).record["recipe_settings"]["whole"] == 0
    for variant in ("unchanged", "no_distill"):
        elsewhere = ablations.run(
            replace(smoke, recipe_settings_on={"aid": {"anytime": {"whole": 0.5}}}), "synthetic", variant
        )
        assert elsewhere.record["recipe_settings"]["whole"] == 0.125
    stages.direct(smoke, "synthetic", selector="random", progress=False)

    found = ablations.trained("synthetic", [0, 1], paired.at_hand("smoke"))
    found.pop(ablations.VARIANTS["no_whole"][0])
    assert list(found.values()) == [
        [ablations.name("synthetic", name)] for name in ("unchanged", "random", "no_distill")
    ]
    ratios = (0.25, 0.5, 1.0)
    table = paired.accuracies(found, "smoke", ratios, (None, "glance:choice=top", "random"), draws=2, progress=False)
    assert table.groupby("label", sort=False).size().tolist() == [3, 2, 3]  # random has no weights to choose by
    assert (table["images"] == 40).all() and table["seeds"].eq(1).all()

    # The same again from the answers alone, without any weights.
    policies = (None, "glance:choice=top", "random")
    for file in stage.file.parent.glob("*.safetensors"):
        file.rename(file.with_suffix(".away"))
    assert paired.at_hand("smoke") >= {name for names in found.values() for name in names}
    pd.testing.assert_frame_equal(paired.accuracies(found, "smoke", ratios, policies, progress=False), table)
    base, *others = found
    gaps = paired.against(base, found, "smoke", ratios, progress=False)
    assert gaps["label"].unique().tolist() == others
    whole = gaps[gaps["keep_ratio"] == 1].set_index("label")["difference"]
    accuracy = table[table["policy"] == "its own"].set_index("label")["1"]
    assert whole.to_dict() == pytest.approx((accuracy.drop(base) - accuracy[base]).to_dict())
    assert paired.against("another", found, "smoke", ratios).empty
    for file in stage.file.parent.glob("*.away"):
        file.rename(file.with_suffix(".safetensors"))

    rivals = paired.rivals("synthetic", [0], "smoke")
    assert rivals["random"] == ["synthetic-direct-random-s0"] and rivals["learned/masked"] == rivals["central"] == []
    assert rivals["random/anytime"] == ["synthetic-direct-random-anytime-s0"]
    ours, theirs = (
        paired.of_checkpoints(rivals[name], "smoke", ratios, progress=False) for name in ("glance/anytime", "random")
    )
    gap = paired.differences(ours, theirs)
    assert gap["keep_ratio"].tolist() == list(ratios) and (gap["n_images"] == 40).all()
    assert (gap["low"] <= gap["difference"]).all() and np.isfinite(gap["high"]).all()


def test_what_a_benchmark_kept_of_each_image_serves_in_place_of_the_weights(smoke):
    ratios, name = (0.25, 1.0), "synthetic-direct-random-s0"
    stage = stages.direct(smoke, "synthetic", selector="random", progress=False)
    (before,) = paired.of_checkpoints([name], "smoke", ratios, draws=2, progress=False)
    assert answers.read(name, "smoke", ratios) is None
    images, split = open_recorded(stage.record)
    batches = recorded_batches(images, split.test, stage.record, 8)
    names = [images.names[index] for index in split.test]
    measured = benchmark(
        stage.model,
        batches,
        record=stage.record | {"split": "test"},
        profile="smoke",
        ratios=(0.25, 0.5, 1.0),
        policies=["random", "central"],
        draws=2,
        timing_seconds=0.01,
        batch_size=4,
        progress=False,
        answers_file=answers.file_of(name, "smoke"),
        names=names,
    ).set_index(["policy", "keep_ratio"])
    kept = answers.read(name, "smoke", ratios)
    pd.testing.assert_frame_equal(kept, before, check_dtype=False)
    assert kept.attrs == before.attrs
    central = answers.read(name, "smoke", [0.5], "central")[0.5].mean()
    assert central == pytest.approx(measured.loc[("central", 0.5), "accuracy"])
    assert pd.read_csv(answers.file_of(name, "smoke"))["image"].tolist() == names * 2
    assert answers.read(name, "smoke", [0.3]) is answers.read(name, "smoke", ratios, "learned") is None
    table = pd.read_csv(answers.file_of(name, "smoke"))  # a digest may look like a number
    table.assign(split="0012345e67").to_csv(answers.file_of(name, "smoke"), index=False)
    assert answers.read(name, "smoke", ratios).attrs["split"] == "0012345e67"

    # Weights that are gone change nothing; weights of another training do.
    assert paired.answerable([name, "another"], "smoke", ratios, "learned") == [name]
    stage.file.unlink()
    assert paired.answerable([name], "smoke", ratios) == [name]
    assert paired.answerable([name], "smoke", ratios, "learned") == []
    assert paired.rivals("synthetic", [0, 1], "smoke")["random"] == [name]
    (there,) = paired.of_checkpoints([name], "smoke", ratios, progress=False)
    pd.testing.assert_frame_equal(there, kept)
    again = replace(smoke, direct=replace(smoke.direct, lr_head=0.5))
    stages.direct(again, "synthetic", selector="random", progress=False)
    assert answers.read(name, "smoke", ratios) is None


def test_the_recipe_goes_through_both_stages_and_brings_its_budgets(smoke):
    with pytest.raises(CheckpointError, match="no synthetic_closeups_anytime.safetensors.*run 01_cifar10_warmup"):
        stages.transfer(smoke, recipe="anytime")
    warm = stages.warm_up(smoke, recipe="anytime", progress=False)
    tuned = stages.transfer(smoke, recipe="anytime", progress=False)
    assert (warm.file.stem, tuned.file.stem) == ("synthetic_closeups_anytime", "synthetic_anytime")
    assert tuned.record["model"]["selector"] == "glance"
    model = asel_lib.load("synthetic_anytime", profile="smoke")
    assert sorted(model.budgets) == [0.05, 0.1, 0.2, 0.3, 0.5, 0.7]
    (answer,) = model.predict([Image.new("RGB", (40, 40))], keep_ratio="auto")
    assert answer.label in model.classes and 0 < answer.probability <= 1 and len(answer.kept) >= 1
    other = replace(smoke, recipe_settings={"anytime": {"whole": 0.5}})
    with pytest.raises(CheckpointError, match="of profile 'smoke' as it is now"):
        stages.transfer(other, recipe="anytime")
    with pytest.raises(ValueError, match="which the warm-up was on"):
        stages.transfer(smoke, "synthetic_closeups", recipe="anytime")
    assert not stages.warm_up(other, recipe="anytime", progress=False).reused
    assert checkpoints.read_record(warm.file)["recipe_settings"]["whole"] == 0.5


@pytest.mark.parametrize("selector", ["evit", "tome", "dynamicvit", "edge_energy", "central"])
def test_peers_are_trained_on_the_same_schedule(smoke, selector):
    stage = stages.direct(smoke, "synthetic", selector=selector, progress=False)
    assert stage.file.stem == f"synthetic-direct-{selector}-s0" and selector in selectors()
    assert np.isfinite(stage.history["train_loss"]).all()
    assert asel_lib.load(stage.file.stem, profile="smoke").selector.name == selector


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            dict(selector="evit", recipe="anytime"),
            "recipe 'anytime' does not train selector 'evit': use recipe 'dropped'",
        ),
        (dict(selector="glance", recipe="anytime", keep_ratio=0.3), "keep_ratio is 0.3.*leave it out"),
        (dict(selector="glance"), "'dropped' does not train selector 'glance': use recipe 'anytime'"),
        (dict(selector="glance", recipe="masked"), "use recipe 'anytime'"),
        (dict(selector="random", recipe="masked"), "'masked' does not train selector 'random': use recipe 'anytime'"),
    ],
)
def test_combinations_that_make_no_sense_are_refused(smoke, given, message):
    with pytest.raises(ValueError, match=message):
        stages.direct(smoke, "synthetic", **given)


def test_an_unknown_variant_is_named(smoke):
    with pytest.raises(ValueError, match="unknown variant 'wider': expected one of unchanged"):
        ablations.run(smoke, "synthetic", "wider")
