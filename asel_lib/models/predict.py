"""Pictures in, labels out: what a model's `predict` does around its forward."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asel_lib.data import inputs


@dataclass(frozen=True)
class Prediction:
    """A classifier's answer for one image.

    Args:
        label: the most probable class.
        probability: of that class.
        kept: the kept patches, numbered in raster order, best first.
    """

    label: str
    probability: float
    kept: list[int]


@torch.inference_mode()
def predict_images(
    model,
    images: Sequence,
    keep_ratio: float | str = 1.0,
    policy: str | None = None,
    batch_size: int = 64,
    lines: Tensor | None = None,
    *,
    white: float | None = None,
    black: float | None = None,
    on_error: str = "raise",
) -> list[Prediction | None]:
    """Classify pictures, in eval mode, whatever mode the model is in. This is `SelectiveViT.predict`.

    Args:
        model: a SelectiveViT with `classes` and `transform`.
        images: PIL images or paths.
        keep_ratio: as the model's.
        policy: as the model's.
        batch_size: images in a forward.
        lines: their line drawings (n, 1, h, w) in [0, 1], for a selector that does not draw them itself.
        white: the number that is white in images of more than 8 bits; None: as in those that the model learnt from.
        black: the number that is black there; None: 0 where `white` is given, else as the model learnt.
        on_error: for files that cannot be read: "raise" answers the others and raises an error that carries them;
            "skip" has None in their places, and warns.

    Returns:
        One Prediction an image, in order.

    Raises:
        ValueError: the model has no transform and classes, or `images` is no list of images.
        UnreadableImages: names the images that cannot be read by their places in the list, and carries the answers.
    """
    if model.transform is None or model.classes is None:
        raise ValueError(
            "predict needs the model's transform and classes: load it with asel_lib.load(name), or give them to "
            "asel_lib.make_selective(model, transform=..., classes=...); without either call model(images, keep_ratio)"
        )
    device, failed = next(model.parameters()).device, {}
    found: list[Prediction | None] = [None] * len(inputs.checked(images, on_error))
    with evaluating(model):
        for places, batch in inputs.batched(images, model.transform, batch_size, failed, white, black):
            batch, drawn = batch.to(device), None if lines is None else lines[places].to(device)
            logits, selection = model(batch, keep_ratio, policy, drawn, return_selection=True)
            probabilities, winners = logits.softmax(dim=1).max(dim=1)
            kept = model.kept_of(selection, batch, policy, drawn)
            answers = zip(winners.tolist(), probabilities.tolist(), kept, strict=True)
            for place, (winner, probability, patches) in zip(places, answers, strict=True):
                found[place] = Prediction(model.classes[winner], probability, patches)
    return inputs.settled(found, failed, on_error)


@contextlib.contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in eval mode; behind the block each of its modules is in the mode it was in. One that is in eval mode
    is not touched, so that several threads can use it."""
    trained = [module for module in model.modules() if module.training]
    for module in trained:
        module.training = False
    try:
        yield
    finally:
        for module in trained:
            module.training = True
