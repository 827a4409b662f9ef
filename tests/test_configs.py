import ast
import dataclasses
import subprocess
import sys

import pytest
import yaml

from asel_lib import configs
from asel_lib.data import catalog
from asel_lib.registry import RECIPES


@pytest.mark.parametrize("name", configs.names())
def test_every_profile_loads_and_names_known_data_sets(name):
    profile = configs.load(name)
    assert {profile.warmup_dataset, *profile.datasets} <= set(catalog.names())
    assert set(profile.recipes) <= set(RECIPES.names())


def test_the_paper_profile_has_the_published_hyperparameters():
    paper = configs.load("paper")
    common = dict(batch_size=64, optimizer="adam", weight_decay=0.0, schedule="constant", augmentation="none")
    common |= dict(full_epochs=5, ratio_low=0.15, ratio_high=0.75, sparsity=0.02, lr_selector=1e-4, lr_head=5e-4)
    for stage, own in (
        (paper.warmup, dict(epochs=15, lr_backbone=5e-5)),
        (paper.transfer, dict(epochs=25, lr_backbone=2e-5)),
    ):
        for key, value in (common | own).items():
            assert getattr(stage, key) == value, key
    assert (paper.model.architecture, paper.model.image_size, paper.model.start) == (
        "vit_tiny_patch16_224",
        224,
        "imagenet",
    )


def test_the_paper_profile_has_the_published_line_guided_schedule():
    published = dict(
        epochs=100,
        lr_backbone=1e-4,
        lr_head=1e-4,
        lr_min=1e-6,
        weight_decay=0.01,
        batch_size=64,
        optimizer="adamw",
        schedule="cosine",
        augmentation="crop_jitter",
        patience=20,
        full_epochs=0,
    )
    settings = configs.load("paper").direct
    assert {key: getattr(settings, key) for key in published} == published
    model = configs.load("paper").for_direct().model
    assert (model.architecture, model.image_size) == ("vit_tiny_patch16_224.augreg_in21k", 256)
    assert configs.load("compact").for_direct() == configs.load("compact")


def test_the_line_guided_profile_differs_from_the_published_schedule_in_its_length_alone():
    here, published = configs.load("line_guided"), configs.load("paper").direct
    assert dataclasses.replace(here.direct, epochs=published.epochs, patience=published.patience) == published
    assert here.for_direct().model.image_size == 256 and not here.model.reset_embeddings


def test_the_paper_profile_has_the_published_agent():
    paper = configs.load("paper")
    agent, stage, model = paper.settings_of("agent"), paper.agentvit, paper.agentvit_model
    assert (agent.epsilon_start, agent.epsilon_end, agent.epsilon_decay) == (1.0, 0.01, 20_000)
    assert agent.exploration is None and not paper.agentvit_on
    assert (agent.gamma, agent.tau, agent.target_every, agent.lr, agent.clip_gradient) == (0.95, 0.1, 2, 0.01, 100)
    assert (agent.replay, agent.draw, agent.reward_every) == (64, 8, 50)
    assert (agent.budget * 196, agent.budget_weight, agent.memory_alpha) == (98, 20, 0.01)
    assert (stage.optimizer, stage.lr_backbone, stage.lr_head, stage.batch_size, stage.epochs) == (
        "adam",
        1e-3,
        1e-3,
        32,
        20,
    )
    assert (stage.augmentation, stage.schedule, stage.weight_decay) == ("none", "constant", 0)
    assert (model.architecture, model.image_size, model.timm, model.start) == ("agentvit", 224, {}, "random")


def test_only_settings_that_differ_from_their_default_identify_a_training():
    settings = configs.load("paper").warmup
    assert configs.chosen(settings) == {"epochs": 15, "lr_selector": 1e-4, "lr_backbone": 5e-5, "lr_head": 5e-4}
    assert configs.chosen(dataclasses.replace(settings, patience=3))["patience"] == 3


def test_an_unknown_profile_is_named_with_a_suggestion():
    with pytest.raises(ValueError, match="unknown profile 'dmeo'.*Did you mean 'demo'"):
        configs.load("dmeo")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("warmup.epochs", 0, "warmup: epochs is 0: input should be greater than or equal to 1"),
        ("warmup.epochs", 2.5, "warmup: epochs is 2.5: input should be a valid integer"),
        ("warmup.lr_head", -1.0, "warmup: lr_head is -1.0: input should be greater than 0"),
        ("warmup.ratio_low", 0, "warmup: ratio_low is 0"),
        ("warmup.ratio_high", 1.1, "warmup: ratio_high is 1.1"),
        ("warmup.epoch", 3, "unknown setting in warmup 'epoch'.*Did you mean 'epochs'"),
        ("warmup.ratio_low", 0.8, "warmup: ratio_low is 0.8, above ratio_high, 0.75"),
        ("transfer.schedule", "linear", "transfer: schedule is 'linear'.*'constant' or 'cosine'"),
        ("direct.patience", 0, "direct: patience is 0"),
        ("direct.lr_min", -1e-6, "direct: lr_min is -1e-06"),
        ("direct_on", {"aid": {"epochs": 0}}, "direct_on of aid: epochs is 0"),
        ("direct_on", {"aid": {"epoch": 3}}, "unknown setting in direct_on of aid 'epoch'.*mean 'epochs'"),
        ("agentvit_on", {"aid": {"epochs": 0}}, "agentvit_on of aid: epochs is 0"),
        ("recipe_settings.agent.exploration", 1.5, "recipe_settings of agent: exploration is 1.5"),
        ("recipe_settings", {"anytime": {"whole": 1.5}}, "recipe_settings of anytime: whole is 1.5"),
        ("recipe_settings", {"anytiem": {}}, "unknown recipe 'anytiem'.*Did you mean 'anytime'"),
        ("recipe_settings_on", {"aid": {"anytime": {"whole": 1.5}}}, "of aid, anytime: whole is 1.5"),
        ("recipe_settings_on", {"aid": {"anytime": {"wholes": 1}}}, "unknown setting in .* of aid, anytime 'wholes'"),
        ("direct_rates", {"random": 0}, "the profile: direct_rates.random is 0"),
        ("recipe_settings.agent.draw", 9, "replay is 4, fewer than draw, 9: the buffer must hold what is drawn"),
        ("recipe_settings.agent.gamma", 1.5, "recipe_settings of agent: gamma is 1.5"),
        ("agentvit_model.selector", "learned", "agentvit_model.selector is 'learned'"),
        ("agentvit_runs", ["publishd"], "unknown setting in agentvit_runs 'publishd'.*Did you mean 'published'"),
        ("evaluation.ratios", [0.5, float("nan")], "evaluation: ratios.1 is nan: input should be a finite number"),
        ("evaluation.ratios", [], "evaluation: ratios is .*at least 1 item"),
        ("recipes", ["droped"], "unknown recipe 'droped'"),
        ("precision", "fp32", "the profile: precision is 'fp32'"),
        ("model.start", "ImageNet", "model: start is 'ImageNet'.*random.imagenet"),
        ("model.reset_embeddings", True, "model: reset_embeddings is True, and start is 'random'"),
    ],
)
def test_a_bad_setting_is_named_when_the_profile_is_made(path, value, message):
    settings = yaml.safe_load((configs.FOLDER / "smoke.yaml").read_text()) | {"name": "own"}
    *outer, last = path.split(".")
    target = settings
    for key in outer:
        target = target[key]
    target[last] = value
    with pytest.raises(ValueError, match=message):
        configs.from_dict(settings)


def test_what_differs_on_a_data_set_differs_there_alone():
    settings = yaml.safe_load((configs.FOLDER / "smoke.yaml").read_text()) | {"name": "own"}
    own = configs.from_dict(
        settings
        | {"transfer_on": {"aid": {"epochs": 9}}, "direct_on": {"aid": {"epochs": 7}}}
        | {"agentvit_on": {"aid": {"epochs": 5}}}
        | {"recipe_settings": {"anytime": {"whole": 0.5}}, "recipe_settings_on": {"aid": {"anytime": {"groups": 2}}}}
    )
    assert (own.transfer_for("aid").epochs, own.transfer_for("eurosat").epochs) == (9, own.transfer.epochs)
    assert (own.direct_for("aid").epochs, own.direct_for("eurosat").epochs) == (7, own.direct.epochs)
    assert (own.agentvit_for("aid").epochs, own.agentvit_for("eurosat").epochs) == (5, own.agentvit.epochs)
    there, elsewhere = own.settings_of("anytime", "aid"), own.settings_of("anytime", "eurosat")
    assert (there.whole, there.groups, elsewhere.whole, elsewhere.groups) == (0.5, 2, 0.5, 4)
    assert own.settings_of("dropped") is None


def test_every_setting_has_a_line_that_says_what_it_is():
    source = "".join((configs.FOLDER / f"{name}.py").read_text() for name in ("settings", "profile"))
    kinds = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef))
    for kind in kinds:
        for field, after in zip(kind.body, [*kind.body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                line = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                assert line, f"{kind.name}.{field.target.id}"


def test_a_profile_cannot_be_changed_in_passing():
    with pytest.raises(dataclasses.FrozenInstanceError):
        configs.load("demo").warmup.epochs = 1


def test_the_light_modules_do_not_import_torch():
    code = "import sys; from asel_lib import configs, identity, paths; from asel_lib.data import catalog; "
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
