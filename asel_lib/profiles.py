"""Profiles: every setting of a run in one frozen, validated object, read from profiles/<name>.yaml.

A setting that does not exist or cannot hold is an error when the profile is made, not an hour later.
"""

import dataclasses
import difflib
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

# A folder without __init__.py beside a module of the same name: the import finds the module.
FOLDER = Path(__file__).parent / "profiles"

RECIPES = ("paper", "dropped")
STARTS = ("random", "imagenet")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("constant", "cosine")
AUGMENTATIONS = ("none", "flip", "dihedral", "crop_jitter")
PROTOCOLS = ("train-val-test", "published")


@dataclass(frozen=True)
class ModelSettings:
    """The backbone. `timm` goes to timm.create_model as it is; `image_size` in pixels, square."""

    architecture: str
    image_size: int
    timm: dict = field(default_factory=dict)
    start: str = "random"
    selector: str = "learned"

    def __post_init__(self):
        _whole("image_size", self.image_size, 8)
        _one_of("start", self.start, STARTS)


@dataclass(frozen=True)
class StageSettings:
    """One training stage (warm-up, transfer, or line-guided).

    The keep ratio is 1 in the first `full_epochs` epochs, then uniform in [ratio_low, ratio_high], one draw a
    batch; the loss is cross entropy + sparsity * mean(score) (ASEL, training table). The cosine schedule ends at
    lr_min. patience: training stops after so many epochs without a better val accuracy; None: never.
    """

    epochs: int
    lr_selector: float
    lr_backbone: float
    lr_head: float
    batch_size: int = 64
    optimizer: str = "adam"
    weight_decay: float = 0.0
    schedule: str = "constant"
    warmup_epochs: float = 0.0
    augmentation: str = "none"
    full_epochs: int = 5
    ratio_low: float = 0.15
    ratio_high: float = 0.75
    sparsity: float = 0.02
    clip_gradient: float | None = None
    lr_min: float = 0.0
    patience: int | None = None

    def __post_init__(self):
        _whole("epochs", self.epochs, 1)
        if self.patience is not None:
            _whole("patience", self.patience, 1)
        _whole("batch_size", self.batch_size, 1)
        _whole("full_epochs", self.full_epochs, 0)
        for name in ("lr_selector", "lr_backbone", "lr_head"):
            _number(name, getattr(self, name), above=0)
        for name in ("weight_decay", "warmup_epochs", "sparsity", "lr_min"):
            _number(name, getattr(self, name), least=0)
        if self.clip_gradient is not None:
            _number("clip_gradient", self.clip_gradient, above=0)
        _number("ratio_low", self.ratio_low, above=0, most=1)
        _number("ratio_high", self.ratio_high, least=self.ratio_low, most=1)
        _one_of("optimizer", self.optimizer, OPTIMIZERS)
        _one_of("schedule", self.schedule, SCHEDULES)
        _one_of("augmentation", self.augmentation, AUGMENTATIONS)


# The line-guided system's schedule, with one keep ratio drawn a batch ("anytime") in place of a model for each.
LINE_GUIDED = dict(
    epochs=100, lr_selector=1e-4, lr_backbone=1e-4, lr_head=1e-4, batch_size=64, optimizer="adamw", weight_decay=0.01,
    schedule="cosine", lr_min=1e-6, augmentation="crop_jitter", full_epochs=0, ratio_low=0.05, ratio_high=1.0,
    patience=20,
)  # fmt: skip


@dataclass(frozen=True)
class EvaluationSettings:
    """What the benchmark measures. `draws`: random subsets an image; `timing_seconds`: for each setting."""

    ratios: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    policies: tuple[str, ...] = ("learned", "random", "central")
    draws: int = 5
    batch_size: int = 64
    timing_seconds: float = 1.0
    val_ratios: tuple[float, ...] = (0.2, 0.5, 1.0)

    def __post_init__(self):
        for name in ("ratios", "policies", "val_ratios"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            if not getattr(self, name):
                raise ValueError(f"{name} is empty: give at least one")
        for ratio in (*self.ratios, *self.val_ratios):
            _number("keep ratio", ratio, above=0, most=1)
        _whole("draws", self.draws, 1)
        _whole("batch_size", self.batch_size, 1)
        _number("timing_seconds", self.timing_seconds, above=0)


@dataclass(frozen=True)
class Profile:
    """All settings of a run; `load(name)` reads one. `line_guided`: the training of 03_line_guided_training,
    `line_guided_epochs`: its length on data sets that differ from it, `line_guided_model`: its backbone, None: `model`;
    `selectors`: the policies it is run with in a whole run, none: it is not."""

    name: str
    purpose: str
    model: ModelSettings
    warmup_dataset: str
    datasets: tuple[str, ...]
    recipes: tuple[str, ...]
    warmup: StageSettings
    transfer: StageSettings
    line_guided: StageSettings = field(default_factory=lambda: StageSettings(**LINE_GUIDED))
    line_guided_epochs: dict[str, int] = field(default_factory=dict)
    line_guided_model: ModelSettings | None = None
    selectors: tuple[str, ...] = ()
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    precision: str = "auto"
    protocol: str = "train-val-test"
    split_seed: int = 42
    synthetic_images: int = 4000
    benchmark_warmup: bool = True

    def __post_init__(self):
        for name in ("datasets", "recipes", "selectors"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for recipe in self.recipes:
            _one_of("recipe", recipe, RECIPES)
        for dataset, epochs in self.line_guided_epochs.items():
            _whole(f"line_guided_epochs of {dataset}", epochs, 1)
        for selector in self.selectors:
            if not re.fullmatch(r"random|learned|line_guided:lines=\w+,choice=\w+", selector):
                raise ValueError(
                    f"selectors has {selector!r}: expected random, learned or line_guided:lines=...,choice=..., as "
                    "03_line_guided_training can be asked for them"
                )
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("protocol", self.protocol, PROTOCOLS)
        _whole("synthetic_images", self.synthetic_images, 10)

    def for_line_guided(self) -> "Profile":
        """This profile with the line-guided training's backbone as its own."""
        return dataclasses.replace(self, model=self.line_guided_model or self.model)

    def stage(self, name: str) -> StageSettings:
        """The settings of "warmup", "finetuned" (the transfer) or "line_guided": the stages' names in checkpoints."""
        stages = {"warmup": self.warmup, "finetuned": self.transfer, "line_guided": self.line_guided}
        return stages[_one_of("stage", name, tuple(stages))]


def names() -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))


def load(name: str) -> Profile:
    """The profile of that name; ValueError with the known names if there is none."""
    _one_of("profile", name, names())
    return from_dict(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) | {"name": name})


def from_dict(settings: dict) -> Profile:
    """A profile from plain nested settings, e.g. a YAML file of your own."""
    parts = {
        "model": ModelSettings,
        "warmup": StageSettings,
        "transfer": StageSettings,
        "line_guided": StageSettings,
        "line_guided_model": ModelSettings,
        "evaluation": EvaluationSettings,
    }
    built = {key: _build(parts[key], value, key) if key in parts else value for key, value in settings.items()}
    return _build(Profile, built, "profile")


def chosen(settings) -> dict:
    """The fields of a settings object that differ from their defaults: what identifies a training, so that a setting
    that is new here leaves checkpoints that were made before it what they are."""
    values = {field: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {field.name: value for field, value in values.items() if value != field.default}


def check_recipe(recipe: str) -> str:
    return _one_of("recipe", recipe, RECIPES)


def _build(kind, settings: dict, where: str):
    known = [f.name for f in dataclasses.fields(kind)]
    for key in settings:
        _one_of(f"setting in {where}", key, known)
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in settings
    ]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}: add it")
    return kind(**settings)


def _one_of(what: str, value, known):
    if value in known:
        return value
    near = difflib.get_close_matches(str(value), [str(k) for k in known], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {value!r}: expected one of {', '.join(map(str, known))}.{hint}")


def _whole(what: str, value, least: int):
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what} is {value!r}: expected a whole number, at least {least}")


def _number(what: str, value, above=-math.inf, least=-math.inf, most=math.inf):
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (fine and value > above and least <= value <= most):
        low = f"above {above}" if above > -math.inf else f"at least {least}"
        raise ValueError(
            f"{what} is {value!r}: expected a number {low}" + (f", at most {most}" if most < math.inf else "")
        )
