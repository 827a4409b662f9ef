"""Another copy of a data set than the one that a checkpoint was trained on: its images are known by their names.

Public sets are passed on in other sizes and encodings, and parts of them. A record says by name which images its
training was on; in a copy of the same set these are its train and val parts, and what the training never saw is tested.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath

import numpy as np

from asel_lib.data import catalog
from asel_lib.data.decode import ImageArray
from asel_lib.data.splits import BY_NAME, Split, fingerprint_of
from asel_lib.errors import CheckpointError


def seen(images: ImageArray, split: Split) -> dict[str, str]:
    """The names, without their endings, of the images that a training was on ("train") and was chosen on ("val"), a
    line each: what a record says of them."""
    stems = np.array([_stem(name) for name in images.names])
    return {part: "\n".join(sorted(stems[getattr(split, part)])) for part in ("train", "val")}


def split_by_name(images: ImageArray, record: dict) -> Split:
    """The parts of another copy of the data set that a record was trained on, by the names of the images.

    Args:
        images: the copy.
        record: of a checkpoint; `seen` in it says which images it was trained and chosen on.

    Returns:
        A split whose test part is every image that the training never saw, under no name and in no file of the same
        bytes; where the set brings a test part of its own, only those in it.

    Raises:
        CheckpointError: as of `find_seen`, or where nothing is left to test.
    """
    train, val = find_seen(images.names, images.classes, record)
    digests, known = np.array(images.digests), np.concatenate([train, val])
    test = np.setdiff1d(np.arange(len(images)), known)
    test = test[~np.isin(digests[test], digests[known])]
    if images.parts is not None:
        parts = np.array(images.parts)
        test = test[parts[test] == ("test" if (parts == "test").any() else "val")]
    if not len(test):
        raise CheckpointError(f"its training saw every image of {images.name} that is here, so none is left to test it")
    split = Split(train, val, test, BY_NAME, record["split"]["seed"], "")
    return replace(split, fingerprint=fingerprint_of(images.names, split))


def find_seen(names: Sequence[str], classes: Sequence[str], record: dict) -> tuple[np.ndarray, np.ndarray]:
    """Where the images of a record's training stand in another copy of its set. No file is opened.

    Args:
        names: of the copy's images, below its root. Their endings do not count, nor does upper or lower case.
        classes: of the copy.
        record: of a checkpoint.

    Returns:
        Indices of the images that it was trained on, and of those that it was chosen on, each in rising order.

    Raises:
        CheckpointError: names prove nothing: the set is none of the catalogue (only there does a name stand for one
            image, wherever the copy is from), the record names no images, classes differ, or a name is not here. It
            says which.
    """
    dataset, known = record["dataset"], record.get("seen")
    if not known or dataset not in catalog.names() or catalog.is_generated(dataset):
        raise CheckpointError(f"its images of {dataset} are not the ones here, byte by byte")
    if [name.lower() for name in record["classes"]] != [name.lower() for name in classes]:
        other = sorted({*record["classes"]} ^ {*classes}) or classes
        raise CheckpointError(
            f"it has other classes ({len(record['classes'])}, here {len(classes)}; not in both: {', '.join(other[:3])})"
        )
    stems = [_stem(name).lower() for name in names]
    place = {stem: index for index, stem in enumerate(stems)}
    if len(place) < len(stems):
        twice = next(name for name, stem in zip(names, stems, strict=True) if names[place[stem]] != name)
        raise CheckpointError(f"two images here are called {_stem(twice)}, so a name does not say which one it saw")
    wanted = {part: known.get(part, "").lower().splitlines() for part in ("train", "val")}
    if unknown := [stem for part in wanted.values() for stem in part if stem not in place]:
        raise CheckpointError(
            f"it saw {len(unknown)} images of {dataset} that are not here by their names, the first is {unknown[0]}"
        )
    train, val = (np.array(sorted(place[stem] for stem in wanted[part]), dtype=int) for part in ("train", "val"))
    return train, val


def _stem(name: str) -> str:
    return PurePosixPath(name).with_suffix("").as_posix()
