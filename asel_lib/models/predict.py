"""Pictures in, labels out: what a model's `predict` does around its forward."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from asel_lib.errors import DatasetError


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
) -> list[Prediction]:
    """Classify pictures, in eval mode, whatever mode the model is in. This is `SelectiveViT.predict`.

    Args:
        model: a SelectiveViT with `classes` and `transform`.
        images: PIL images or paths.
        keep_ratio: as the model's.
        policy: as the model's.
        batch_size: images in a forward.
        lines: their line drawings (n, 1, h, w) in [0, 1], for a selector that does not draw them itself.

    Returns:
        One Prediction an image, in order.

    Raises:
        ValueError: the model has no transform and classes, or `images` is no list of images.
        DatasetError: names the image that cannot be read by its place in the list.
    """
    if model.transform is None or model.classes is None:
        raise ValueError("predict needs the model's transform and classes: load it with asel_lib.load(name)")
    if isinstance(images, str | Image.Image) or not isinstance(images, Sequence):
        raise ValueError(f"images is a {type(images).__name__}: expected a list of PIL images or paths")
    device, found = next(model.parameters()).device, []
    with evaluating(model):
        for start in range(0, len(images), batch_size):
            places = range(start, min(start + batch_size, len(images)))
            batch = torch.stack([_prepared(model, images[place], place) for place in places]).to(device)
            drawn = None if lines is None else lines[start : start + batch_size].to(device)
            logits, selection = model(batch, keep_ratio, policy, drawn, return_selection=True)
            probabilities, winners = logits.softmax(dim=1).max(dim=1)
            kept = model.kept_of(selection, batch, policy, drawn)
            for winner, probability, patches in zip(winners.tolist(), probabilities.tolist(), kept, strict=True):
                found.append(Prediction(model.classes[winner], probability, patches))
    return found


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


def _prepared(model, image, place: int) -> Tensor:
    """An image as the model takes it; its place in the list names one that cannot be read."""
    try:
        return model.transform(image)
    except DatasetError as error:
        raise DatasetError(f"images[{place}]: {error}") from error
