"""The recipe `anytime` with one thing changed at a time: what each part of it is worth."""

from collections.abc import Collection, Iterable
from dataclasses import replace

from asel_lib import checks
from asel_lib.configs import Profile
from asel_lib.identity import ModelKey
from asel_lib.training import stages

RECIPE = "anytime"
# name -> (what is changed, settings of the recipe, the selector). All else is the profile's.
VARIANTS: dict[str, tuple[str, dict, str]] = {
    "unchanged": ("nothing: the recipe as it is", {}, "glance"),
    "random_baseline": ("policy gradient against a random set of patches", {"signal": "against_random"}, "glance"),
    "values": ("the selector learns what each patch adds, from random sets", {"signal": "values"}, "glance"),
    "random": ("random patches, two sets an image as well", {}, "random"),
    "embedded": ("selector on the embedded patches (ASEL's MLP)", {}, "learned"),
    "no_distill": ("no teaching by the whole image", {"distill": 0.0}, "glance"),
    "quarter": ("a quarter of the images whole", {"whole": 0.25}, "glance"),
    "no_whole": ("no whole images at all", {"whole": 0.0}, "glance"),
    "linear": ("keep ratios linear, 0.05 to 0.5", {"spread": "linear"}, "glance"),
    "wide": ("keep ratios to 1", {"ratio_high": 1.0}, "glance"),
    "two_ratios": ("two keep ratios a step", {"groups": 2}, "glance"),
    "one_ratio": ("one keep ratio a step", {"groups": 1}, "glance"),
}
PLAIN = ("unchanged", "random", "embedded")  # told apart by the selector: the name has no variant


def run(profile: Profile, dataset: str, variant: str, seed: int = 0, epochs: int = 0, **options) -> stages.Stage:
    """Train a variant on the direct schedule, or load it.

    Args:
        profile: the run's settings.
        dataset: a data set's name or folder, "" for the profile's first.
        variant: one of VARIANTS.
        seed: of the training.
        epochs: of a schedule shorter than the data set's, with as much less warm-up; it becomes part of the name; 0:
            the data set's own.
        options: of `stages.direct`.

    Raises:
        ValueError: for an unknown variant, and for a schedule that is not shorter.
    """
    _, changes, selector = _known(variant)
    dataset = dataset or profile.datasets[0]
    there = profile.recipe_settings_on.get(dataset, {})
    there = there | {RECIPE: there.get(RECIPE, {}) | changes}
    changed = replace(profile, recipe_settings_on=profile.recipe_settings_on | {dataset: there})
    if epochs:
        own = profile.direct_for(dataset)
        checks.whole("epochs", epochs, 1)
        if epochs >= own.epochs:
            raise ValueError(f"epochs is {epochs}: expected less than the {own.epochs} of {dataset}'s schedule, or 0")
        short = {"epochs": epochs, "warmup_epochs": own.warmup_epochs * epochs / own.epochs}
        changed = replace(changed, direct_on=profile.direct_on | {dataset: profile.direct_on.get(dataset, {}) | short})
    return stages.direct(
        changed, dataset, selector=selector, recipe=RECIPE, variant=_suffix(variant, epochs), seed=seed, **options
    )


def name(dataset: str, variant: str, seed: int = 0, epochs: int = 0) -> str:
    """The name of a variant's checkpoint.

    Args:
        dataset: the data set's name.
        variant: one of VARIANTS.
        seed: of the training.
        epochs: 0: the profile's.
    """
    selector = _known(variant)[2]
    return ModelKey(dataset, "direct", selector, RECIPE, _suffix(variant, epochs), seed=seed).name


def trained(
    dataset: str, seeds: Iterable[int], at_hand: Collection[str], variants: Iterable[str] = (), epochs: int = 0
) -> dict[str, list[str]]:
    """The checkpoints of variants that are at hand.

    Args:
        dataset: the data set's name.
        seeds: of the trainings.
        at_hand: names of checkpoints.
        variants: of VARIANTS, (): all.
        epochs: 0: the profile's.

    Returns:
        What is changed -> its checkpoints.
    """
    found = {}
    for variant in variants or VARIANTS:
        names = [name(dataset, variant, seed, epochs) for seed in seeds]
        found[_known(variant)[0]] = [one for one in names if one in at_hand]
    return {what: names for what, names in found.items() if names}


def _known(variant: str) -> tuple[str, dict, str]:
    return VARIANTS[checks.one_of("variant", variant, VARIANTS)]


def _suffix(variant: str, epochs: int) -> str:
    """The variant of its checkpoint's key."""
    changed = "" if variant in PLAIN else variant
    return ".".join(part for part in (changed, f"{epochs}epochs" if epochs else "") if part)
