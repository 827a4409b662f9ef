"""What can be trained: the two stages of ASEL, the line-guided schedule for every selector, and AgentViT. Each is a job
(`training.jobs`): data, split, model, training, checkpoint, or the checkpoint that is already there."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from asel_lib import checkpoints, checks, paths
from asel_lib.data import lines
from asel_lib.errors import CheckpointError
from asel_lib.profiles import AGENTVIT_SETTINGS, Profile, StageSettings, check_recipe
from asel_lib.selection import keep_count, names
from asel_lib.selection.line_guided import CHOICES, GIVEN
from asel_lib.training.jobs import Job, Stage, described, run

REDUCERS = ("evit", "tome", "dynamicvit")
AGENT = "agent"  # the recipe of what an agent trains


def warm_up(
    profile: Profile, dataset: str = "", *, recipe: str, seed: int = 0, retrain: bool = False, **options
) -> Stage:
    """ASEL's first stage: backbone, selector and head on the warm-up set, from random or ImageNet weights."""
    profile = _for_recipe(profile, recipe)
    job = Job(profile, "warmup", dataset or profile.warmup_dataset, recipe, seed, profile.model, profile.warmup)
    return run(job, retrain, **options)


def transfer(
    profile: Profile, dataset: str = "", *, recipe: str, seed: int = 0, retrain: bool = False, **options
) -> Stage:
    """ASEL's second stage: the warm-up checkpoint of the same profile, recipe and seed, without its head, trained on
    `dataset`. CheckpointError where the warm-up is not there yet."""
    profile = _for_recipe(profile, recipe)
    dataset = dataset or profile.datasets[0]
    if dataset == profile.warmup_dataset:
        raise ValueError(f"dataset is {dataset!r}, which the warm-up was on: transfer is to another one")
    name = paths.checkpoint_name(profile.warmup_dataset, "warmup", recipe, seed)
    for folder in (paths.run(profile.name) / "checkpoints", paths.saved_models()):
        start = folder / f"{name}.safetensors"
        if start.is_file() and _made_with(profile, recipe, checkpoints.read_record(start)):
            settings = profile.transfer_for(dataset)
            job = Job(profile, "finetuned", dataset, recipe, seed, profile.model, settings, start=start)
            return run(job, retrain, **options)
    raise CheckpointError(
        f"no {name}.safetensors of profile {profile.name!r} as it is now, in its run or in saved_models/: "
        f"run 01_cifar10_warmup with profile={profile.name!r}, recipe={recipe!r}, seed={seed} first"
    )


def line_guided(
    profile: Profile,
    dataset: str = "",
    *,
    extractor: str = "xdog",
    selection: str = "sample",
    keep_ratio: float | None = None,
    recipe: str = "dropped",
    seed: int = 0,
    retrain: bool = False,
    **options,
) -> Stage:
    """The line-guided system's training: one stage, no warm-up, only the kept patches embedded.

    extractor: "xdog", "sobel", "informative", or a folder of drawings made elsewhere (data.lines.from_folder).
    selection: "sample", "top", or another registered selector, what they are compared with, from the same start by the
    same schedule: "learned" and "glance" by `recipe`, "agent" (AgentViT's) by reinforcement. keep_ratio None: one is
    drawn a batch, for one model that serves all ratios; a number: as published, a model for this ratio.
    ValueError for an unknown extractor or selection; CheckpointError where `informative` lacks its weights.
    """
    profile = profile.for_line_guided()
    dataset = dataset or profile.datasets[0]
    profile = replace(profile, anytime=profile.anytime_for(dataset))
    settings, val_ratios = profile.line_guided_for(dataset), profile.evaluation.val_ratios
    factor = profile.line_guided_rates.get(selection if recipe == "dropped" else f"{selection}_{recipe}", 1.0)
    rates = {name: getattr(settings, name) * factor for name in ("lr_selector", "lr_backbone", "lr_head")}
    settings = replace(settings, **rates)
    if keep_ratio is not None:
        keep_count(1, keep_ratio)
        settings = replace(settings, full_epochs=0, ratio_low=keep_ratio, ratio_high=keep_ratio)
        val_ratios = (keep_ratio,)
    selector, folder = selector_for(extractor, selection)
    if keep_ratio is not None and selector == "agent":
        raise ValueError(f"keep_ratio is {keep_ratio}, but an agent chooses how many patches it keeps: leave it out")
    if recipe == "anytime" and selector in ("agent", *REDUCERS):
        raise ValueError(f"recipe 'anytime' is not for selection {selection!r}: use recipe 'dropped'")
    if recipe == "anytime" and keep_ratio is not None:
        raise ValueError(f"keep_ratio is {keep_ratio}, but recipe 'anytime' is for all of them: leave it out")
    if recipe != "anytime" and selector == "glance":
        raise ValueError("selection 'glance' learns from whole sets of patches: use recipe 'anytime'")
    if recipe == "paper" and selector != "learned":
        raise ValueError(f"recipe {recipe!r} trains a learned selector, and selection is {selection!r}: use 'dropped'")
    drawings = folder if selector.startswith("line_guided") else ""
    agent = profile.agent if selector == "agent" else None
    job = Job(
        profile,
        "line_guided",
        dataset,
        AGENT if agent else recipe,
        seed,
        replace(profile.model, selector=selector),
        settings,
        val_ratios,
        keep_ratio,
        drawings,
        agent=agent,
    )
    return run(job, retrain, **options)


def _for_recipe(profile: Profile, recipe: str) -> Profile:
    """With the selector that the recipe trains: ASEL's, or of `anytime` its own."""
    if check_recipe(recipe) != "anytime":
        return profile
    return replace(profile, model=replace(profile.model, selector=profile.anytime.selector))


def agentvit(
    profile: Profile, dataset: str = "", *, setting: str = "published", seed: int = 0, retrain: bool = False, **options
) -> Stage:
    """AgentViT: its own network from scratch by its own schedule (setting "published"), or its agent on the backbone,
    the start and the schedule of the selectors that it is compared with ("equal": `line_guided` with "agent")."""
    if checks.one_of("setting", setting, AGENTVIT_SETTINGS) == "equal":
        return line_guided(profile, dataset, selection="agent", seed=seed, retrain=retrain, **options)
    job = Job(
        profile,
        "agentvit",
        dataset or profile.datasets[0],
        AGENT,
        seed,
        profile.agentvit_model,
        profile.agentvit,
        agent=profile.agent,
    )
    return run(job, retrain, **options)


def selector_for(extractor: str, selection: str) -> tuple[str, str]:
    """The policy of an extractor and a way to choose, and the folder of drawings where that is what `extractor` is
    ("" else). ValueError names what is unknown."""
    others = [name for name in names() if name != "line_guided"]
    checks.one_of("selection", selection, (*CHOICES, *others))
    folder = "" if extractor in lines.EXTRACTORS else str(Path(extractor).expanduser().resolve())
    if folder and not Path(folder).is_dir():
        raise ValueError(
            f"unknown line extractor {extractor!r}: expected one of {', '.join(lines.EXTRACTORS)}, or the path of a "
            "folder of drawings"
        )
    if selection in others:
        return selection, folder
    return f"line_guided:lines={GIVEN if folder else extractor},choice={selection}", folder


def _made_with(profile: Profile, recipe: str, record: dict) -> bool:
    """Whether a warm-up's record has this profile's model and warm-up settings."""
    if recipe == "anytime" and record.get("anytime") != asdict(profile.anytime):
        return False
    try:
        settings = StageSettings(**record["settings"])
    except (TypeError, ValueError):  # of another version of the library, which had other settings
        return False
    same = settings == profile.warmup and record["model"] == json.loads(json.dumps(described(profile.model)))
    return same and record["transform"]["size"] == profile.model.image_size
