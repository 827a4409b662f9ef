"""What a model is: a few fields, and the one way to write them as a name and to read a name back."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

SCHEDULES = {
    "warmup": "the first stage of the published schedule alone, on the warm-up set",
    "published": "warm-up, then transfer to the data set",
    "direct": "one stage, straight on the data set",
    "agentvit": "AgentViT's own network and schedule, from scratch",
    "untrained": "ImageNet weights with their own head, as they are",
}
RECIPE = "dropped"  # goes without saying in a name; of the selector "agent" it is "agent"
NONE = "none"  # selector and recipe of what was not trained here
OWN_CLASSES = "own_classes"  # variant of the schedule "untrained": answers among the data set's classes alone
RESET_EMBEDDINGS = "reset_embeddings"  # variant: trained with new patch and position embeddings
LINE_GUIDED = "line_guided:lines=xdog,choice=sample"  # the published variant of line guidance
WARMUP_SETS = ("cifar10", "synthetic_closeups")  # <dataset>_anytime is the warm-up on these, else the transfer

_TEXT = r"[A-Za-z0-9_.]+"
_NAME = re.compile(
    rf"(?P<dataset>.+)-(?P<schedule>{'|'.join(SCHEDULES)})-(?P<selector>{_TEXT}(?:,{_TEXT}=[^,+]+?)*)"
    rf"(?:-(?!k[0-9.]+-)(?P<recipe>{_TEXT}))?(?:\+(?P<variant>{_TEXT}))?(?:-k(?P<keep_ratio>[0-9.]+))?-s(?P<seed>\d+)"
)


@dataclass(frozen=True)
class ModelKey:
    """A trained model, told apart from every other of the same profile.

    Args:
        dataset: the data set's name.
        schedule: one of SCHEDULES.
        selector: the policy that it was trained with: a name, or a name with options ("glance:choice=top").
        recipe: how it was trained: "masked", "dropped", "anytime", "agent", or another that is registered.
        variant: what an ablation changed, "" of the recipe as it is.
        keep_ratio: the only one it was trained for, None: all of them.
        seed: of the training.

    Raises:
        ValueError: where a field cannot stand in a name.
    """

    dataset: str
    schedule: str
    selector: str
    recipe: str = RECIPE
    variant: str = ""
    keep_ratio: float | None = None
    seed: int = 0

    def __post_init__(self):
        if self.schedule not in SCHEDULES:
            raise ValueError(f"unknown schedule {self.schedule!r}: expected one of {', '.join(SCHEDULES)}")
        for name in ("recipe", "variant"):
            if not re.fullmatch(rf"(?:{_TEXT})?", getattr(self, name)):
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}: expected letters, digits, dots and underscores alone"
                )
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"seed is {self.seed!r}: expected a whole number from 0 on")

    @property
    def name(self) -> str:
        """The checkpoint's name: a published one where there is one, else e.g. "rsscn7-direct-evit-s1"."""
        for name, fixed in _PUBLISHED.items():
            if self == fixed(self.dataset):
                return name.format(self.dataset)
        parts = [self.dataset, self.schedule, self.selector.replace(":", ",", 1)]
        if self.recipe != default_recipe(self.selector):
            parts.append(self.recipe)
        name = "-".join(parts) + (f"+{self.variant}" if self.variant else "")
        return name + ("" if self.keep_ratio is None else f"-k{self.keep_ratio:g}") + f"-s{self.seed}"

    @classmethod
    def parse(cls, name: str) -> "ModelKey":
        """The key of a name; names from before they were made here are read too.

        Args:
            name: of a checkpoint.

        Raises:
            ValueError: where it is no model's name.
        """
        if found := _NAME.fullmatch(name):
            given = {field: value for field, value in found.groupdict().items() if value is not None}
            selector = given["selector"].replace(",", ":", 1)
            ratio = float(given["keep_ratio"]) if "keep_ratio" in given else None
            given = {"recipe": default_recipe(selector)} | given
            return cls(**given | {"selector": selector, "keep_ratio": ratio, "seed": int(given["seed"])})
        for pattern, fixed in _PUBLISHED.items():
            before, _, after = pattern.partition("{}")
            fits = name.startswith(before) and name.endswith(after) and len(name) > len(before) + len(after)
            if fits and "_line_guided_" not in name:  # a former name: <dataset>_line_guided_glance_anytime
                key = fixed(name[len(before) : len(name) - len(after)])
                if key.name == name:
                    return key
        if key := _former(name):
            return key
        raise ValueError(
            f"{name!r} is no model's name: expected e.g. rsscn7_finetuned, rsscn7_anytime or rsscn7-direct-evit-s0"
        )

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "ModelKey":
        """The key in a record or in a row of a table.

        Args:
            values: its entries, among them those of the key's fields.
        """
        given = {field.name: values[field.name] for field in fields(cls) if field.name != "keep_ratio"}
        ratio = values["trained_ratio" if "trained_ratio" in values else "keep_ratio"]
        ratio = None if ratio is None or ratio != ratio or ratio == "" else float(ratio)
        return cls(**given | {"keep_ratio": ratio, "seed": int(given["seed"])})

    def columns(self) -> dict[str, object]:
        """The columns of a results table that say which model a row is of; `trained_ratio` is None for all ratios."""
        found = asdict(self)
        found["trained_ratio"] = found.pop("keep_ratio")
        return {"checkpoint": self.name} | found


def policy_parts(policy: str) -> tuple[str, dict[str, str | None]]:
    """A policy as it is written, taken apart: ("line_guided", {"lines": "xdog"}) of "line_guided:lines=xdog".

    Args:
        policy: a selector's name, or a name with options.

    Returns:
        The name, and option -> value, None where there is no "=".
    """
    name, _, written = policy.partition(":")
    pieces = (piece.partition("=") for piece in written.split(",") if piece)
    return name, {option.strip(): value.strip() if equals else None for option, equals, value in pieces}


def selector_name(policy: str) -> str:
    """The name of a selector without its options: "line_guided" of "line_guided:lines=xdog"."""
    return policy_parts(policy)[0]


def default_recipe(selector: str) -> str:
    """The recipe that goes without saying in the name of a model.

    Args:
        selector: its policy.
    """
    return "agent" if selector_name(selector) == "agent" else RECIPE


_PUBLISHED = {
    "{}_warmup": lambda dataset: ModelKey(dataset, "warmup", "learned", "masked"),
    "{}_finetuned": lambda dataset: ModelKey(dataset, "published", "learned", "masked"),
    "agentvit_{}": lambda dataset: ModelKey(dataset, "agentvit", "agent", "agent"),
    "{}_line_guided": lambda dataset: ModelKey(dataset, "direct", LINE_GUIDED, keep_ratio=0.3),
    "{}_imagenet_head": lambda dataset: ModelKey(dataset, "untrained", NONE, NONE),
    "{}_imagenet_head_own_classes": lambda dataset: ModelKey(dataset, "untrained", NONE, NONE, OWN_CLASSES),
    "{}_anytime": lambda dataset: ModelKey(
        dataset, "warmup" if dataset in WARMUP_SETS else "published", "glance", "anytime"
    ),
}


def _former(name: str) -> ModelKey | None:
    """Names of 2026: <dataset>_<stage>_<recipe>_seed<k>, <dataset>_line_guided_<...>, <dataset>_agentvit."""
    found = re.fullmatch(r"(.*?)(?:_seed(\d+))?", name)
    name, seed = found[1], int(found[2] or 0)
    if name.endswith("_agentvit"):
        return ModelKey(name.removesuffix("_agentvit"), "agentvit", "agent", "agent", seed=seed)
    for stage, schedule in (("warmup", "warmup"), ("finetuned", "published")):
        if found := re.fullmatch(rf"(.+)_{stage}(_dropped)?", name):
            return ModelKey(found[1], schedule, "learned", "dropped" if found[2] else "masked", seed=seed)
    dataset, guided, rest = name.partition("_line_guided_")
    if not guided:
        if not name.endswith("_anytime"):
            return None
        dataset = name.removesuffix("_anytime")
        schedule = "warmup" if dataset in WARMUP_SETS else "published"
        return ModelKey(dataset, schedule, "glance", "anytime", seed=seed)
    ratio = None
    if found := re.fullmatch(r"(.+)_keep([0-9.]+)", rest):
        rest, ratio = found[1], float(found[2])
    recipe, variant = RECIPE, ""
    if found := re.fullmatch(r"(.+?)_(paper|anytime)(?:_(.+))?", rest):
        rest, recipe, variant = found[1], found[2].replace("paper", "masked"), found[3] or ""
    if found := re.fullmatch(r"([a-z]+)_(sample|top)", rest):
        rest = f"line_guided:lines={found[1]},choice={found[2]}"
    recipe = "agent" if rest == "agent" else recipe
    return ModelKey(dataset, "direct", rest, recipe, _VARIANTS.get(variant, variant), ratio, seed)


_VARIANTS = {"rival": "random_baseline", "parts": "no_whole", "pair": "two_ratios", "untaught": "no_distill"}
