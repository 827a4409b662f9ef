"""An image file as RGB pixels: the one place where image files are opened and their numbers become grey levels.

It needs numpy and Pillow alone. An exported model takes a copy of this file along, so that it reads what training read.
"""

import contextlib
import io
import os
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageFile, ImageOps

# Whatever a file is called, Pillow may take it for one of these only: others are read by worn code, or by other
# programs (an EPS is a program that Ghostscript runs). MPO is opened as JPEG.
FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
EXTENSIONS = frozenset(
    ".bmp .gif .j2k .jfif .jp2 .jpe .jpeg .jpg .mpo .pbm .pgm .png .pnm .ppm .tif .tiff .webp".split()
)
PAPER = (255, 255, 255)  # what lies behind transparent pixels, unless something else is asked for
# What numbers of more than 8 bits usually mean by white.
RANGES = {
    1: "shares",
    255: "8 bits",
    1023: "10 bits",
    4095: "12 bits",
    10_000: "reflectance",
    16_383: "14 bits",
    65_535: "16 bits",
}
SIXTEEN_BITS = ("RGB;16", "RGBX;16", "RGBA;16", "LA;16")  # of colour: Pillow would read the upper byte alone


class ImageError(ValueError):
    """An image that is not read as it is. The message says why, and what to do, without the file's name."""


def read_rgb(source, white: float | None = None, black: float = 0.0, background=PAPER) -> Image.Image:
    """Any image as 8-bit RGB, upright; of several frames the first.

    Args:
        source: a path, a file's bytes, or a PIL image.
        white: the number that means white in images of more than 8 bits; None where the image itself can say. Black,
            white and what lies between are spread over 0 ... 255, what lies beyond is clipped.
        black: the number that means black there; NaN is black too.
        background: (red, green, blue) behind transparent pixels.

    Returns:
        the image; its `info` has "transparent" (whether the background is seen) and "frames" (more than 1: animated,
        or several pages).

    Raises:
        ImageError: more than 8 bits, and neither the caller nor the image says what is white; or beyond Pillow's limit.
        Exception: nearly anything that Pillow raises of a damaged file.
    """
    image = _opened(source)
    frames, deep = _frames(image), _numbers(source, image)
    if deep is None:
        rgb = ImageOps.exif_transpose(image)
        opacity = None
        if rgb.has_transparency_data:
            rgb = rgb.convert("RGBA")
            opacity = rgb.getchannel("A")
        rgb = rgb.convert("RGB")
    else:
        values, opacity = deep
        if image.format == "PPM":  # it says what is white, and Pillow has already made that 65535
            black, white = 0.0, 65_535
        elif white is None:
            white = _own_white(image.mode, *_extremes(values))
        rgb = Image.fromarray(_bytes(values, black, white)).convert("RGB")
    transparent = opacity is not None and opacity.getextrema()[0] < 255
    if transparent:
        rgb = Image.composite(rgb, Image.new("RGB", rgb.size, tuple(background)), opacity)
    rgb.info = {"transparent": transparent, "frames": frames}
    return rgb


def is_image_file(file) -> bool:
    """Whether a path's ending says that it is an image, or, where it has none, its content."""
    ending = os.path.splitext(file)[1].lower()
    if ending or not os.path.isfile(file):
        return ending in EXTENSIONS
    try:
        _opened(file).close()
    except Exception:  # whatever Pillow raises of a file that is no image
        return False
    return True


def image_files(*places) -> tuple[list[Path], int]:
    """The image files among these paths, folders searched below; and how many other files lie in the folders. Hidden
    ones are not counted. A path that is no folder is taken for an image."""
    found, others = [], 0
    for place in map(Path, places):
        below = sorted(place.rglob("*")) if place.is_dir() else []
        seen = [f for f in below if not f.is_dir() and not any(p[0] == "." for p in f.relative_to(place).parts)]
        images = [file for file in seen if is_image_file(file)]
        found += images if place.is_dir() else [place]
        others += len(seen) - len(images)
    return found, others


def deep_range(source) -> tuple[bool, float, float] | None:
    """(whether its numbers are whole, the lowest, the highest) of an image whose numbers need a white to be given;
    None of others. Errors as `read_rgb`."""
    image = _opened(source)
    deep = _numbers(source, image)
    if deep is None or image.format == "PPM":
        return None
    return image.mode != "F", *_extremes(deep[0])


def usual_range(low: float, high: float) -> tuple[float, float]:
    """(black, white) of images whose numbers go from low to high: the smallest usual range that holds them, or their
    own where there is none."""
    if low < 0:
        return (-1.0, 1.0) if low >= -1 and high <= 1 else (low, high)
    if 1 < high < 64 or high > 65_535:  # nearly black as 8 bits; beyond all
        return 0.0, high
    return 0.0, float(next(white for white in RANGES if white >= high))


def _opened(source) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    try:
        return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ImageError(
            f"{str(error).partition(', could be')[0]}, which Pillow sets against files that fill the memory: cut it "
            "into tiles (a mosaic shrunk to a model's input shows little), or, where you trust it, set "
            "PIL.Image.MAX_IMAGE_PIXELS = None before it is read"
        ) from error


def _frames(image: Image.Image) -> int:
    with contextlib.suppress(Exception):  # a broken second frame is no reason not to read the first
        return 1 if image.format == "MPO" else getattr(image, "n_frames", 1)  # MPO: a photograph and its previews
    return 1


def _numbers(source, image: Image.Image) -> tuple[np.ndarray, Image.Image | None] | None:
    """(numbers (h, w) or (h, w, 3) float32, opacity or None) of an image of more than 8 bits; None of others."""
    if image.mode[0] in "IF":
        values = np.asarray(ImageOps.exif_transpose(image)).astype(np.float32)
        clear = image.info.get("transparency")
        if not isinstance(clear, int):
            return values, None
        return values, Image.fromarray(np.where(values == clear, 0, 255).astype(np.uint8))
    raw = {_raw_mode(tile) for tile in getattr(image, "tile", ())}
    if not raw:
        _refuse_what_loading_cut(image)
    if not any(";16" in mode for mode in raw) or image.mode not in ("RGB", "RGBX", "RGBA", "LA"):
        return None
    first = min(raw)
    if len(raw) != 1 or first[:-1] not in SIXTEEN_BITS:
        raise ImageError(f"16 bits a channel in an order that is not read ({', '.join(sorted(raw))}): save it as PNG")
    return _sixteen_bits(source, image, first)


def _sixteen_bits(source, image: Image.Image, raw: str) -> tuple[np.ndarray, Image.Image | None]:
    """Pillow unpacks one byte of each number: read once for the upper, once for the lower bytes."""
    if isinstance(source, Image.Image):
        source = getattr(source, "filename", None) or _content(source.fp)
    upper, lower = _opened(source), _opened(source)
    if raw.startswith("LA"):
        for one in (upper, lower):  # four bytes a pixel: two of grey, two of opacity
            one._mode = "RGBA"
        _unpack(upper, "RGBA")
        both = np.asarray(ImageOps.exif_transpose(upper)).astype(np.float32)
        return 256 * both[..., 0] + both[..., 1], Image.fromarray(both[..., 2].astype(np.uint8))
    native = "L" if sys.byteorder == "little" else "B"
    _unpack(lower, raw[:-1] + ("B" if raw[-1].replace("N", native) == "L" else "L"))
    pair = [ImageOps.exif_transpose(one) for one in (upper, lower)]
    high, low = (np.asarray(one)[..., :3].astype(np.float32) for one in pair)
    return 256 * high + low, pair[0].getchannel("A") if image.mode == "RGBA" else None


def _content(opened) -> bytes:
    """Of a file that Pillow holds open, and goes on reading where it was."""
    place = opened.tell()
    opened.seek(0)
    content = opened.read()
    opened.seek(place)
    return content


def _refuse_what_loading_cut(image: Image.Image) -> None:
    """ImageError for an image that Pillow has loaded from a file of 16 bits a channel: of these it keeps 8."""
    cut = False
    with contextlib.suppress(Exception):  # there is no file, or another one by now
        if isinstance(image, ImageFile.ImageFile) and image.mode in ("RGB", "RGBX", "RGBA", "LA"):
            with _opened(image.filename) as again:
                cut = any(";16" in _raw_mode(tile) for tile in again.tile)
    if cut and again.format != "PPM":
        raise ImageError("of its 16 bits a channel Pillow keeps 8 when it is loaded: give the path of the file")


def _raw_mode(tile: tuple) -> str:
    """How Pillow's decoder will unpack the file's bytes; a tile is (codec, extents, offset, its arguments)."""
    given = tile[3] if isinstance(tile[3], tuple) else (tile[3],)
    return given[0] if given and isinstance(given[0], str) else ""


def _unpack(image: Image.Image, raw: str) -> None:
    """Have Pillow take the file's bytes for that raw mode."""
    for number, tile in enumerate(image.tile):
        given = (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw
        image.tile[number] = tile._replace(args=given) if hasattr(tile, "_replace") else (*tile[:3], given)


def _extremes(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _own_white(mode: str, low: float, high: float) -> float:
    """What is white by one image alone."""
    if low == high == 0 or (mode == "F" and low >= 0 and high <= 1):
        return 1.0
    if mode != "F" and low >= 0 and 16_383 < high <= 65_535:
        return 65_535.0
    fits = [f"white={white} ({what})" for white, what in RANGES.items() if white >= max(high, 255)]
    choices = ", ".join(fits) if low >= 0 and fits else f"black={low:g}, white={high:g} or what else they mean"
    raise ImageError(f"its grey levels go from {low:g} to {high:g}, and it does not say which is white: give {choices}")


def _bytes(values: np.ndarray, black: float, white: float) -> np.ndarray:
    scaled = (values - np.float32(black)) * np.float32(255 / (white - black))
    return np.nan_to_num(scaled, nan=0.0).round().clip(0, 255).astype(np.uint8)
