"""The recipe `anytime` with one thing changed at a time: what each part of it is worth."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from asel_lib import checks, paths
from asel_lib.profiles import Profile
from asel_lib.training import stages

# name -> (what is changed, settings of the recipe, the selector). All else is the profile's.
VARIANTS: dict[str, tuple[str, dict, str]] = {
    "anytime": ("nothing: the recipe as it is", {}, "glance"),
    "rival": ("policy gradient against a random set of patches", {"signal": "against_random"}, "glance"),
    "values": ("the selector learns what each patch adds, from random sets", {"signal": "values"}, "glance"),
    "random": ("random patches, two sets an image as well", {}, "random"),
    "embedded": ("selector on the embedded patches (ASEL's MLP)", {}, "learned"),
    "untaught": ("no teaching by the whole image", {"distill": 0.0}, "glance"),
    "quarter": ("a quarter of the images whole", {"whole": 0.25}, "glance"),
    "parts": ("no whole images at all", {"whole": 0.0}, "glance"),
    "linear": ("keep ratios linear, 0.05 to 0.5", {"spread": "linear"}, "glance"),
    "wide": ("keep ratios to 1", {"ratio_high": 1.0}, "glance"),
    "pair": ("two keep ratios a step", {"groups": 2}, "glance"),
    "single": ("one keep ratio a step", {"groups": 1}, "glance"),
}


def run(profile: Profile, dataset: str, variant: str, seed: int = 0, epochs: int = 0, **options) -> stages.Stage:
    """Train a variant on the line-guided schedule, or load it; epochs: of a schedule shorter than the data set's, with
    as much less warm-up, which is part of the checkpoint's name; 0: the data set's own. ValueError for an unknown
    variant, and for a schedule that is not shorter."""
    _, changes, selection = _known(variant)
    dataset = dataset or profile.datasets[0]
    anytime = replace(profile.anytime_for(dataset), **changes, variant=_suffix(variant, epochs))
    changed = replace(profile, anytime=anytime, anytime_on={})
    if epochs:
        own = profile.line_guided_for(dataset)
        checks.whole("epochs", epochs, 1)
        if epochs >= own.epochs:
            raise ValueError(f"epochs is {epochs}: expected less than the {own.epochs} of {dataset}'s schedule, or 0")
        short = {"epochs": epochs, "warmup_epochs": own.warmup_epochs * epochs / own.epochs}
        there = profile.line_guided_on
        changed = replace(changed, line_guided_on=there | {dataset: there.get(dataset, {}) | short})
    return stages.line_guided(changed, dataset, selection=selection, recipe="anytime", seed=seed, **options)


def name(dataset: str, variant: str, seed: int = 0, epochs: int = 0) -> str:
    """Of the variant's checkpoint."""
    selection, suffix = _known(variant)[2], _suffix(variant, epochs)
    return paths.line_guided_name(dataset, selection, seed=seed, recipe="anytime", variant=suffix)


def trained(
    dataset: str, seeds: Iterable[int], at_hand: Collection[str], variants: Iterable[str] = (), epochs: int = 0
) -> dict[str, list[str]]:
    """What is changed -> its checkpoints among those at hand; no variants: all."""
    found = {}
    for variant in variants or VARIANTS:
        names = [name(dataset, variant, seed, epochs) for seed in seeds]
        found[_known(variant)[0]] = [one for one in names if one in at_hand]
    return {what: names for what, names in found.items() if names}


def _known(variant: str) -> tuple[str, dict, str]:
    return VARIANTS[checks.one_of("variant", variant, VARIANTS)]


def _suffix(variant: str, epochs: int) -> str:
    """What its checkpoints' names end with: the recipe as it is, and with random patches, is compared elsewhere too."""
    changed = "" if variant in ("anytime", "random") else variant
    return "_".join(part for part in (changed, f"{epochs}epochs" if epochs else "") if part)
