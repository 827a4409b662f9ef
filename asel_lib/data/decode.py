"""From image files to one uint8 array: decoded once, kept on disk, opened memory-mapped.

The cache is rebuilt when a file appears, goes or changes: names, sizes, and both times of each file are compared, the
one that a copy may bring along and the one that only the system sets.
"""

import contextlib
import hashlib
import io
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from asel_lib import paths, reproducibility
from asel_lib.data import catalog, generated, synthetic
from asel_lib.errors import DatasetError
from asel_lib.files import replace_file, replace_text

UNREADABLE_SHARE = 0.01
AT_ONCE = 1024  # images that are decoded before they are waited for
# Whatever a file is called, Pillow may take it for one of these only: others are read by worn code, or by other programs
# (an EPS is a program that Ghostscript runs).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
VERSION = 1  # of reading and resizing: raised whenever the same file gives other pixels


@dataclass(frozen=True)
class ImageArray:
    """A data set in memory (or memory-mapped): pixels uint8 (n, h, w, 3), labels int64 (n,).

    names and digests (of the files' bytes) identify the images, parts are the data set's own, if it has some;
    masks bool (n, h, w) mark the object that decides the class, where it is known.
    """

    name: str
    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]
    names: tuple[str, ...]
    digests: tuple[str, ...]
    parts: tuple[str, ...] | None = None
    masks: np.ndarray | None = None

    def __post_init__(self):
        labels = np.asarray(self.labels).view()
        labels.setflags(write=False)  # a change makes another data set, which has another fingerprint
        object.__setattr__(self, "labels", labels)

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """The same only for the same images under the same names; not for another size of the same images."""
        lines = sorted(f"{n}\t{d}\t{c}" for n, d, c in zip(self.names, self.digests, self.labels, strict=True))
        return hashlib.sha256("\n".join([self.name, *self.classes, *lines]).encode()).hexdigest()[:16]


def load(name: str | Path, image_size: int, *, synthetic_images: int = 4000, download: bool = False) -> ImageArray:
    """The data set of that name (see `catalog.names()`) or image folder, at `image_size` pixels or, where all its
    images are smaller than that and of one size, at their own. Progress bar where it has to be decoded first.

    DatasetMissing where it is not there (the message says what to put where); DatasetError where it cannot be used.
    """
    if catalog.is_generated(name):
        return _generated(catalog.spec(name).name, image_size, synthetic_images)
    found = catalog.find(name, download=download)
    manifest = _manifest(found)
    place = hashlib.sha256(str(found.root.resolve()).encode()).hexdigest()[:8]
    arrays, about = kept_on_disk(
        f"{found.name}-{image_size}-{place}",
        {"files": manifest, "image_size": image_size, "version": VERSION},
        lambda: _decode_all(found, image_size),
        check=partial(_is_decoded, len(found.files)),
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
    )


def read_image(source: str | Path | bytes | Image.Image) -> np.ndarray:
    """Any image -> (h, w, 3) uint8 RGB, upright. Grey, palette, CMYK and 16-bit images are converted; transparency
    is dropped. DatasetError with the path where it cannot be read, or is of none of FORMATS."""
    try:
        image = (
            source
            if isinstance(source, Image.Image)
            else Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS)
        )
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            # Pillow clips these to 255 when it converts; 16-bit images mean 65535 by white. The wider modes do not
            # say what they mean by it: values beyond a byte are taken for 16 bits.
            values = np.nan_to_num(np.asarray(image).astype(np.float64))
            if image.mode.startswith("I;16") or values.max(initial=0) > 255:
                values = values / 257
            image = Image.fromarray(np.clip(values.round(), 0, 255).astype(np.uint8))
        return np.asarray(image.convert("RGB"))
    except Exception as error:  # a damaged file makes Pillow's readers raise nearly anything
        what = "bytes" if isinstance(source, bytes) else source
        raise DatasetError(
            f"{what}: not a readable image ({error or type(error).__name__}); replace or remove it"
        ) from error


def digest_of(content: bytes) -> str:
    """What identifies an image's file."""
    return hashlib.sha256(content).hexdigest()[:16]


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """(h, w, 3) uint8 -> (size, size, 3) uint8, bicubic with antialiasing: the one resize of the project."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    if pixels.shape[:2] == (size, size):
        return pixels
    tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)  # a copy: Pillow's memory is read-only
    return F.resize(tensor, [size, size], InterpolationMode.BICUBIC, antialias=True).permute(1, 2, 0).numpy()


def _manifest(found: catalog.ImageSet) -> list[tuple]:
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


def _is_decoded(count: int, arrays: dict[str, np.ndarray], about: dict) -> bool:
    """Whether what the cache holds can be the images of `count` files."""
    pixels, kept, digests = arrays["pixels"], about["kept"], about["digests"]
    fits = pixels.dtype == np.uint8 and pixels.ndim == 4 and pixels.shape[3] == 3
    places = all(type(place) is int and 0 <= place < count for place in kept)
    named = all(isinstance(text, str) for text in (*digests, about["left_out"]))
    return fits and places and named and len(pixels) == len(kept) == len(digests)


def _decode_all(found: catalog.ImageSet, image_size: int) -> tuple[dict[str, np.ndarray], dict]:
    """-> ({"pixels"}, {"kept": indices of the readable files, "digests": theirs, "left_out": what was not readable}).
    The pixels go to a file as they are decoded: RAM holds those that are at work."""
    size = _native_side(found, image_size) or image_size

    def decode(file: Path) -> tuple[np.ndarray, str] | str:
        try:
            content = file.read_bytes()
            return resize(read_image(content), size), digest_of(content)
        except (DatasetError, OSError) as error:
            return str(error)

    pixels, kept, digests, broken = _scratch((len(found.files), size, size, 3)), [], [], []
    with ThreadPoolExecutor(reproducibility.cores()) as pool:
        title = f"decoding {found.name}"
        for first in range(0, len(found.files), AT_ONCE):  # a map over all would decode ahead of the writing
            files = found.files[first : first + AT_ONCE]
            results = tqdm(pool.map(decode, files), title, len(found.files), initial=first, unit="img", leave=False)
            for number, result in enumerate(results, first):
                if isinstance(result, str):
                    broken.append(found.files[number])
                    continue
                pixels[len(kept)], digest = result
                kept.append(number)
                digests.append(digest)
    message = ""
    if broken:
        listed = ", ".join(map(str, broken[:5])) + (f" and {len(broken) - 5} more" if len(broken) > 5 else "")
        message = f"{found.name}: {len(broken)} of {len(found.files)} images cannot be read: {listed}"
        if len(broken) > UNREADABLE_SHARE * len(found.files):
            raise DatasetError(f"{message}; at most {UNREADABLE_SHARE:.0%} may be broken: replace or remove them")
    return {"pixels": pixels[: len(kept)]}, {"kept": kept, "digests": digests, "left_out": message}


def _native_side(found: catalog.ImageSet, image_size: int) -> int | None:
    """The side of the images where all are square, of one size and smaller than asked for, by the files' headers."""
    side = None
    for file in found.files:
        try:
            with Image.open(file, formats=FORMATS) as image:
                width, height = image.size
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            continue  # it is reported when it is decoded
        if width != height or width >= image_size or side not in (None, width):
            return None
        side = width
    return side


def _scratch(shape: tuple[int, ...]) -> np.ndarray:
    """uint8 in a file that has no name and goes with the array; in RAM where there is no room for it."""
    with contextlib.suppress(OSError):
        paths.cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=paths.cache()) as file:
            os.posix_fallocate(file.fileno(), 0, max(1, int(np.prod(shape))))  # or a full disk is met as a bus error
            return np.memmap(file, np.uint8, "r+", shape=shape)
    return np.empty(shape, np.uint8)


def _generated(name: str, image_size: int, count: int) -> ImageArray:
    scenes = generated.Scenes(name, count, image_size)
    names, digests = generated.identities(name, count)
    labels = np.arange(count) % len(synthetic.CLASSES)
    return ImageArray(name, scenes.pixels, labels, synthetic.CLASSES, names, digests, masks=scenes.masks)


def kept_on_disk(
    stem: str, key: dict, make: Callable[[], tuple[dict, dict]], check: Callable[[dict, dict], bool] = lambda *_: True
) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and facts from the cache where they were made for the same `key`, else made and written; one line says so
    where others were there, or damaged ones. check: whether arrays and facts can be what `make` gives.

    <cache>/<stem>/<array>.npy and about.json, which is written last: without it, or with another key in it, or an
    array that does not fit it, the folder counts as not there.
    """
    key = json.loads(json.dumps(key))
    folder = paths.cache() / stem
    if (folder / "about.json").exists():
        try:
            return _read_kept(folder, key, check)
        except _Changed:
            print(f"{folder}: the files it was made of, or how it is made, changed: made again")
        except Exception as error:  # whatever numpy and json say of a damaged file
            print(f"{folder}: cannot be used ({type(error).__name__}: {str(error)[:200]}): made again")
    arrays, about = make()
    about |= {"key": key, "shapes": {n: a.shape for n, a in arrays.items()}}
    try:
        (folder / "about.json").unlink(missing_ok=True)
        for name, array in arrays.items():
            replace_file(folder / f"{name}.npy", lambda file, array=array: np.save(file, array, allow_pickle=False))
        replace_text(folder / "about.json", json.dumps(about))
    except OSError as error:
        warnings.warn(f"decoded images are not kept for next time: {error}", stacklevel=3)
        return arrays, about
    return {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in arrays}, about


class _Changed(Exception):
    """The cache is whole, and of something else."""


def _read_kept(folder: Path, key: dict, check: Callable[[dict, dict], bool]) -> tuple[dict[str, np.ndarray], dict]:
    about = json.loads((folder / "about.json").read_text())
    if about["key"] != key:
        raise _Changed
    arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in about["shapes"]}
    for name, array in arrays.items():
        if list(array.shape) != about["shapes"][name]:
            raise ValueError(f"{name}.npy is {array.shape}, expected {tuple(about['shapes'][name])}")
    if not check(arrays, about):
        raise ValueError("its arrays and about.json do not fit each other")
    return arrays, about
