"""A few images to look at: a folder's, or some of the kind that a checkpoint was trained on."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from asel_lib.data import catalog, generated, synthetic
from asel_lib.data.decode import digest_of, resize
from asel_lib.data.pixels import EXTENSIONS, image_files
from asel_lib.data.read_image import Reading, read_image
from asel_lib.data.sets import open_recorded
from asel_lib.errors import AselError, DatasetError

SEED = 2  # synthetic scenes of a seed of their own: no set of the catalogue has it


def some_images(record: dict, folder: str | Path = "", count: int = 8) -> list[Image.Image]:
    """A few RGB images to show a model.

    Args:
        record: the checkpoint's.
        folder: whose first images are taken (it is searched below, too); "": images of the checkpoint's data set that
            it was not trained on: new synthetic scenes, or spread over its test part.
        count: at most so many.

    Raises:
        DatasetError: where the folder holds no image or one cannot be read.
        DatasetMissing: where the set is not there.
    """
    if folder:
        reading = Reading.of(record.get("transform", {}))
        return [Image.fromarray(read_image(file, reading)) for file in _image_files(Path(folder))[:count]]
    if catalog.is_generated(record["dataset"]):
        closeup, size = catalog.spec(record["dataset"]).closeup, record["transform"]["size"]
        return [Image.fromarray(synthetic.scene(i, SEED, size, closeup).image) for i in range(count)]
    images, split = open_recorded(record)
    chosen = split.test[np.linspace(0, len(split.test) - 1, count).astype(int)]
    return [Image.fromarray(np.asarray(images.pixels[index])) for index in chosen]


def named_images(source: str | Path, names: Sequence[str], digests: Sequence[str], size: int) -> dict[str, np.ndarray]:
    """name -> (size, size, 3) uint8 of those of these images of a data set that are here and are the same by their
    digests; nothing of a set that is not here. source: its name, or its folder. No other image is read."""
    if catalog.is_generated(source):
        name = catalog.spec(source).name
        found = (_scene(name, image, digest, size) for image, digest in zip(names, digests, strict=True))
    else:
        try:
            root = catalog.find(source).root
        except AselError:
            return {}
        found = (_file(root / image, digest, size) for image, digest in zip(names, digests, strict=True))
    return {name: pixels for name, pixels in zip(names, found, strict=True) if pixels is not None}


def _scene(name: str, image: str, digest: str, size: int) -> np.ndarray | None:
    """Scene `image` of a generated set ("synthetic/0/000012"), where it is still drawn as it was."""
    number = image.rpartition("/")[2]
    if not number.isdigit() or (image, digest) != generated.identity(name, int(number)):
        return None
    spec = catalog.spec(name)
    return synthetic.scene(int(number), spec.seed, size, spec.closeup).image


def _file(file: Path, digest: str, size: int) -> np.ndarray | None:
    try:
        content = file.read_bytes()
        return resize(read_image(content), size) if digest_of(content) == digest else None
    except (OSError, DatasetError):
        return None


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give a folder of images")
    files, _ = image_files(folder)
    if not files:
        raise DatasetError(f"{folder}: no images in it; expected files ending in {', '.join(sorted(EXTENSIONS))}")
    return files
