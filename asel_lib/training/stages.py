"""What can be trained: the published schedule's two stages, the direct schedule for every selector, and AgentViT. Each
is a job (`training.jobs`): data, split, model, training, checkpoint, or the checkpoint that is already there."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from asel_lib import checkpoints, checks, methods, paths, selection
from asel_lib.configs import Profile, StageSettings
from asel_lib.configs.profile import AGENTVIT_SETTINGS
from asel_lib.errors import CheckpointError
from asel_lib.identity import RESET_EMBEDDINGS, ModelKey, default_recipe
from asel_lib.registry import RECIPES
from asel_lib.selection import keep_count, parse
from asel_lib.selection.line_guided import GIVEN
from asel_lib.training.jobs import Job, Stage, described, run


def warm_up(profile: Profile, dataset: str = "", *, recipe: str, seed: int = 0, **options) -> Stage:
    """The published schedule's first stage: backbone, selector and head on the warm-up set.

    Args:
        profile: the run's settings.
        dataset: a data set's name or the path of a folder, "" for the profile's.
        recipe: a registered one.
        seed: of the training.
        options: `data`, `retrain`, `device` and `progress` of `jobs.run`.
    """
    profile = _for_recipe(profile, recipe)
    dataset = dataset or profile.warmup_dataset
    key = ModelKey(Path(dataset).name, "warmup", profile.model.selector, recipe, seed=seed)
    own = profile.settings_of(recipe)
    return run(Job(profile, key, dataset, profile.model, profile.warmup, own), **options)


def transfer(profile: Profile, dataset: str = "", *, recipe: str, seed: int = 0, **options) -> Stage:
    """The published schedule's second stage: the warm-up's checkpoint of the same profile, recipe and seed, without its
    head, trained on another data set; arguments as of `warm_up`.

    Raises:
        CheckpointError: where the warm-up is not there yet.
        ValueError: where the data set is the warm-up's.
    """
    profile = _for_recipe(profile, recipe)
    dataset = dataset or profile.datasets[0]
    if dataset == profile.warmup_dataset:
        raise ValueError(f"dataset is {dataset!r}, which the warm-up was on: transfer is to another one")
    key = ModelKey(Path(dataset).name, "published", profile.model.selector, recipe, seed=seed)
    warm = replace(key, dataset=profile.warmup_dataset, schedule="warmup")
    for folder in (paths.run(profile.name) / "checkpoints", paths.saved_models()):
        start = folder / f"{warm.name}.safetensors"
        if start.is_file() and _made_with(profile, recipe, checkpoints.read_record(start)):
            settings, own = profile.transfer_for(dataset), profile.settings_of(recipe)
            job = Job(profile, key, dataset, profile.model, settings, own, start=start)
            return run(job, **options)
    raise CheckpointError(
        f"no {warm.name}.safetensors of profile {profile.name!r} as it is now, in its run or in saved_models/: "
        f"run 01_cifar10_warmup with profile={profile.name!r}, recipe={recipe!r}, seed={seed} first"
    )


def direct(
    profile: Profile,
    dataset: str = "",
    *,
    selector: str = methods.LINE_GUIDED,
    recipe: str = "",
    drawings: str = "",
    keep_ratio: float | None = None,
    reset_embeddings: bool = False,
    seed: int = 0,
    variant: str = "",
    **options,
) -> Stage:
    """The direct schedule: one stage, no warm-up, the same for every selector.

    Args:
        profile: the run's settings.
        dataset: a data set's name or the path of a folder, "" for the profile's first.
        selector: a policy: a registered selector, with options where it has some.
        recipe: one that trains this selector, "" for "dropped" (of the selector "agent": "agent").
        drawings: a folder of line drawings made elsewhere, for line-guided selection (`data.lines.from_folder`).
        keep_ratio: a model for this one alone, as the line-guided system has it; None: one model for all.
        reset_embeddings: begin with new patch and position embeddings, as the published line-guided code does; it
            becomes part of the variant, as where the profile's model says so.
        seed: of the training.
        variant: the name of an ablation.
        options: as of `warm_up`.

    Raises:
        ValueError: for an unknown selector, or one that the recipe does not train.
        CheckpointError: where `lines=informative` lacks its weights.
    """
    profile = profile.for_direct()
    if reset_embeddings:
        profile = replace(profile, model=replace(profile.model, reset_embeddings=True))
    dataset, recipe = dataset or profile.datasets[0], recipe or default_recipe(selector)
    selector = _with_drawings(selector, drawings)
    check_trains(recipe, selector, keep_ratio)
    settings, val_ratios = profile.direct_for(dataset), profile.evaluation.val_ratios
    factor = profile.direct_rates.get(selector if recipe == default_recipe(selector) else f"{selector}/{recipe}", 1.0)
    rates = {name: getattr(settings, name) * factor for name in ("lr_selector", "lr_backbone", "lr_head")}
    settings = replace(settings, **rates)
    if keep_ratio is not None:
        keep_count(1, keep_ratio)
        settings = replace(settings, full_epochs=0, ratio_low=keep_ratio, ratio_high=keep_ratio)
        val_ratios = (keep_ratio,)
    variant = ".".join(filter(None, (variant, RESET_EMBEDDINGS if profile.model.reset_embeddings else "")))
    key = ModelKey(Path(dataset).name, "direct", selector, recipe, variant, keep_ratio, seed)
    model, own = replace(profile.model, selector=selector), profile.settings_of(recipe, dataset)
    return run(Job(profile, key, dataset, model, settings, own, val_ratios, drawings), **options)


def agentvit(profile: Profile, dataset: str = "", *, setting: str = "published", seed: int = 0, **options) -> Stage:
    """AgentViT, as published or beside the selectors that it is compared with.

    Args:
        profile: the run's settings.
        dataset: a data set's name or the path of a folder, "" for the profile's first.
        setting: "published", its own network from scratch by its own schedule; "equal", its agent by `direct`.
        seed: of the training.
        options: as of `warm_up`.

    Raises:
        ValueError: another setting.
    """
    if checks.one_of("setting", setting, AGENTVIT_SETTINGS) == "equal":
        return direct(profile, dataset, selector="agent", seed=seed, **options)
    dataset = dataset or profile.datasets[0]
    key = ModelKey(Path(dataset).name, "agentvit", "agent", "agent", seed=seed)
    settings, own = profile.agentvit_for(dataset), profile.settings_of("agent")
    return run(Job(profile, key, dataset, profile.agentvit_model, settings, own), **options)


def check_trains(recipe: str, selector: str, keep_ratio: float | None = None) -> None:
    """Whether a recipe trains that selector, and for that keep ratio alone.

    Args:
        recipe: its name.
        selector: the policy.
        keep_ratio: None: all of them.

    Raises:
        ValueError: says which recipes do, or that the keep ratio is to be left out.
    """
    entry, kind = RECIPES[recipe], parse(selector)[0]
    any_selector = (one.name for one in RECIPES if one.any_selector and (one.reducers or kind.keeps_patches()))
    trained_by = methods.recipes(kind.name) if selection.entry(kind.name).recipes else tuple(any_selector)
    if recipe not in trained_by:
        raise ValueError(
            f"recipe {recipe!r} does not train selector {selector!r}: use recipe {' or '.join(map(repr, trained_by))}"
        )
    if keep_ratio is not None and not entry.one_ratio:
        raise ValueError(f"keep_ratio is {keep_ratio}, but recipe {recipe!r} trains for all of them: leave it out")


def _for_recipe(profile: Profile, recipe: str) -> Profile:
    """With the selector that the recipe trains on the published schedule."""
    if profile.model.reset_embeddings:
        raise ValueError(f"profile {profile.name!r} has reset_embeddings, which is of the direct schedule alone")
    selector = profile.selector_for(recipe)
    check_trains(recipe, selector)
    return replace(profile, model=replace(profile.model, selector=selector))


def _with_drawings(selector: str, drawings: str) -> str:
    """The policy, of which the lines are given where there are drawings."""
    if not drawings:
        return selector
    kind, chosen = parse(selector)
    if "lines" not in chosen:
        raise ValueError(f"drawings is {drawings!r}, but selector {selector!r} reads no lines: leave it out")
    if not Path(drawings).expanduser().is_dir():
        raise ValueError(f"drawings is {drawings!r}: expected a folder of line drawings")
    usual = parse(kind.name)[1]
    said = {key: value for key, value in chosen.items() if key == "choice" or value != usual[key]}
    return f"{kind.name}:" + ",".join(
        f"{key}={value}" for key, value in ({"lines": ""} | said | {"lines": GIVEN}).items()
    )


def _made_with(profile: Profile, recipe: str, record: dict) -> bool:
    """Whether a warm-up's record has this profile's model, warm-up and recipe settings."""
    own = profile.settings_of(recipe)
    if own is not None and record.get("recipe_settings") != json.loads(json.dumps(asdict(own))):
        return False
    try:
        settings = StageSettings(**record["settings"])
    except (TypeError, ValueError):  # of another version of the library, which had other settings
        return False
    same = settings == profile.warmup and record["model"] == json.loads(json.dumps(described(profile.model)))
    return same and record["transform"]["size"] == profile.model.image_size
