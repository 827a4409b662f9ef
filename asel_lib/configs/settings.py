"""The settings of a run, part by part. Each field has its line; a value that cannot hold is a ValueError that names it
when the settings are made, not an hour later."""

import functools
from typing import Annotated, Literal, get_args

from pydantic import ConfigDict, Field, Strict, ValidationError
from pydantic.dataclasses import dataclass

Precision = Literal["auto", "float32", "bfloat16", "float16"]
Augmentation = Literal["none", "flip", "dihedral", "crop_jitter"]
SplitProtocol = Literal["train-val-test", "published"]
PRECISIONS, AUGMENTATIONS, SPLIT_PROTOCOLS = map(get_args, (Precision, Augmentation, SplitProtocol))

Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(gt=0, le=1)]
Start = Annotated[str, Field(pattern=r"^(random|imagenet|(hf-hub|local-dir):.+|.+\.(safetensors|pth))$")]


def several(kind: object) -> object:
    """A tuple of at least one, also from a list, as YAML has it."""
    return Annotated[tuple[kind, ...], Strict(False), Field(min_length=1)]


CHECKED = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def settings(kind: type) -> type:
    """Class decorator: a frozen dataclass whose values are checked when it is made.

    Raises:
        ValueError: on making one, names the field, its value and what was expected.
    """
    checked = dataclass(kind, frozen=True, config=CHECKED)
    make = checked.__init__

    @functools.wraps(make)
    def __init__(self, *values, **named):
        try:
            make(self, *values, **named)
        except ValidationError as error:
            raise ValueError(_said(error)) from None

    checked.__init__ = __init__
    return checked


def _said(error: ValidationError) -> str:
    """The first of pydantic's findings in one line."""
    first = error.errors()[0]
    place, message = ".".join(map(str, first["loc"])), first["msg"]
    if first["type"] == "missing":
        return f"{place} is missing: add it"
    if first["type"] == "value_error":
        return message.removeprefix("Value error, ")
    if first["type"] == "unexpected_keyword_argument":
        return f"unknown setting {place!r}"
    return f"{place} is {first['input']!r}: {message[0].lower()}{message[1:]}"


@settings
class ModelSettings:
    """The network."""

    architecture: str
    """timm's name, or "agentvit"."""
    image_size: Annotated[int, Field(ge=8)]
    """Pixels, square."""
    timm: dict[str, object] = Field(default_factory=dict)
    """Goes to timm.create_model as it is."""
    start: Start = "random"
    """What training starts from (see training.start): "random", "imagenet", a .safetensors or .pth file, or a model by
    its place, "hf-hub:owner/name" or "local-dir:folder"."""
    selector: str = "learned"
    """The policy that is trained along, and used where no other is asked for."""
    reset_embeddings: bool = False
    """Begin with new patch and position embeddings in place of those of `start`, as the published line-guided code does
    (its slip)."""

    def __post_init__(self):
        if (channels := self.timm.get("in_chans", 3)) != 3:
            raise ValueError(
                f"in_chans is {channels!r}: image files are read as RGB, and a profile trains models of 3 channels; "
                "one of others is trained from your own tensors (asel_lib.make_selective)"
            )
        if self.reset_embeddings and self.start == "random":
            raise ValueError("reset_embeddings is True, and start is 'random': there are no others to be reset")
        if rate := self.timm.get("patch_drop_rate"):
            raise ValueError(
                f"patch_drop_rate is {rate!r}: the selector chooses patches in timm's slot for dropping them; leave it "
                "out, and give the training's keep ratios as ratio_low and ratio_high"
            )


@settings
class StageSettings:
    """One training stage: warm-up, transfer or direct. The loss is cross entropy + sparsity * mean(score)."""

    epochs: Count
    """Passes over the train part."""
    lr_selector: Positive
    """Learning rate of the selector."""
    lr_backbone: Positive
    """Learning rate of the patch embedding, positions and blocks."""
    lr_head: Positive
    """Learning rate of the classifier's last layer."""
    batch_size: Count = 64
    """Images a step."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """torch's, fused."""
    weight_decay: NotNegative = 0.0
    """Of matrices; biases and norms have none."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Of the learning rates."""
    warmup_epochs: NotNegative = 0.0
    """Epochs of linear growth before the cosine."""
    augmentation: Augmentation = "none"
    """Of training images."""
    full_epochs: Annotated[int, Field(ge=0)] = 5
    """First epochs with all patches."""
    ratio_low: Ratio = 0.15
    """Lowest keep ratio; after the full epochs one is drawn a batch, uniformly."""
    ratio_high: Ratio = 0.75
    """Highest keep ratio."""
    sparsity: NotNegative = 0.02
    """Weight of the mean score in the loss (ASEL, training table)."""
    clip_gradient: Positive | None = None
    """Largest norm of the gradient; None: any."""
    lr_min: NotNegative = 0.0
    """Where the cosine ends."""
    patience: Count | None = None
    """Epochs without a better val accuracy after which training stops; None: never."""
    class_weights: Literal["none", "balanced"] = "none"
    """"balanced": the loss weighs a class by the inverse of its images."""

    def __post_init__(self):
        if self.ratio_low > self.ratio_high:
            raise ValueError(f"ratio_low is {self.ratio_low}, above ratio_high, {self.ratio_high}")


@settings
class ReadingSettings:
    """How the numbers of image files become grey levels (data.read_image.Reading); 8-bit opaque files need none."""

    white: float | None = None
    """The number that is white in images of more than 8 bits; None: the data set's own range decides."""
    black: float = 0.0
    """The number that is black there."""
    background: str = "white"
    """The colour that lies behind transparent pixels, by name or as "#rrggbb"."""


# The line-guided system's schedule, with one keep ratio drawn a batch in place of a model for each.
DIRECT = dict(
    epochs=100, lr_selector=1e-4, lr_backbone=1e-4, lr_head=1e-4, batch_size=64, optimizer="adamw", weight_decay=0.01,
    schedule="cosine", lr_min=1e-6, augmentation="crop_jitter", full_epochs=0, ratio_low=0.05, ratio_high=1.0,
    patience=20,
)  # fmt: skip


# AgentViT's schedule for its ViT, as published: from scratch, no augmentation.
AGENTVIT = dict(epochs=20, lr_selector=1e-3, lr_backbone=1e-3, lr_head=1e-3, batch_size=32, full_epochs=0)


@settings
class EvaluationSettings:
    """What the benchmark measures."""

    ratios: several(Ratio) = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    """Keep ratios."""
    policies: several(str) = ("learned", "random", "central")
    """Ways to choose, of a model of the published schedule."""
    draws: Count = 5
    """Random subsets an image."""
    batch_size: Count = 64
    """Images a timed batch."""
    timing_seconds: Positive = 1.0
    """Seconds of each (policy, keep ratio)."""
    val_ratios: several(Ratio) = (0.2, 0.5, 1.0)
    """Keep ratios at which val accuracy is taken in training; their mean chooses the epoch."""


@settings
class SpeedSettings:
    """What 09_speed measures."""

    ratios: several(Ratio) = (1.0, 0.5, 0.3, 0.2, 0.1)
    """Keep ratios of inference."""
    batches: several(Count) = (1, 8, 64)
    """Images a batch of inference."""
    compiled: bool = True
    """Also by torch.compile."""
    training_images: Count = 512
    """Images that each training is timed on."""
    image_sizes: several(Count) = (64, 128, 256, 512, 1024)
    """Sides of images in pixels, of the curves of growth."""
    patch_sizes: several(Count) = (32, 16, 8)
    """Sides of patches in pixels."""
    classes: several(Count) = (10, 100, 1000, 10_000, 100_000)
    """Numbers of classes."""
    images: several(Count) = (1000, 10_000, 100_000, 1_000_000)
    """Numbers of images."""
    seconds: Positive = 1.0
    """Seconds a setting and round."""
    rounds: Count = 7
    """Rounds in turn."""
