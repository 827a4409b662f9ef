"""How the library reads an image: `pixels.read_rgb`, with one way to say what is white and what lies behind, and named
errors."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageColor

from asel_lib.data import pixels
from asel_lib.errors import DatasetError


@dataclass(frozen=True)
class Reading:
    """How the numbers of image files become grey levels; 8-bit opaque files are read the same by every Reading.

    Args:
        white: the number that is white in images of more than 8 bits; None: each image has to say itself.
        black: the number that is black there.
        background: what lies behind transparent pixels: (red, green, blue), or a colour's name.

    Raises:
        ValueError: numbers that are no range, or no colour.
    """

    white: float | None = None
    black: float = 0.0
    background: tuple[int, int, int] = pixels.PAPER

    def __post_init__(self):
        colour = self.background
        colour = ImageColor.getrgb(colour)[:3] if isinstance(colour, str) else tuple(colour)
        if len(colour) != 3 or not all(type(part) is int and 0 <= part <= 255 for part in colour):
            raise ValueError(f"background is {colour!r}: expected a colour's name, or three numbers from 0 to 255")
        object.__setattr__(self, "background", colour)
        fine = math.isfinite(self.black) and (self.white is None or math.isfinite(self.white))
        if not fine or (self.white is not None and self.white <= self.black):
            raise ValueError(f"white is {self.white!r} and black {self.black!r}: expected white to be larger")

    def record(self) -> dict:
        """As a checkpoint's record says it, in `transform`."""
        levels = {} if self.white is None else {"black": self.black, "white": self.white}
        return levels | {"background": list(self.background)}

    @classmethod
    def of(cls, record: dict) -> "Reading":
        """The one that a record's `transform` says; the ordinary one where it says none."""
        return cls(**{name: record[name] for name in ("white", "black", "background") if record.get(name) is not None})


PLAIN = Reading()


def read_image(source: str | Path | bytes | Image.Image, reading: Reading = PLAIN) -> np.ndarray:
    """Any image as (h, w, 3) uint8 RGB, upright.

    Grey, palette, CMYK and 16-bit images are converted, transparency is laid over the background, of an animation the
    first frame is read.

    Args:
        source: a path, a file's bytes, or a PIL image.
        reading: what is white, and what lies behind transparent pixels.

    Raises:
        DatasetError: names the file that cannot be read, is of none of `pixels.FORMATS`, or does not say what is white.
    """
    return np.asarray(read_picture(source, reading))


def read_picture(source: str | Path | bytes | Image.Image, reading: Reading = PLAIN) -> Image.Image:
    """`read_image` as a PIL image, whose `info` has "transparent" and "frames" (pixels.read_rgb)."""
    try:
        return pixels.read_rgb(source, reading.white, reading.black, reading.background)
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        raise DatasetError(_why(source, error)) from error


@dataclass
class Levels:
    """What the images of more than 8 bits in a data set hold: for whole and for other numbers apart, how many images,
    the lowest and the highest number. `ranges`: {"whole" | "fractional": [images, low, high]}."""

    ranges: dict[str, list[float]]

    @classmethod
    def of(cls, found: Iterable[tuple[bool, float, float] | None]) -> "Levels":
        """Of what `pixels.deep_range` says of each image."""
        ranges: dict[str, list[float]] = {}
        for whole, low, high in filter(None, found):
            kind = "whole" if whole else "fractional"
            count, lowest, highest = ranges.get(kind, [0, low, high])
            ranges[kind] = [count + 1, min(lowest, low), max(highest, high)]
        return cls(ranges)

    def reading(self, asked: Reading, name: str) -> Reading:
        """One range for the whole data set: that which is asked for, else the usual one that holds all its numbers.
        DatasetError where whole numbers and others lie side by side and do not share one."""
        if not self.ranges or asked.white is not None:
            return asked
        usual = {kind: pixels.usual_range(low, high) for kind, (_, low, high) in self.ranges.items()}
        if len(set(usual.values())) > 1:
            told = [f"{kind} numbers from {low:g} to {high:g}" for kind, (_, low, high) in self.ranges.items()]
            raise DatasetError(
                f"{name}: images of more than 8 bits are of two kinds, {' and '.join(told)}, which have no white in "
                "common. Convert the ones into the others, or say what is white in both: white=..."
            )
        black, white = next(iter(usual.values()))
        return Reading(white, black, asked.background)

    def told(self, reading: Reading, name: str) -> str:
        """One line on how they are read; "" where there are none."""
        if not self.ranges:
            return ""
        count = int(sum(n for n, _, _ in self.ranges.values()))
        low, high = min(low for _, low, _ in self.ranges.values()), max(high for *_, high in self.ranges.values())
        usual = pixels.RANGES.get(reading.white) if reading.black == 0 else None
        return (
            f"{name}: grey levels of {count} images of more than 8 bits go from {low:g} to {high:g}; black is "
            f"{reading.black:g}, white {reading.white:g}" + (f" ({usual})" if usual else "")
        )


def _why(source: object, error: Exception) -> str:
    what = called(source)
    if isinstance(error, pixels.ImageError):
        return f"{what}: not read: {error}"
    return f"{what}: not a readable image ({error or type(error).__name__}); replace or remove it"


def called(source: object) -> str:
    """What an error calls an image that was given: its path, or what it is, never its content."""
    if isinstance(source, str | Path):
        return str(source)
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or f"a PIL image ({source.mode}, {source.width} x {source.height})"
    return "bytes" if isinstance(source, bytes) else f"a {type(source).__name__}"
