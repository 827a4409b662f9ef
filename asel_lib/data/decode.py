"""From image files to one uint8 array: decoded once, kept on disk, opened memory-mapped.

The cache is rebuilt when a file appears, goes or changes (names, sizes and modification times are compared).
"""

import contextlib
import hashlib
import io
import json
import os
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm.auto import tqdm

from asel_lib import paths
from asel_lib.data import catalog, generated, synthetic
from asel_lib.errors import DatasetError
from asel_lib.files import replace_file, replace_text

UNREADABLE_SHARE = 0.01
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
    manifest = [(str(n), s.st_size, s.st_mtime_ns) for n, s in zip(found.names, map(os.stat, found.files), strict=True)]
    place = hashlib.sha256(str(found.root.resolve()).encode()).hexdigest()[:8]
    arrays, about = kept_on_disk(
        f"{found.name}-{image_size}-{place}",
        {"files": manifest, "image_size": image_size, "version": VERSION},
        lambda: _decode_all(found, image_size),
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
    is dropped. DatasetError with the path where it cannot be read."""
    try:
        image = (
            source
            if isinstance(source, Image.Image)
            else Image.open(io.BytesIO(source) if isinstance(source, bytes) else source)
        )
        image = ImageOps.exif_transpose(image)
        if image.mode.startswith(("I", "F")):
            # Pillow clips these to 255 when it converts; 16-bit images mean 65535 by white. The wider modes do not
            # say what they mean by it: values beyond a byte are taken for 16 bits.
            values = np.asarray(image).astype(np.float64)
            if image.mode.startswith("I;16") or values.max(initial=0) > 255:
                values = values / 257
            image = Image.fromarray(np.clip(values.round(), 0, 255).astype(np.uint8))
        return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, TypeError, Image.DecompressionBombError) as error:
        what = "bytes" if isinstance(source, bytes) else source
        raise DatasetError(
            f"{what}: not a readable image ({error or type(error).__name__}); replace or remove it"
        ) from error


def resize(pixels: np.ndarray, size: int) -> np.ndarray:
    """(h, w, 3) uint8 -> (size, size, 3) uint8, bicubic with antialiasing: the one resize of the project."""
    import torch
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as F

    if pixels.shape[:2] == (size, size):
        return pixels
    tensor = torch.from_numpy(np.array(pixels)).permute(2, 0, 1)  # a copy: Pillow's memory is read-only
    return F.resize(tensor, [size, size], InterpolationMode.BICUBIC, antialias=True).permute(1, 2, 0).numpy()


def _decode_all(found: catalog.ImageSet, image_size: int) -> tuple[dict[str, np.ndarray], dict]:
    """-> ({"pixels"}, {"kept": indices of the readable files, "digests": theirs, "left_out": what was not readable})"""

    def decode(file: Path) -> tuple[np.ndarray, str] | str:
        try:
            content = file.read_bytes()
            pixels = read_image(content)
        except (DatasetError, OSError) as error:
            return str(error)
        native = pixels.shape[0] == pixels.shape[1] < image_size
        return (pixels if native else resize(pixels, image_size)), hashlib.sha256(content).hexdigest()[:16]

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(
            tqdm(pool.map(decode, found.files), f"decoding {found.name}", len(found.files), unit="img", leave=False)
        )
    kept = [i for i, result in enumerate(results) if not isinstance(result, str)]
    broken = [found.files[i] for i, result in enumerate(results) if isinstance(result, str)]
    message = ""
    if broken:
        listed = ", ".join(map(str, broken[:5])) + (f" and {len(broken) - 5} more" if len(broken) > 5 else "")
        message = f"{found.name}: {len(broken)} of {len(results)} images cannot be read: {listed}"
        if len(broken) > UNREADABLE_SHARE * len(results):
            raise DatasetError(f"{message}; at most {UNREADABLE_SHARE:.0%} may be broken: replace or remove them")
    sizes = {results[i][0].shape for i in kept}
    size = next(iter(sizes))[0] if len(sizes) == 1 else image_size
    pixels = np.stack([resize(results[i][0], size) for i in kept])
    return {"pixels": pixels}, {"kept": kept, "digests": [results[i][1] for i in kept], "left_out": message}


def _generated(name: str, image_size: int, count: int) -> ImageArray:
    scenes = generated.Scenes(name, count, image_size)
    names, digests = generated.identities(name, count)
    labels = np.arange(count) % len(synthetic.CLASSES)
    return ImageArray(name, scenes.pixels, labels, synthetic.CLASSES, names, digests, masks=scenes.masks)


def kept_on_disk(stem: str, key: dict, make: Callable[[], tuple[dict, dict]]) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and facts from the cache where they were made for the same `key`, else made and written.

    <cache>/<stem>/<array>.npy and about.json, which is written last: without it, or with another key in it, or an
    array that does not fit it, the folder counts as not there.
    """
    key = json.loads(json.dumps(key))
    folder = paths.cache() / stem
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        about = json.loads((folder / "about.json").read_text())
        if about["key"] == key:
            arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in about["shapes"]}
            if all(list(a.shape) == about["shapes"][n] for n, a in arrays.items()):
                return arrays, about
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
