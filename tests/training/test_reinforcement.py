import re
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from asel_lib import checkpoints, configs, paths
from asel_lib.data.batches import Batches
from asel_lib.data.sets import open_set
from asel_lib.evaluation import benchmark
from asel_lib.identity import ModelKey
from asel_lib.models import AgentViT, SelectiveViT
from asel_lib.reproducibility import seeded
from asel_lib.training import bench_training, jobs, stages, supervised
from asel_lib.training.dqn import Agent
from asel_lib.training.recipes.agent import AgentRun
from asel_lib.training.state import TrainingFiles

TIMES = ["images_per_second", "seconds", "waiting_share"]


@pytest.fixture
def smoke(workplace):
    return configs.load("smoke")


def agentvit(profile):
    with seeded("model"):
        return AgentViT(10, img_size=32, **profile.agentvit_model.timm)


def equal(profile):
    with seeded("model"):
        return SelectiveViT(profile.model.architecture, 10, "agent", img_size=32, **profile.model.timm)


def train(profile, model, batch_size=16, val=True, settings=None, **options):
    images, split = open_set(profile, "synthetic")
    common = dict(image_size=32, batch_size=batch_size)
    return supervised.train(
        model,
        Batches(images, split.train[:100], **common),
        Batches(images, split.val, **common) if val else None,
        settings or profile.agentvit,
        run_class=partial(AgentRun, recipe_settings=profile.settings_of("agent")),
        seed=3,
        progress=False,
        **options,
    )


def test_the_classifier_and_the_agent_both_learn_each_by_its_own_optimiser(smoke):
    model = agentvit(smoke)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    history = train(smoke, model, val=False).history
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in before if name not in changed} == {"pos_embed"}
    # 7 batches an epoch, every second rewarded, the first epoch not learned from, the second from 2 on
    assert history["learned"].tolist() == [0, 3]
    assert history["epsilon"].iloc[-1] == pytest.approx(0.01 + 0.99 * np.exp(-14 / 20_000))
    assert history["keep_ratio"].between(0.35, 0.65).all() and history["reward"].notna().all()


def test_a_short_training_ends_with_an_agent_that_acts_by_itself_where_the_profile_says_so(smoke):
    agent = smoke.recipe_settings["agent"] | {"exploration": 0.5}
    history = train(replace(smoke, recipe_settings={"agent": agent}), agentvit(smoke), val=False).history
    assert history["epsilon"].tolist() == pytest.approx([0.01 + 0.99 * np.exp(-5), 0.01 + 0.99 * np.exp(-10)])


def test_the_progress_bar_says_reward_epsilon_and_kept_patches(smoke, monkeypatch):
    shown, status = [], AgentRun.status
    monkeypatch.setattr(AgentRun, "status", lambda self: shown.append(status(self)) or shown[-1])
    train(smoke, agentvit(smoke), val=False)
    assert re.fullmatch(r"loss [\d.]+, accuracy [\d.]+, reward -?[\d.]+, epsilon 0.999, kept \d+%", shown[-1])


def test_the_first_epoch_leaves_agent_and_memory_alone(smoke):
    model = agentvit(smoke)
    before = {name: value.clone() for name, value in model.selector.state_dict().items()}
    train(replace(smoke, agentvit=replace(smoke.agentvit, epochs=1)), model)
    assert all(torch.equal(value, before[name]) for name, value in model.selector.state_dict().items())


def test_the_agent_is_shown_told_and_obeyed_batch_by_batch(smoke, monkeypatch):
    model, acted, fitted, learned = agentvit(smoke), [], [], []
    act, learn, fit, forward = Agent.act, Agent.learn, AgentRun._fit, AgentViT.forward
    spies = {
        "act": lambda self, *given: acted.append((*given, act(self, *given))) or acted[-1][-1],
        "learn": lambda self, *given: learned.append(given) or learn(self, *given),
    }
    for name, spy in spies.items():
        monkeypatch.setattr(Agent, name, spy)
    monkeypatch.setattr(AgentRun, "_fit", lambda self, batch, mask: fitted.append(batch) or fit(self, batch, mask))
    seen = []

    def spied(self, images, *arguments, kept=None, **options):
        if kept is not None:
            seen.append((images, kept))
        return forward(self, images, *arguments, kept=kept, **options)

    monkeypatch.setattr(AgentViT, "forward", spied)
    train(smoke, model, val=False)
    assert [given[2] for given in acted] == list(range(14)) == [batch.step for batch in fitted]
    for (attention, labels, _, mask), batch, (images, kept) in zip(acted, fitted, seen, strict=True):
        assert torch.equal(labels, batch.labels) and torch.equal(images, batch.images)
        assert (kept == mask.nonzero()[:, 0]).all() and len(kept) == len(images) == len(attention)
    assert [given[-1] for given in learned] == [7, 9, 11, 13]
    for before, after, labels, mask, reward, step in learned:
        assert torch.equal(before, acted[step][0]) and torch.equal(labels, acted[step][1])
        assert torch.equal(mask, acted[step][3]) and not torch.equal(before, after)
        with torch.no_grad():  # of the same images, by a ViT one step on
            assert (before - after).abs().max() < 0.05 and isinstance(reward, float)
        if step < 13:
            assert not torch.equal(after, acted[step + 1][0])


def test_the_classifiers_optimiser_leaves_the_agent_alone(smoke):
    images, split = open_set(smoke, "synthetic")
    run = AgentRun(
        agentvit(smoke),
        Batches(images, split.train, image_size=32),
        None,
        smoke.agentvit,
        seed=0,
        precision="float32",
        val_ratios=(0.5,),
        identity="",
        files=TrainingFiles(),
        recipe_settings=smoke.settings_of("agent"),
    )
    own = {id(parameter) for group in run.optimizer.param_groups for parameter in group["params"]}
    names = {name for name, parameter in run.model.named_parameters() if id(parameter) in own}
    assert names == {name for name in run.model.state_dict() if "patch_drop" not in name} - {"pos_embed"}


@pytest.mark.parametrize("steps_before_the_kill", [1, 6, 8, 11])
@pytest.mark.parametrize("setting", ["published", "equal"])
def test_a_killed_run_ends_with_the_weights_of_an_uninterrupted_one(
    smoke, tmp_path, monkeypatch, setting, steps_before_the_kill
):
    make, settings = agentvit, smoke.agentvit
    if setting == "equal":  # with what may carry over from step to step
        make, settings = equal, replace(smoke.direct, clip_gradient=0.05, schedule="cosine", augmentation="flip")
    whole = make(smoke)
    history = train(smoke, whole, settings=settings).history.drop(columns=TIMES)
    original, count = AgentRun._fit, []

    def fit(self, *arguments):
        if len(count) == steps_before_the_kill:
            raise KeyboardInterrupt
        count.append(1)
        return original(self, *arguments)

    options = dict(state_file=tmp_path / "run.pt", save_seconds=0.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(AgentRun, "_fit", fit)
        train(smoke, make(smoke), settings=settings, **options)
    resumed = make(smoke)
    with torch.no_grad():
        resumed.head.weight.add_(1)
        resumed.selector.memory.add_(1)
    again = train(smoke, resumed, settings=settings, **options).history.drop(columns=TIMES)
    pd.testing.assert_frame_equal(again, history)
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_a_batch_of_one_trains(smoke):
    profile = replace(smoke, agentvit=replace(smoke.agentvit, epochs=1))
    images, split = open_set(profile, "synthetic")
    data = Batches(images, split.train[:3], image_size=32, batch_size=2)  # the last batch is one image
    run_class = partial(AgentRun, recipe_settings=profile.settings_of("agent"))
    supervised.train(agentvit(smoke), data, None, profile.agentvit, run_class=run_class, seed=0, progress=False)


def test_agentvit_is_trained_kept_reused_and_measured(smoke, capsys):
    stage = stages.agentvit(smoke, progress=False)
    assert stage.file.name == "agentvit_synthetic.safetensors"
    assert ModelKey.of(stage.record) == ModelKey("synthetic", "agentvit", "agent", "agent")
    assert stage.record["start"] == "random" and stage.record["recipe_settings"]["replay"] == 4
    assert stages.agentvit(smoke, progress=False).reused
    images = torch.randn(3, 3, 32, 32)
    again = checkpoints.load("agentvit_synthetic")
    torch.testing.assert_close(again(images, 0.3), stage.model(images, 0.3))
    assert torch.equal(again.selector.memory, stage.model.selector.memory)
    assert benchmark.own_policies(stage.record, ("learned", "random", "central")) == ["agent", "random", "central"]
    changed = replace(smoke, recipe_settings={"agent": smoke.recipe_settings["agent"] | {"gamma": 0.5}})
    assert not stages.agentvit(changed, progress=False).reused
    assert "made with other settings" in capsys.readouterr().out


def test_in_the_equal_setting_the_backbone_starts_as_that_of_the_other_selectors(smoke, monkeypatch):
    started = {}

    def train(model, *arguments, **options):
        started[model.selector.name] = {k: v.clone() for k, v in model.state_dict().items() if "patch_drop" not in k}
        raise KeyboardInterrupt

    monkeypatch.setattr(jobs, "train", train)
    for begin in (
        lambda: stages.agentvit(smoke, setting="equal"),
        lambda: stages.direct(smoke, selector="learned", recipe="masked"),
        lambda: stages.direct(smoke, selector="learned"),
    ):
        with pytest.raises(KeyboardInterrupt):
            begin()
    assert started["agent"].keys() == started["learned"].keys()
    assert all(torch.equal(value, started["learned"][name]) for name, value in started["agent"].items())


def test_the_equal_setting_has_names_of_its_own(smoke):
    agent = stages.agentvit(smoke, setting="equal", progress=False)
    paper = stages.direct(smoke, selector="learned", recipe="masked", progress=False)
    assert (agent.file.stem, paper.file.stem) == ("synthetic-direct-agent-s0", "synthetic-direct-learned-masked-s0")
    assert (agent.record["schedule"], agent.record["recipe"]) == ("direct", "agent")
    assert benchmark.own_policies(agent.record, ("learned", "central")) == ["agent", "random", "even"]
    assert benchmark.own_policies(paper.record, ("learned", "central")) == ["learned"]


def test_agentvit_takes_images_of_its_own_size(smoke):
    settings = {"patch_size": 8, "dim": 32, "depth": 1, "heads": 2, "dim_head": 16, "mlp_dim": 32}
    profile = replace(smoke, agentvit_model=replace(smoke.agentvit_model, image_size=48, timm=settings))
    stage = stages.agentvit(profile, progress=False)
    assert stage.record["transform"]["size"] == 48 and stage.model.patch_embed.num_patches == 36


@pytest.mark.parametrize(
    ("begin", "message"),
    [
        (lambda p: stages.agentvit(p, setting="fair"), "unknown setting 'fair': expected one of published, equal"),
        (lambda p: stages.direct(p, selector="random", recipe="masked"), "does not train selector"),
        (lambda p: stages.direct(p, selector="agent", keep_ratio=0.3), "'agent' trains for all of them: leave it out"),
    ],
)
def test_what_cannot_be_trained_is_an_error_before_any_work(smoke, begin, message):
    with pytest.raises(ValueError, match=message):
        begin(smoke)
    assert not paths.run("smoke").exists()


def test_speeds_are_measured_for_each_training(smoke):
    table = bench_training.in_turn(smoke, images=32, rounds=2, progress=False).set_index("training")
    assert list(table.index) == ["agent", "anytime", "dropped", "masked", "agentvit"]
    assert (table["low"] <= table["images_per_second"]).all() and (table["images_per_second"] <= table["high"]).all()
    assert table.loc["masked", "times_masked"] == 1
