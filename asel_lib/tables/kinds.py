"""The kinds of tables, each declared once: a field is a column, and one with a default may be missing in an older file.

Shares are in [0, 1]; MB are 1e6 bytes.
"""

from typing import Annotated

from pydantic import BeforeValidator, Field, create_model

from asel_lib.registry import METRICS, Metric
from asel_lib.tables.schema import (
    MaybeNumber,
    MaybeShare,
    MaybeWhole,
    Number,
    Row,
    Schema,
    Share,
    Text,
    Whole,
    Words,
    none_if_empty,
)

PLAIN = "plain"  # in SPEED, the policy of timm's own model, without a selector
READ = "read"  # in SPEED, the policy of rows that are about the data alone
TORCH, ONNX = "torch", "onnxruntime"  # in DEPLOYED, the runtimes

_flag = BeforeValidator(lambda value: {"True": True, "False": False}.get(value, value))
Flag = Annotated[bool, _flag, Field(strict=True)]
Ratio = Annotated[float, Field(gt=0, le=1)]
MaybeRatio = Annotated[Ratio | None, BeforeValidator(none_if_empty)]


class Identity(Row):
    """Which model a row is of (`identity.ModelKey.columns`)."""

    dataset: Text
    checkpoint: Text
    schedule: Text
    selector: Text
    recipe: Text
    variant: Words
    trained_ratio: MaybeRatio  # empty: all ratios
    seed: Whole


class Origin(Row):
    """Where and with what a row was measured."""

    device: Text
    dtype: Text
    compiled: Flag
    torch: Text
    commit: Text
    timestamp: Text


class _Measured(Identity):
    profile: Text
    start: Text
    policy: Text  # the selector that chose in this measurement
    keep_ratio: Ratio
    kept_patches: Whole
    split: Text
    n_images: Whole


class _Cost(Row):
    gmacs: Number  # of one image, choosing included
    selector_gmacs: Number
    latency_ms: MaybeNumber  # of a batch; empty, as all below, where it was not timed
    latency_iqr_ms: MaybeNumber
    throughput: MaybeNumber  # images a second
    peak_memory_mb: MaybeNumber
    batch_size: Whole


def _cells(metric: Metric) -> dict[str, tuple]:
    kind = Share if metric.unit == "share" else Number
    maybe = MaybeShare if metric.unit == "share" else MaybeNumber
    return {name: (maybe, None) if metric.optional else (kind, ...) for name in metric.columns}


def _results() -> type[Row]:
    """Identity and setting, every registered metric, cost and origin."""
    metrics = sorted(METRICS, key=lambda one: one.optional)
    return _one_after_the_other("Result", _Measured, *map(_cells, metrics), _Cost, Origin)


def _one_after_the_other(name: str, *parts: type[Row] | dict[str, tuple]) -> type[Row]:
    """A kind of row with the columns of all parts, in that order."""
    fields: dict[str, tuple] = {}
    for part in parts:
        fields |= part if isinstance(part, dict) else _fields(part)
    return create_model(name, __base__=Row, **fields)


def _fields(part: type[Row]) -> dict[str, tuple]:
    return {name: (field.annotation, field) for name, field in part.model_fields.items()}


class _Speed(Row):
    """A measurement of time, memory or growth of a model by its shape, whatever its weights."""

    task: Text  # "inference", "training", "memory", "growth: <what grows>"
    profile: Text
    dataset: Words  # of "training" alone
    policy: Text
    recipe: Words  # of trainings alone
    keep_ratio: MaybeRatio  # empty where no model runs
    kept_patches: MaybeWhole
    image_size: Whole  # pixels of a side
    patches: MaybeWhole
    classes: MaybeWhole
    images: MaybeWhole
    batch_size: MaybeWhole
    gmacs: MaybeNumber
    selector_gmacs: MaybeNumber
    latency_ms: MaybeNumber
    latency_iqr_ms: MaybeNumber
    throughput: MaybeNumber
    peak_memory_mb: MaybeNumber
    baseline: Words  # what speed_up is over
    speed_up: MaybeNumber
    speed_up_low: MaybeNumber
    speed_up_high: MaybeNumber
    ideal_speed_up: MaybeNumber  # the speed-up that the operations alone would give
    floor_ms: MaybeNumber  # what the hardware allows (`evaluation.roofline`)
    threads: MaybeWhole


class _Deployed(_Measured):
    """An exported model, or torch beside it, at one keep ratio, batch size and number of threads."""

    start: Words
    runtime: Text  # "torch" or "onnxruntime"
    accuracy: Share
    accuracy_low: Share
    accuracy_high: Share
    top5: Share
    agreement: Share  # images that are answered as torch answers them
    gmacs: Number
    selector_gmacs: Number
    file_mb: MaybeNumber
    image_size: Whole
    patches: Whole
    batch_size: Whole
    threads: Whole
    latency_ms: Number
    latency_iqr_ms: Number
    throughput: Number
    baseline: Text
    speed_up: Number
    speed_up_low: Number
    speed_up_high: Number


class Confusion(Identity):
    """How many images of a class got an answer."""

    policy: Text
    keep_ratio: Ratio
    class_: Text = Field(alias="class")
    answer: Text
    images: Whole


class Patches(Identity):
    """Which patches of an image were kept, see `evaluation.patches.kept_patches`."""

    split: Text
    policy: Text
    keep_ratio: Ratio
    image: Text
    digest: Text
    pixels: Whole
    class_: Text = Field(alias="class")
    answer: Text
    rows: Whole
    columns: Whole
    kept: Text
    scores: Words
    scores_of: Text
    centre: Words


class Answers(Identity):
    """Which images a model answers rightly by a policy; beside these columns one for each keep ratio, named by it."""

    profile: Text
    start: Text
    dataset_fingerprint: Text
    split: Text
    training: Text
    part: Text
    policy: Text
    image: Text


RESULTS = Schema("results", _results)
SPEED = Schema("speeds", lambda: _one_after_the_other("Speed", _Speed, Origin))
DEPLOYED = Schema("exported models", lambda: _one_after_the_other("Deployed", _Deployed, Origin))
CONFUSION = Schema("confusions", lambda: Confusion)
PATCHES = Schema("kept patches", lambda: Patches)
ANSWERS = Schema("answers", lambda: Answers, more=Share)
