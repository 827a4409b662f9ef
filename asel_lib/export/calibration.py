"""The images that int8 is calibrated on: of the checkpoint's own val part, or given."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image

from asel_lib.data.batches import normalised, sized
from asel_lib.data.read_image import PLAIN, read_image
from asel_lib.data.sets import open_recorded
from asel_lib.errors import ExportError
from asel_lib.export.graph import Deployed
from asel_lib.models import SelectiveViT

IMAGES = 128  # more gave the same accuracy on RSSCN7


def calibration_images(
    model: SelectiveViT, graph: Deployed, wanted: int | Sequence, data: str = ""
) -> tuple[list[np.ndarray], str]:
    """Images as the graph takes them, and what they are, in words.

    Args:
        model: the exported one.
        graph: what its file computes.
        wanted: how many images of the val part in the model's record, spread over it (of train, where the split has no
            val), and never of test; or PIL images or paths.
        data: where the image set lies, if it moved.

    Raises:
        ExportError: for a number of a model without a record.
        CheckpointError: as of `open_recorded`, which refuses other images.
    """
    if not isinstance(wanted, int):
        return [as_taken(graph, _fitted(model, image)) for image in wanted], f"{len(wanted)} images that were given"
    if wanted < 1:
        raise ValueError(f"calibration is {wanted!r}: expected a number of images, at least 1, or a list of images")
    if not (model.record or {}).get("split"):
        raise ExportError(
            "int8 is calibrated on the val part that the model's record names, and this model has no record of one: "
            "pass calibration=[images or paths]"
        )
    images, split = open_recorded(model.record, data)
    part = "val" if len(split.val) else "train"
    indices = getattr(split, part)
    chosen = indices[np.unique(np.linspace(0, len(indices) - 1, min(wanted, len(indices))).astype(int))]
    pixels = [Image.fromarray(np.asarray(images.pixels[index])) for index in chosen]
    source = f"{len(chosen)} images of the {part} part of {images.name} (split {split.fingerprint})"
    return [as_taken(graph, _fitted(model, image)) for image in pixels], source


def as_taken(graph: Deployed, pixels: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3) of the model's size -> as the graph takes it: the same, or normalised, float32 (3, H, W)."""
    if graph.preprocessing:
        return pixels
    slot = graph.model.patch_drop
    return normalised(torch.from_numpy(pixels).permute(2, 0, 1)[None], slot.mean, slot.std)[0].numpy()


def _fitted(model: SelectiveViT, image) -> np.ndarray:
    """-> uint8 (H, W, 3) of the model's size, as the model's own transform has it."""
    height, width = (int(side) for side in model.patch_embed.img_size)
    reading = getattr(model.transform, "reading", PLAIN)
    if height == width:
        return sized(image, height, getattr(model.transform, "resized", None), reading)
    return np.asarray(Image.fromarray(read_image(image, reading)).resize((width, height), Image.BICUBIC))
