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
    fields = {}
    for metric in sorted(METRICS, key=lambda one: one.optional):
        fields |= _cells(metric)
    with_metrics = create_model("_WithMetrics", __base__=_Measured, **fields)
    with_cost = create_model("_WithCost", __base__=with_metrics, **_fields(_Cost))
    return create_model("Result", __base__=with_cost, **_fields(Origin))


def _fields(model: type[Row]) -> dict[str, tuple]:
    return {name: (model.__annotations__[name], ...) for name in model.model_fields}


class Speed(Row):
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
    ideal: MaybeNumber  # the speed-up that the operations alone would give
    floor_ms: MaybeNumber  # what the hardware allows (`evaluation.roofline`)
    threads: MaybeWhole
    device: Text
    dtype: Text
    compiled: Flag
    torch: Text
    commit: Text
    timestamp: Text


class Deployed(Identity):
    """An exported model, or torch beside it, at one keep ratio, batch size and number of threads."""

    profile: Text
    start: Words
    policy: Text
    keep_ratio: Ratio
    kept_patches: Whole
    split: Text
    n_images: Whole
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
    device: Text
    dtype: Text
    compiled: Flag
    torch: Text
    commit: Text
    timestamp: Text


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
SPEED = Schema("speeds", lambda: Speed)
DEPLOYED = Schema("exported models", lambda: Deployed)
CONFUSION = Schema("confusions", lambda: Confusion)
PATCHES = Schema("kept patches", lambda: Patches)
ANSWERS = Schema("answers", lambda: Answers, more=Share)
