"""A profile: the settings of a whole run, and how one is read."""

import dataclasses
from pathlib import Path

import yaml
from pydantic import Field

from asel_lib import checks
from asel_lib.configs.settings import (
    AGENTVIT,
    DIRECT,
    EvaluationSettings,
    ModelSettings,
    Positive,
    Precision,
    ReadingSettings,
    SpeedSettings,
    SplitProtocol,
    StageSettings,
    settings,
    several,
)
from asel_lib.registry import RECIPES

FOLDER = Path(__file__).parent
AGENTVIT_SETTINGS = ("published", "equal")


@settings
class Profile:
    """All settings of a run; `load(name)` reads one."""

    name: str
    """Of its YAML file, and of its folder under benchmarks_results/runs/."""
    purpose: str
    """One sentence: what it is for and what it costs."""
    model: ModelSettings
    """The network of the published schedule."""
    warmup_dataset: str
    """The data set of the warm-up."""
    datasets: several(str)
    """The data sets of the transfer."""
    recipes: several(str)
    """The recipes by which the published schedule is trained."""
    warmup: StageSettings
    """The published schedule's first stage."""
    transfer: StageSettings
    """Its second stage."""
    transfer_on: dict[str, dict] = Field(default_factory=dict)
    """What differs in the transfer to some data sets: {data set: {setting: value}}."""
    direct: StageSettings = Field(default_factory=lambda: StageSettings(**DIRECT))
    """The direct schedule: one stage, straight on a data set."""
    direct_on: dict[str, dict] = Field(default_factory=dict)
    """What differs in it on some data sets."""
    direct_rates: dict[str, Positive] = Field(default_factory=dict)
    """{method: factor on its learning rates}, as a search on val found it ("learned/masked": 0.25)."""
    direct_model: ModelSettings | None = None
    """The direct schedule's network; None: `model`."""
    methods: several(str) | tuple[()] = ()
    """Methods that a whole run trains on the direct schedule: "<selector>" or "<selector>/<recipe>"."""
    agentvit_model: ModelSettings = Field(
        default_factory=lambda: ModelSettings("agentvit", image_size=224, selector="agent")
    )
    """AgentViT's own network."""
    agentvit: StageSettings = Field(default_factory=lambda: StageSettings(**AGENTVIT))
    """AgentViT's own schedule."""
    agentvit_on: dict[str, dict] = Field(default_factory=dict)
    """What differs in it on some data sets."""
    agentvit_runs: several(str) | tuple[()] = ()
    """Settings of AgentViT in a whole run: "published" (its own network) and "equal" (its agent on `direct`)."""
    recipe_settings: dict[str, dict] = Field(default_factory=dict)
    """{recipe: {setting: value}}, of recipes that have settings of their own."""
    recipe_settings_on: dict[str, dict[str, dict]] = Field(default_factory=dict)
    """{data set: {recipe: {setting: value}}}: what differs on the direct schedule."""
    evaluation: EvaluationSettings = Field(default_factory=EvaluationSettings)
    """What the benchmark measures."""
    speed: SpeedSettings = Field(default_factory=SpeedSettings)
    """What 09_speed measures."""
    reading: ReadingSettings = Field(default_factory=ReadingSettings)
    """How the numbers of image files become grey levels."""
    precision: Precision = "auto"
    """Number format; "auto": the fastest that the device computes in hardware."""
    split_protocol: SplitProtocol = "train-val-test"
    """How a data set without parts of its own is split."""
    split_seed: int = 42
    """Of the split."""
    synthetic_images: int = Field(default=4000, ge=10)
    """How many scenes are generated."""
    benchmark_warmup: bool = True
    """Whether the warm-up's model is benchmarked too."""

    def __post_init__(self):
        for recipe in (*self.recipes, *self.recipe_settings):
            RECIPES[recipe]
        if self.agentvit_model.selector != "agent":
            raise ValueError(f"agentvit_model.selector is {self.agentvit_model.selector!r}: AgentViT's is 'agent'")
        for setting in self.agentvit_runs:
            checks.one_of("setting in agentvit_runs", setting, AGENTVIT_SETTINGS)
        for dataset in self.transfer_on:
            self.transfer_for(dataset)
        for dataset in self.direct_on:
            self.direct_for(dataset)
        for dataset in self.agentvit_on:
            self.agentvit_for(dataset)
        for recipe in self.recipe_settings:
            self.settings_of(recipe)
        for dataset, there in self.recipe_settings_on.items():
            for recipe in there:
                self.settings_of(recipe, dataset)

    def transfer_for(self, dataset: str) -> StageSettings:
        """The transfer's settings on that data set."""
        return changed(self.transfer, self.transfer_on.get(dataset, {}), f"transfer_on of {dataset}")

    def direct_for(self, dataset: str) -> StageSettings:
        """The direct schedule's settings on that data set."""
        return changed(self.direct, self.direct_on.get(dataset, {}), f"direct_on of {dataset}")

    def agentvit_for(self, dataset: str) -> StageSettings:
        """AgentViT's own schedule on that data set."""
        return changed(self.agentvit, self.agentvit_on.get(dataset, {}), f"agentvit_on of {dataset}")

    def settings_of(self, recipe: str, dataset: str = ""):
        """A recipe's own settings, None where it has none.

        Args:
            recipe: its name.
            dataset: with what differs on that data set, on the direct schedule; "": without.
        """
        kind = RECIPES[recipe].settings
        if kind is None:
            return None
        own = made(kind, self.recipe_settings.get(recipe, {}), f"recipe_settings of {recipe}")
        there = self.recipe_settings_on.get(dataset, {}).get(recipe, {})
        return changed(own, there, f"recipe_settings_on of {dataset}, {recipe}")

    def selector_for(self, recipe: str) -> str:
        """The selector that a recipe trains on the published schedule: the recipe's own, or else the profile's."""
        return RECIPES[recipe].selector or self.model.selector

    def for_direct(self) -> "Profile":
        """This profile with the direct schedule's network as its own."""
        return dataclasses.replace(self, model=self.direct_model or self.model)


def names() -> tuple[str, ...]:
    """Of the profiles that come with the library."""
    return tuple(sorted(file.stem for file in FOLDER.glob("*.yaml")))


def load(name: str) -> Profile:
    """The profile of that name; ValueError with the known names if there is none."""
    checks.one_of("profile", name, names())
    return from_dict(yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) | {"name": name})


def from_dict(values: dict) -> Profile:
    """A profile from plain nested settings, e.g. a YAML file of your own.

    Raises:
        ValueError: names the first setting that there is not, or that cannot hold.
    """
    parts = {
        field.name: kind
        for field in dataclasses.fields(Profile)
        if (kind := _part(field.type)) and isinstance(values.get(field.name), dict)
    }
    built = {key: made(parts[key], value, key) if key in parts else value for key, value in values.items()}
    return made(Profile, built, "the profile")


def chosen(values) -> dict:
    """The fields of a settings object that differ from their defaults: what identifies a training, so that a setting
    that is new here leaves checkpoints that were made before it what they are."""
    own = {field: getattr(values, field.name) for field in dataclasses.fields(values)}
    return {field.name: value for field, value in own.items() if value != _default(field)}


def changed(values, changes: dict, where: str):
    """Settings with some changed; `where` names them in an error."""
    same = {field.name: getattr(values, field.name) for field in dataclasses.fields(values)}
    return made(type(values), same | changes, where) if changes else values


def made(kind: type, values: dict, where: str):
    """Settings of a kind from plain values.

    Args:
        kind: the settings' class.
        values: setting -> value.
        where: names them in an error.

    Raises:
        ValueError: names the value, where it stands and what was expected.
    """
    known = [field.name for field in dataclasses.fields(kind)]
    for key in values:
        checks.one_of(f"setting in {where}", key, known)
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _part(annotation: object) -> type | None:
    """The settings class that a field holds, if it holds one."""
    options = (annotation, *getattr(annotation, "__args__", ()))
    return next((one for one in options if dataclasses.is_dataclass(one)), None)


def _default(field: dataclasses.Field) -> object:
    """A plain default; pydantic keeps those of its own fields in an object of its own."""
    from pydantic.fields import FieldInfo

    return (
        field.default.get_default(call_default_factory=True) if isinstance(field.default, FieldInfo) else field.default
    )
