"""Profiles: every setting of a run in one frozen, validated object, read from profiles/<name>.yaml.

A setting that does not exist or cannot hold is an error when the profile is made, not an hour later.
"""

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from asel_lib import checks

# A folder without __init__.py beside a module of the same name: the import finds the module.
FOLDER = Path(__file__).parent / "profiles"

ASEL_RECIPES = ("paper", "dropped")
RECIPES = (*ASEL_RECIPES, "anytime")  # of the selectors that learn with the classifier; AgentViT's is "agent"
# What 03_line_guided_training trains beside line guidance: selectors, and selectors by a recipe other than "dropped".
COMPARED = (
    "random",
    "central",
    "learned",
    "learned_paper",
    "glance_anytime",
    "random_anytime",
    "edge_energy",
    "evit",
    "tome",
    "dynamicvit",
)
STARTS = ("random", "imagenet")
PRECISIONS = ("auto", "float32", "bfloat16", "float16")
OPTIMIZERS = ("adam", "adamw")
SCHEDULES = ("constant", "cosine")
AUGMENTATIONS = ("none", "flip", "dihedral", "crop_jitter")
AGENTVIT_SETTINGS = ("published", "equal")
SPREADS = ("log", "linear")
SIGNALS = ("policy_gradient", "against_random", "values")
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
        checks.whole("image_size", self.image_size, 8)
        if not self.start.endswith((".safetensors", ".pth")):
            checks.one_of("start", self.start, STARTS)


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
        checks.whole("epochs", self.epochs, 1)
        if self.patience is not None:
            checks.whole("patience", self.patience, 1)
        checks.whole("batch_size", self.batch_size, 1)
        checks.whole("full_epochs", self.full_epochs, 0)
        for name in ("lr_selector", "lr_backbone", "lr_head"):
            checks.number(name, getattr(self, name), above=0)
        for name in ("weight_decay", "warmup_epochs", "sparsity", "lr_min"):
            checks.number(name, getattr(self, name), least=0)
        if self.clip_gradient is not None:
            checks.number("clip_gradient", self.clip_gradient, above=0)
        checks.number("ratio_low", self.ratio_low, above=0, most=1)
        checks.number("ratio_high", self.ratio_high, least=self.ratio_low, most=1)
        checks.one_of("optimizer", self.optimizer, OPTIMIZERS)
        checks.one_of("schedule", self.schedule, SCHEDULES)
        checks.one_of("augmentation", self.augmentation, AUGMENTATIONS)


# The line-guided system's schedule, with one keep ratio drawn a batch ("anytime") in place of a model for each.
LINE_GUIDED = dict(
    epochs=100,
    lr_selector=1e-4,
    lr_backbone=1e-4,
    lr_head=1e-4,
    batch_size=64,
    optimizer="adamw",
    weight_decay=0.01,
    schedule="cosine",
    lr_min=1e-6,
    augmentation="crop_jitter",
    full_epochs=0,
    ratio_low=0.05,
    ratio_high=1.0,
    patience=20,
)


# AgentViT's schedule for its ViT, as published: from scratch, no augmentation.
AGENTVIT = dict(epochs=20, lr_selector=1e-3, lr_backbone=1e-3, lr_head=1e-3, batch_size=32, full_epochs=0)


@dataclass(frozen=True)
class AgentSettings:
    """How AgentViT's agent learns; defaults as published.

    Epsilon, the chance of a random mask, falls from `epsilon_start` to `epsilon_end` as exp(-batches / epsilon_decay).
    The reward of a mask, given every `reward_every` batches, is first loss / loss - budget_weight * |kept - n| / n with
    n = budget * patches (98 of 196 in the paper). The last `replay` of these are kept, `draw` of them make a Q-learning
    step of learning rate `lr` and discount `gamma`; every `target_every` steps the target network moves by `tau`.
    memory_alpha: what one image's mask counts in the memory of its class.
    """

    epsilon_start: float = 1.0
    epsilon_end: float = 0.01
    epsilon_decay: float = 20_000.0
    reward_every: int = 50
    budget: float = 0.5
    budget_weight: float = 20.0
    replay: int = 64
    draw: int = 8
    lr: float = 0.01
    gamma: float = 0.95
    tau: float = 0.1
    target_every: int = 2
    clip_gradient: float = 100.0
    memory_alpha: float = 0.01

    def __post_init__(self):
        for name in ("reward_every", "replay", "draw", "target_every"):
            checks.whole(name, getattr(self, name), 1)
        if self.replay < self.draw:
            raise ValueError(
                f"replay is {self.replay}, fewer than draw, {self.draw}: the buffer must hold what is drawn from it; "
                "raise replay or lower draw"
            )
        for name in ("epsilon_start", "epsilon_end", "gamma", "memory_alpha"):
            checks.number(name, getattr(self, name), least=0, most=1)
        for name in ("budget", "tau"):
            checks.number(name, getattr(self, name), above=0, most=1)
        for name in ("epsilon_decay", "lr", "clip_gradient"):
            checks.number(name, getattr(self, name), above=0)
        checks.number("budget_weight", self.budget_weight, least=0)


@dataclass(frozen=True)
class AnytimeSettings:
    """What a step of the recipe `anytime` consists of; optimiser, schedule and augmentation are the stage's.

    whole: share of a batch that also passes with all patches; `distill`: the share of its loss at fewer patches that
    is cross entropy with what it was taken for whole. groups: keep ratios a step, one from each part of [ratio_low,
    ratio_high] on a scale `spread` ("log" or "linear"). signal: what the selector learns from, one
    of SIGNALS (see `training.anytime`); entropy: weight of the policy gradient's bonus for an open choice.
    selector: of models made for this recipe. variant: the name of an ablation, part of its checkpoints' names.
    """

    whole: float = 0.125
    groups: int = 4
    ratio_low: float = 0.05
    ratio_high: float = 0.5
    spread: str = "log"
    distill: float = 0.5
    signal: str = "policy_gradient"
    entropy: float = 0.01
    selector: str = "glance"
    variant: str = ""

    def __post_init__(self):
        checks.whole("groups", self.groups, 1)
        checks.number("ratio_low", self.ratio_low, above=0, most=1)
        checks.number("ratio_high", self.ratio_high, least=self.ratio_low, most=1)
        for name in ("whole", "distill"):
            checks.number(name, getattr(self, name), least=0, most=1)
        checks.number("entropy", self.entropy, least=0)
        checks.one_of("spread", self.spread, SPREADS)
        checks.one_of("signal", self.signal, SIGNALS)


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
            checks.number("keep ratio", ratio, above=0, most=1)
        checks.whole("draws", self.draws, 1)
        checks.whole("batch_size", self.batch_size, 1)
        checks.number("timing_seconds", self.timing_seconds, above=0)


@dataclass(frozen=True)
class SpeedSettings:
    """What 09_speed measures: `ratios` and `batches` of inference, how many images each training is timed on, and for
    the curves of growth sides of images and of patches in pixels, numbers of classes and of images. compiled: also by
    torch.compile."""

    ratios: tuple[float, ...] = (1.0, 0.5, 0.3, 0.2, 0.1)
    batches: tuple[int, ...] = (1, 8, 64)
    compiled: bool = True
    training_images: int = 512
    image_sizes: tuple[int, ...] = (64, 128, 256, 512, 1024)
    patch_sizes: tuple[int, ...] = (32, 16, 8)
    classes: tuple[int, ...] = (10, 100, 1000, 10_000, 100_000)
    images: tuple[int, ...] = (1000, 10_000, 100_000, 1_000_000)
    seconds: float = 1.0
    rounds: int = 7

    def __post_init__(self):
        for name in ("ratios", "batches", "image_sizes", "patch_sizes", "classes", "images"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
            for value in getattr(self, name):
                checks.number(f"{name} of speed", value, above=0)
        for name in ("training_images", "rounds"):
            checks.whole(name, getattr(self, name), 1)
        checks.number("seconds", self.seconds, above=0)


@dataclass(frozen=True)
class Profile:
    """All settings of a run; `load(name)` reads one. `line_guided`: the training of 03_line_guided_training,
    `line_guided_on`: what differs from it on a data set, `line_guided_rates`: what its learning rates are
    multiplied by for some selectors ("learned_paper": one by a recipe other than "dropped"), as a search on val found
    it, `line_guided_model`: its backbone, None: `model`;
    `selectors`: the policies it is run with in a whole run, none: it is not. `agentvit_model`, `agentvit`, `agent`: the
    network, its schedule and its agent in 04_agentvit_baseline; `agentvit_runs`: the settings ("published", "equal") of
    it in a whole run. `anytime`: what a step of that recipe consists of, `anytime_on`: what differs from it on a data
    set, by the line-guided schedule. `speed`: what 09_speed measures."""

    name: str
    purpose: str
    model: ModelSettings
    warmup_dataset: str
    datasets: tuple[str, ...]
    recipes: tuple[str, ...]
    warmup: StageSettings
    transfer: StageSettings
    line_guided: StageSettings = field(default_factory=lambda: StageSettings(**LINE_GUIDED))
    transfer_on: dict[str, dict] = field(default_factory=dict)
    line_guided_on: dict[str, dict] = field(default_factory=dict)
    line_guided_rates: dict[str, float] = field(default_factory=dict)
    line_guided_model: ModelSettings | None = None
    selectors: tuple[str, ...] = ()
    agentvit_model: ModelSettings = field(
        default_factory=lambda: ModelSettings("agentvit", image_size=224, selector="agent")
    )
    agentvit: StageSettings = field(default_factory=lambda: StageSettings(**AGENTVIT))
    agent: AgentSettings = field(default_factory=AgentSettings)
    agentvit_runs: tuple[str, ...] = ()
    anytime: AnytimeSettings = field(default_factory=AnytimeSettings)
    anytime_on: dict[str, dict] = field(default_factory=dict)
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    speed: SpeedSettings = field(default_factory=SpeedSettings)
    precision: str = "auto"
    protocol: str = "train-val-test"
    split_seed: int = 42
    synthetic_images: int = 4000
    benchmark_warmup: bool = True

    def __post_init__(self):
        for name in ("datasets", "recipes", "selectors", "agentvit_runs"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for recipe in self.recipes:
            checks.one_of("recipe", recipe, RECIPES)
        if self.agentvit_model.selector != "agent":
            raise ValueError(f"agentvit_model.selector is {self.agentvit_model.selector!r}: AgentViT's is 'agent'")
        for setting in self.agentvit_runs:
            checks.one_of("setting in agentvit_runs", setting, AGENTVIT_SETTINGS)
        for dataset in self.transfer_on:
            self.transfer_for(dataset)
        for dataset in self.line_guided_on:
            self.line_guided_for(dataset)
        for dataset in self.anytime_on:
            self.anytime_for(dataset)
        for selector, factor in self.line_guided_rates.items():
            checks.number(f"line_guided_rates of {selector}", factor, above=0)
        for selector in self.selectors:
            if selector not in COMPARED and not re.fullmatch(r"line_guided:lines=\w+,choice=\w+", selector):
                raise ValueError(
                    f"selectors has {selector!r}: expected line_guided:lines=...,choice=... or one of "
                    f"{', '.join(COMPARED)}, as 03_line_guided_training can be asked for them"
                )
        checks.one_of("precision", self.precision, PRECISIONS)
        checks.one_of("protocol", self.protocol, PROTOCOLS)
        checks.whole("synthetic_images", self.synthetic_images, 10)

    def transfer_for(self, dataset: str) -> StageSettings:
        """The transfer's settings on that data set."""
        return _changed(self.transfer, self.transfer_on.get(dataset, {}), f"transfer_on of {dataset}")

    def line_guided_for(self, dataset: str) -> StageSettings:
        """The line-guided training's settings on that data set."""
        return _changed(self.line_guided, self.line_guided_on.get(dataset, {}), f"line_guided_on of {dataset}")

    def anytime_for(self, dataset: str) -> AnytimeSettings:
        """The recipe `anytime` in the line-guided training on that data set."""
        return _changed(self.anytime, self.anytime_on.get(dataset, {}), f"anytime_on of {dataset}")

    def for_line_guided(self) -> "Profile":
        """This profile with the line-guided training's backbone as its own."""
        return dataclasses.replace(self, model=self.line_guided_model or self.model)


def _changed(settings, changes: dict, where: str):
    for name in changes:
        checks.one_of(f"setting in {where}", name, [field.name for field in dataclasses.fields(settings)])
    return dataclasses.replace(settings, **changes)


def names() -> tuple[str, ...]:
    return tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))


def load(name: str) -> Profile:
    """The profile of that name; ValueError with the known names if there is none."""
    checks.one_of("profile", name, names())
    return from_dict(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) | {"name": name})


def from_dict(settings: dict) -> Profile:
    """A profile from plain nested settings, e.g. a YAML file of your own."""
    parts = {
        "model": ModelSettings,
        "warmup": StageSettings,
        "transfer": StageSettings,
        "line_guided": StageSettings,
        "line_guided_model": ModelSettings,
        "agentvit_model": ModelSettings,
        "agentvit": StageSettings,
        "agent": AgentSettings,
        "anytime": AnytimeSettings,
        "evaluation": EvaluationSettings,
        "speed": SpeedSettings,
    }
    built = {key: _build(parts[key], value, key) if key in parts else value for key, value in settings.items()}
    return _build(Profile, built, "profile")


def chosen(settings) -> dict:
    """The fields of a settings object that differ from their defaults: what identifies a training, so that a setting
    that is new here leaves checkpoints that were made before it what they are."""
    values = {field: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {field.name: value for field, value in values.items() if value != field.default}


def check_recipe(recipe: str) -> str:
    return checks.one_of("recipe", recipe, RECIPES)


def _build(kind, settings: dict, where: str):
    known = [f.name for f in dataclasses.fields(kind)]
    for key in settings:
        checks.one_of(f"setting in {where}", key, known)
    missing = [
        f.name
        for f in dataclasses.fields(kind)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING and f.name not in settings
    ]
    if missing:
        raise ValueError(f"{where} lacks {', '.join(missing)}: add it")
    return kind(**settings)
