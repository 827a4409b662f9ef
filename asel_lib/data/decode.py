"""From image files to one uint8 array: decoded once, kept on disk, opened memory-mapped.

The cache is rebuilt when a file appears, goes or changes: names, sizes, and both times of each file are compared, the
one that a copy may bring along and the one that only the system sets.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from asel_lib import paths, reproducibility
from asel_lib.data import catalog, generated, names, synthetic
from asel_lib.data.kept import Changed, kept_on_disk
from asel_lib.data.layout import ImageSet
from asel_lib.data.pixels import FORMATS, deep_range
from asel_lib.data.read_image import PLAIN, Levels, Reading, read_picture
from asel_lib.errors import DatasetError

UNREADABLE_SHARE = 0.01
AT_ONCE = 1024  # images that are decoded before they are waited for
VERSION = 2  # of reading and resizing: raised whenever the same file gives other pixels


@dataclass(frozen=True)
class ImageArray:
    """A data set in memory, or memory-mapped.

    Args:
        name: the data set's.
        pixels: uint8 (n, h, w, 3).
        labels: int64 (n,), positions in `classes`.
        classes: their names.
        names: of the images.
        digests: of the images' files.
        parts: of each image "train", "val" or "test", where the set has parts of its own.
        masks: bool (n, h, w), the object that decides the class, where it is known.
        reading: how the files were read.
        transparent: whether the background is seen in any of them.
    """

    name: str
    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    parts: tuple[str, ...] | None = None
    masks: np.ndarray | None = None
    reading: Reading = PLAIN
    transparent: bool = False

    def __post_init__(self):
        labels = np.asarray(self.labels).view()
        labels.setflags(write=False)  # a change makes another data set, which has another fingerprint
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """The same only for the same images under the same names, read in the same way; not for another size of the
        same images."""
        lines = sorted(f"{n}\t{d}\t{c}" for n, d, c in zip(self.names, self.digests, self.labels, strict=True))
        if self.reading.white is not None:
            lines.append(f"levels\t{self.reading.black:g}\t{self.reading.white:g}")
        if self.transparent:
            lines.append("background\t{}\t{}\t{}".format(*self.reading.background))
        return hashlib.sha256("\n".join([self.name, *self.classes, *lines]).encode()).hexdigest()[:16]


def load(
    name: str | Path,
    image_size: int,
    *,
    synthetic_images: int = 4000,
    download: bool = False,
    reading: Reading = PLAIN,
    check: Callable[[ImageSet], None] | None = None,
) -> ImageArray:
    """The images of a data set, with a progress bar where they have to be decoded first.

    Args:
        name: in the catalogue (`catalog.names`), or the path of an image folder.
        image_size: side in pixels. Images that share one smaller size are not enlarged.
        synthetic_images: how many scenes a generated set has.
        download: whether a public set that is not there is fetched.
        reading: what is white in images of more than 8 bits (None: the usual range that holds the numbers of the whole
            set, which is then the set's `reading`), and what lies behind transparent pixels. It is printed how many
            images needed that, and which were left out.
        check: looks at the files' names and classes before any is opened, and may raise.

    Raises:
        DatasetMissing: where it is not there; the message says what to put where.
        DatasetError: where it cannot be used.
    """
    if catalog.is_generated(name):
        return _generated(catalog.spec(name).name, image_size, synthetic_images)
    found = catalog.find(name, download=download)
    if check is not None:
        check(found)
    if found.name not in catalog.names():
        names.claim(found)
    manifest = _manifest(found)
    place = hashlib.sha256(str(found.root.resolve()).encode()).hexdigest()[:8]
    arrays, about = kept_on_disk(
        f"{found.name}-{image_size}-{place}",
        {"files": manifest, "image_size": image_size, "version": VERSION},
        lambda: _decode_all(found, image_size, reading),
        check=partial(_is_decoded, found, reading),
    )
    if about["left_out"]:
        warnings.warn(f"{about['left_out']}; left out", stacklevel=2)
    kept = np.asarray(about["kept"], dtype=int)
    return ImageArray(
        name=found.name,
        pixels=arrays["pixels"],
        labels=found.labels[kept],
        classes=found.classes,
        names=tuple(str(found.names[i]) for i in kept),
        digests=tuple(about["digests"]),
        parts=tuple(found.parts[i] for i in kept) if found.parts else None,
        reading=_resolved(about, reading, found.name),
        transparent=about["transparent"] > 0,
    )


def digest_of(content: bytes) -> str:
    """What identifies an image's file."""
    return hashlib.sha256(content).hexdigest()[:16]


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """(h, w, 3) uint8 -> (size, size, 3) uint8, bicubic with antialiasing, as files are when they are decoded."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    if pixels.shape[:2] == (size, size):
        return pixels
    tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)  # a copy: Pillow's memory is read-only
    return F.resize(tensor, [size, size], InterpolationMode.BICUBIC, antialias=True).permute(1, 2, 0).numpy()


def _manifest(found: ImageSet) -> list[tuple]:
    """What tells whether a file is still the one that was decoded. A link to nowhere is no reason to stop here:
    decoding reports it by its path."""
    entries = []
    for name, file in zip(found.names, found.files, strict=True):
        try:
            status = os.stat(file)
            entries.append((name, status.st_size, status.st_mtime_ns, status.st_ctime_ns))
        except OSError as error:
            entries.append((name, error.strerror))
    return entries


def _is_decoded(found: ImageSet, asked: Reading, arrays: dict[str, np.ndarray], about: dict) -> bool:
    """Whether what the cache holds can be the images of that set, read as they are asked for."""
    pixels, kept, digests = arrays["pixels"], about["kept"], about["digests"]
    fits = pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[3] == 3
    places = all(type(place) is int and 0 <= place < len(found.files) for place in kept)
    named = all(isinstance(text, str) for text in (*digests, about["left_out"]))
    told = type(about["transparent"]) is int
    if not (fits and places and named and told and len(pixels) == len(kept) == len(digests)):
        return False
    read, wanted = Reading.of(about["reading"]), _resolved(about, asked, found.name)
    if (read.white, read.black) != (wanted.white, wanted.black):
        raise Changed
    if about["transparent"] and read.background != wanted.background:
        raise Changed
    return True


def _resolved(about: dict, asked: Reading, name: str) -> Reading:
    """How the files are read, by what they hold and what is asked for. White and black are of files of more than 8
    bits: where there are none, they are not a part of it."""
    levels = Levels(about["levels"])
    return levels.reading(asked, name) if levels.ranges else Reading(background=asked.background)


def _decode_all(found: ImageSet, image_size: int, asked: Reading = PLAIN) -> tuple[dict[str, np.ndarray], dict]:
    """-> ({"pixels"}, {"kept": indices of the readable files, "digests": theirs, "left_out": what was not readable,
    "levels", "reading", "transparent": see `load`}). The pixels go to a file as they are decoded: RAM holds those that
    are at work."""
    with ThreadPoolExecutor(reproducibility.cores()) as pool:
        side, levels = _surveyed(found, image_size, pool)
        size, reading = side or image_size, _resolved({"levels": levels.ranges}, asked, found.name)

        def decode(file: Path) -> tuple[np.ndarray, str, dict] | str:
            try:
                content = file.read_bytes()
                picture = read_picture(content, reading)
                return resize(np.asarray(picture), size), digest_of(content), picture.info
            except (DatasetError, OSError) as error:
                return str(error).removeprefix("bytes: ")

        pixels, kept, digests, broken = _scratch((len(found.files), size, size, 3)), [], [], []
        transparent, frames, title = 0, 0, f"decoding {found.name}"
        for first in range(0, len(found.files), AT_ONCE):  # a map over all would decode ahead of the writing
            files = found.files[first : first + AT_ONCE]
            results = tqdm(pool.map(decode, files), title, len(found.files), initial=first, unit="img", leave=False)
            for number, result in enumerate(results, first):
                if isinstance(result, str):
                    broken.append((found.files[number], result))
                    continue
                pixels[len(kept)], digest, about = result
                kept.append(number)
                digests.append(digest)
                transparent, frames = transparent + about["transparent"], frames + (about["frames"] > 1)
    message = ""
    if broken:
        listed = ", ".join(str(file) for file, _ in broken[:5])
        listed += f" and {len(broken) - 5} more" if len(broken) > 5 else ""
        message = f"{found.name}: {len(broken)} of {len(found.files)} images cannot be read: {listed}"
        if len(broken) > UNREADABLE_SHARE * len(found.files):
            raise DatasetError(
                f"{message}; at most {UNREADABLE_SHARE:.0%} may be broken: replace or remove them. Of the first: "
                f"{broken[0][1]}"
            )
    background = "red {}, green {}, blue {}".format(*reading.background)
    told = (
        found.left_out_line,
        levels.told(reading, found.name),
        f"{found.name}: {transparent} images are transparent and lie over {background}" if transparent else "",
        f"{found.name}: of {frames} images of several frames the first is read" if frames else "",
    )
    for line in filter(None, told):
        print(line)
    about = {"kept": kept, "digests": digests, "left_out": message, "levels": levels.ranges}
    return {"pixels": pixels[: len(kept)]}, about | {"reading": reading.record(), "transparent": transparent}


def _surveyed(found: ImageSet, image_size: int, pool: ThreadPoolExecutor) -> tuple[int | None, Levels]:
    """By the files' headers: the side of the images where all are square, of one size and smaller than asked for, else
    None; and by the content of those of more than 8 bits, what numbers they hold."""

    def look(file: Path) -> tuple[tuple[int, int], tuple[bool, float, float] | None] | None:
        try:
            with Image.open(file, formats=FORMATS) as image:
                return image.size, deep_range(image)
        except Exception:  # it is reported when it is decoded
            return None

    seen = [one for one in pool.map(look, found.files) if one is not None]
    sizes = {size for size, _ in seen}
    side = next(iter(sizes))[0] if len(sizes) == 1 else None
    small = side is not None and sizes == {(side, side)} and side < image_size
    return side if small else None, Levels.of(deep for _, deep in seen)


def _scratch(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 in a file that has no name and goes with the array; in RAM where there is no room for it."""
    with contextlib.suppress(OSError):
        paths.cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=paths.cache()) as file:
            _reserve(file, max(1, int(np.prod(shape))))
            return np.memmap(file, np.uint8, "r+", shape=shape)
    return np.empty(shape, np.uint8)


def _reserve(file: BinaryIO, size: int) -> None:
    """Make an empty file that long, with room on the disk for all of it, or a full disk would be met as a bus error.
    OSError where there is no room."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    elif shutil.disk_usage(paths.cache()).free > size:  # macOS, Windows
        file.truncate(size)
    else:
        raise OSError(errno.ENOSPC, "no room on the disk", str(paths.cache()))


def _generated(name: str, image_size: int, count: int) -> ImageArray:
    scenes = generated.Scenes(name, count, image_size)
    names, digests = generated.identities(name, count)
    labels = np.arange(count) % len(synthetic.CLASSES)
    return ImageArray(name, scenes.pixels, labels, synthetic.CLASSES, names, digests, masks=scenes.masks)
