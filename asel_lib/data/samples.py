"""A few images to look at: a folder's, or some of the kind that a checkpoint was trained on."""

from pathlib import Path

import numpy as np
from PIL import Image

from asel_lib.data import catalog, synthetic
from asel_lib.data.decode import read_image
from asel_lib.data.sets import open_recorded
from asel_lib.errors import DatasetError

SEED = 2  # synthetic scenes of a seed of their own: none was trained on


def some_images(record: dict, folder: str | Path = "", count: int = 8) -> list[Image.Image]:
    """Up to `count` RGB images: the first of `folder` (searched below too), or, where that is "", images of the
    checkpoint's data set that it was not trained on: new synthetic scenes, or spread over its test part.

    DatasetError where the folder holds no image or one cannot be read; DatasetMissing where the set is not there.
    """
    if folder:
        return [Image.fromarray(read_image(file)) for file in _image_files(Path(folder))[:count]]
    if catalog.is_generated(record["dataset"]):
        closeup = record["dataset"] == "synthetic_closeups"
        size = record["transform"]["size"]
        return [Image.fromarray(synthetic.scene(i, SEED, size, closeup).image) for i in range(count)]
    images, split = open_recorded(record)
    chosen = split.test[np.linspace(0, len(split.test) - 1, count).astype(int)]
    return [Image.fromarray(np.asarray(images.pixels[index])) for index in chosen]


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder; give a folder of images")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in catalog.EXTENSIONS)
    files = [file for file in files if not any(part.startswith(".") for part in file.relative_to(folder).parts)]
    if not files:
        raise DatasetError(f"{folder}: no images in it; expected files ending in {', '.join(sorted(catalog.EXTENSIONS))}")
    return files
