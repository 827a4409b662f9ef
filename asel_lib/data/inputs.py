"""Images that a user hands over in a list: checked, read batch by batch, and those that cannot be read told apart."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from os import PathLike

import torch
from PIL import Image
from torch import Tensor

from asel_lib import checks
from asel_lib.data.read_image import PLAIN, Reading, read_picture
from asel_lib.errors import DatasetError

ON_ERROR = ("raise", "skip")


class UnreadableImages(DatasetError):
    """Some images of a list cannot be read; the others are answered.

    answers: one an image, in order, None for those that were not read. failed: place in the list -> why.
    """

    def __init__(self, answers: list, failed: dict[int, str]):
        self.answers, self.failed = answers, failed
        super().__init__(
            f"{_told(failed, len(answers))}. The others are answered: this error's `answers` has them, with None for "
            "those that were not read; on_error='skip' returns them so"
        )


def checked(images: Sequence, on_error: str = "raise") -> Sequence:
    """`images`, where it is a list of PIL images or paths. ValueError names what is in it instead, by its kind."""
    checks.one_of("on_error", on_error, ON_ERROR)
    if isinstance(images, str | bytes | Image.Image) or not isinstance(images, Sequence):
        raise ValueError(f"images is a {type(images).__name__}: expected a list of PIL images or paths")
    for place, image in enumerate(images):
        if not isinstance(image, str | PathLike | Image.Image):
            raise ValueError(
                f"images[{place}] is a {_kind(image)}: expected a path or a PIL image (PIL.Image.fromarray makes one "
                "of a uint8 array (h, w, 3))"
            )
    return images


def batched(
    images: Sequence,
    transform: Callable,
    batch_size: int,
    failed: dict[int, str],
    white: float | None = None,
    black: float | None = None,
) -> Iterator[tuple[list[int], Tensor]]:
    """The images that can be read, batch by batch: (their places in the list, (B, 3, S, S)).

    Args:
        images: paths, PIL images or arrays.
        transform: RGB PIL image -> (3, S, S).
        batch_size: images a batch.
        failed: gets place -> why that image cannot be read.
        white: the number that is white in images of more than 8 bits; None: as the model's own images were read.
        black: the number that is black there; None: 0 beside a white that is given, else as the model's own.
    """
    reading: Reading = getattr(transform, "reading", PLAIN)
    if white is not None:
        reading = replace(reading, white=float(white), black=0.0 if black is None else float(black))
    elif black is not None:
        reading = replace(reading, black=float(black))
    for start in range(0, len(images), batch_size):
        places, made = [], []
        for place in range(start, min(start + batch_size, len(images))):
            try:
                picture = read_picture(images[place], reading)
            except DatasetError as error:
                failed[place] = str(error)
                continue
            if picture.info["frames"] > 1:
                warnings.warn(f"images[{place}] has {picture.info['frames']} frames: the first is read", stacklevel=3)
            places.append(place)
            made.append(transform(picture))
        if made:
            yield places, torch.stack(made)


def settled(answers: list, failed: dict[int, str], on_error: str) -> list:
    """The answers, with None for images that were not read, of which a warning tells; or UnreadableImages."""
    if failed and on_error == "raise":
        raise UnreadableImages(answers, failed)
    if failed:
        warnings.warn(f"{_told(failed, len(answers))}; answered with None", stacklevel=3)
    return answers


def _told(failed: dict[int, str], count: int) -> str:
    first = [f"images[{place}]: {why}" for place, why in list(failed.items())[:3]]
    more = f" and {len(failed) - 3} more" if len(failed) > 3 else ""
    return f"{len(failed)} of {count} images cannot be read: {'; '.join(first)}{more}"


def _kind(value: object) -> str:
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    shape = getattr(value, "shape", None)
    return name if shape is None else f"{name} of shape {tuple(shape)}, {getattr(value, 'dtype', '')}"
