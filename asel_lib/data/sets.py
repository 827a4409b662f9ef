"""Data sets as a run needs them: at the profile's size and split, or exactly as a checkpoint's record names them."""

import hashlib
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from asel_lib.configs import Profile
from asel_lib.data import lines
from asel_lib.data.batches import Batches
from asel_lib.data.by_name import split_by_name
from asel_lib.data.decode import ImageArray, load
from asel_lib.data.layout import ImageSet
from asel_lib.data.read_image import Reading
from asel_lib.data.splits import Split, check_counts, fingerprint_of, imbalance, make_split
from asel_lib.errors import CheckpointError


def open_set(
    profile: Profile, dataset: str, download: bool = False, reading: Reading | None = None
) -> tuple[ImageArray, Split]:
    """A data set at the profile's image size, split by its protocol; a strong imbalance is printed. reading None: the
    profile's. Errors as `decode.load` and `make_split`; that a class is too small is said before a file is opened."""
    reading = reading or Reading(**asdict(profile.reading))
    size, scenes = profile.model.image_size, profile.synthetic_images

    def check(found: ImageSet) -> None:
        if found.parts is None or profile.split_protocol != "published":
            check_counts(found.labels, found.classes, found.parts)

    images = load(dataset, size, synthetic_images=scenes, download=download, reading=reading, check=check)
    if line := imbalance(images.labels, images.classes):
        print(f"{images.name}: {line}")
    return images, split_of(images, profile.split_protocol, profile.split_seed)


def open_recorded(record: dict, dataset: str | Path = "") -> tuple[ImageArray, Split]:
    """The data and split of a checkpoint's record, and no other.

    Where the files are others, but those of another copy of a public set (other sizes, some more images), the parts are
    known by name, and the test part is what the training never saw (`by_name.split_by_name`): `split.protocol` is
    BY_NAME then.

    Args:
        record: the checkpoint's.
        dataset: where the images lie, if they moved.

    Raises:
        CheckpointError: where neither holds, so that no training image can come up in a test.
    """
    reading = Reading.of(record["transform"])
    source, size = dataset or record["source"], record["transform"]["size"]
    images = load(source, size, synthetic_images=record["images"], reading=reading)
    wanted = record["split"]
    split = split_of(images, wanted["protocol"], wanted["seed"])
    if images.fingerprint != record["dataset_fingerprint"] or split.fingerprint != wanted["fingerprint"]:
        try:
            return images, split_by_name(images, record)
        except CheckpointError as error:
            raise CheckpointError(
                f"{record['name']} was trained on other files of {images.name} ({record['images']} images, data "
                f"{record['dataset_fingerprint']}, split {wanted['fingerprint']}; here {len(images)} images, data "
                f"{images.fingerprint}, split {split.fingerprint}), so its test images are not known here: {error}. "
                "Put the same files back, or train it again"
            ) from error
    return images, split


def recorded_batches(
    images: ImageArray, indices: np.ndarray, record: dict, batch_size: int = 64, device: str | torch.device = "cpu"
) -> Batches:
    """Batches of these images, prepared as the checkpoint of that record expects them, with the line drawings that it
    was trained with, where these come from disk. CheckpointError where they are others by now."""
    prepared = record["transform"]
    drawn = drawings_of(images, record["model"]["selector"], prepared["size"], record.get("drawings", ""))
    if digest(drawn) != record.get("drawings_fingerprint", ""):
        raise CheckpointError(
            f"{record['name']} was trained with other line drawings ({record.get('drawings_fingerprint', 'unknown')}, "
            f"here {digest(drawn)}, {record.get('drawings') or 'informative'}): put them back, or train it again"
        )
    return Batches(
        images,
        indices,
        image_size=prepared["size"],
        mean=prepared["mean"],
        std=prepared["std"],
        batch_size=batch_size,
        device=device,
        lines=drawn,
    )


def drawings_of(images: ImageArray, selector: str, image_size: int, folder: str = "") -> np.ndarray | None:
    """The drawings that a model with that selector takes from disk, uint8 (n, 64, 64): those of a folder, or what the
    `informative` network made, too slow to make anew in every epoch. None: they are made of each batch as it is."""
    if folder:
        return lines.from_folder(folder, images)
    return lines.precomputed(images, "informative", image_size) if "lines=informative" in selector else None


def edited(images: ImageArray, split: Split) -> str:
    """ "" for a data set and a split as they were opened; else a digest of what was changed since then, which the
    fingerprints of files and parts do not know of."""
    changed, pixels = [], images.pixels
    # Read from the cache, or made where they are read, pixels cannot be written to; an array in memory is somebody's.
    if isinstance(pixels, np.ndarray) and not (isinstance(pixels, np.memmap) and pixels.mode == "r"):
        changed.append(hashlib.sha256(np.ascontiguousarray(images.pixels)).hexdigest())
    if split.fingerprint != fingerprint_of(images.names, split):
        changed.append(fingerprint_of(images.names, split))
    return hashlib.sha256("".join(changed).encode()).hexdigest()[:16] if changed else ""


def digest(drawn: np.ndarray | None) -> str:
    """What identifies drawings from disk; "" of none."""
    return "" if drawn is None else hashlib.sha256(np.ascontiguousarray(drawn)).hexdigest()[:16]


def split_of(images: ImageArray, protocol: str, seed: int, own_parts: bool = True) -> Split:
    """The split of these images; own_parts False: as if the set did not bring parts of its own."""
    return make_split(
        images.names,
        images.labels,
        images.classes,
        digests=images.digests,
        parts=images.parts if own_parts else None,
        protocol=protocol,
        seed=seed,
    )
