"""An image folder: which of its folders are parts and which classes, which files are images, and what is left out."""

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from asel_lib.data.pixels import EXTENSIONS, is_image_file
from asel_lib.errors import DatasetError

LAYOUTS = "<class>/* or {train,val,test}/<class>/*"
PARTS = {
    **dict.fromkeys(("train", "training", "trainset", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "valset", "dev", "eval", "evaluation"), "val"),
    **dict.fromkeys(("test", "testing", "testset", "tst"), "test"),
}
# Words that say nothing beside a part's: "train_images", "Test Set", "seg_train", "val2017".
FILLERS = frozenset("data dataset folder image images img imgs part photos pictures seg set sets split".split())


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Files of one image set, sorted by their name below `root`. Nothing is decoded yet.

    Args:
        name: for result files.
        root: the folder.
        files: n paths.
        labels: (n,) int64, positions in `classes`.
        classes: the folders' names, sorted.
        parts: for each file "train", "val" or "test" where the set has its own split, else None.
        left_out: why files are not among them -> how many.
    """

    name: str
    root: Path
    files: tuple[Path, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    parts: tuple[str, ...] | None = field(repr=False)
    left_out: dict[str, int] = field(repr=False, default_factory=dict)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Each file's path below `root`, with forward slashes."""
        start = len(self.root.as_posix().rstrip("/")) + 1
        return tuple(file.as_posix()[start:] for file in self.files)

    @property
    def left_out_line(self) -> str:
        """One line on the files that are left out, "" where there are none."""
        if not self.left_out:
            return ""
        why = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
        return f"{self.name}: {sum(self.left_out.values())} files are left out: {why}"


def read_folder(folder: Path, name: str) -> ImageSet:
    """The image set in that folder, called `name`.

    Raises:
        DatasetError: no images, one class, an empty class, a folder beside the parts, classes that look like parts.
    """
    by_part = class_folders(folder)
    found: list[tuple[Path, str, str | None]] = []  # file, class, part
    left_out: Counter[str] = Counter()
    for part, class_folder in by_part:
        around = {_identity(folder), _identity(class_folder.parent)}
        for file in _files(class_folder, around):
            if is_image_file(file):
                found.append((file, class_folder.name, part))
            else:
                left_out[_reason(file)] += 1
    outside = {folder} | {class_folder.parent for _, class_folder in by_part}
    left_out["outside of the class folders"] = sum(len(_own_files(place)) for place in outside)
    _check(folder, by_part, {(part, label) for _, label, part in found})

    found.sort(key=lambda entry: entry[0].as_posix())
    classes = tuple(sorted({label for _, label, _ in found}))
    position = {label: index for index, label in enumerate(classes)}
    return ImageSet(
        name=name,
        root=folder,
        files=tuple(file for file, _, _ in found),
        labels=np.array([position[label] for _, label, _ in found], dtype=np.int64),
        classes=classes,
        parts=None if by_part[0][0] is None else tuple(part for _, _, part in found),
        left_out={reason: count for reason, count in left_out.items() if count},
    )


def class_folders(folder: Path) -> list[tuple[str | None, Path]]:
    """(part, class folder) of each class folder; part is None where the set has no split of its own."""
    top = _subfolders(folder)
    parts = [(part, sub) for sub in top if (part := part_of(sub.name))]
    kinds = {part for part, _ in parts}
    # "train" beside other folders may well be a class (railways); with "val" or "test" it is a split.
    if "train" in kinds and (len(kinds) > 1 or len(top) == 1):
        return [(part, class_folder) for part, sub in parts for class_folder in _subfolders(sub)]
    return [(None, sub) for sub in top]


def part_of(name: str) -> str | None:
    """ "train", "val" or "test", where a folder's name says that and no more: Training, test_images, val2017."""
    words = [word for word in _words(name) if word not in FILLERS and not re.fullmatch(r"(19|20)\d\d", word)]
    return PARTS.get(words[0]) if len(words) == 1 else None


def _looks_like_part(name: str) -> bool:
    words = [word for word in _words(name) if word not in FILLERS and not word.isdigit()]
    return bool(words) and all(word in PARTS or word in ("fold", "folds") for word in words)


def _words(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"\d+|[^\W\d_]?[^\W\d_A-Z]+|[A-Z]+", name)]


def _check(folder: Path, by_part: list[tuple[str | None, Path]], filled: set[tuple[str | None, str]]) -> None:
    """`filled`: the (part, class) that have images. Raises DatasetError with what was found and is due."""
    expected = f"expected {LAYOUTS}, at least two classes, images {' '.join(sorted(EXTENSIONS))}"
    has_split = bool(by_part) and by_part[0][0] is not None
    like_parts = [sub.name for _, sub in by_part if not has_split and _looks_like_part(sub.name)]
    if len(like_parts) > 1:
        raise DatasetError(
            f"{folder}: its folders {', '.join(like_parts)} look like parts of a data set, not like classes. Is that a "
            "split? Then call them train/, val/ and test/ (train/ must be there), with the class folders in them. Are "
            "they classes? Then give them other names"
        )
    if not filled:
        flat = sum(is_image_file(file) for file in _own_files(folder))
        beside = f", {flat} images outside of class folders" if flat else ""
        raise DatasetError(f"{folder}: no images in {len(by_part)} class folders{beside}; {expected}")

    stray = [sub.name for sub in _subfolders(folder) if has_split and not part_of(sub.name)]
    if stray:
        raise DatasetError(f"{folder}: {stray} beside train/, val/, test/; move them out; {expected}")
    labels = sorted({class_folder.name for _, class_folder in by_part})
    if len(labels) == 1:
        only = by_part[0][1]
        deeper = f"; or did you mean {only}?" if len(_subfolders(only)) > 1 else ""
        raise DatasetError(f"{folder}: only one class, {only.name!r}; {expected}{deeper}")
    # A class may be absent from val or test, never from the images that are learnt from.
    learnt = "train" if has_split else None
    where = next(class_folder.parent for part, class_folder in by_part if part == learnt)
    if empty := [str(where / label) for label in labels if (learnt, label) not in filled]:
        listed = ", ".join(empty[:5]) + (" ..." if len(empty) > 5 else "")
        raise DatasetError(
            f"{folder}: {len(empty)} of {len(labels)} classes have no images: {listed}; put some there or "
            f"remove the class; {expected}"
        )


def _files(class_folder: Path, around: set[tuple[int, int]]) -> Iterator[Path]:
    """Files at any depth. Links are followed, but no folder is entered twice, nor one of `around`: the identities of
    the folders that the class lies in."""
    seen = around | {_identity(class_folder)}

    def is_new(sub: Path) -> bool:
        identity = _identity(sub)
        new = not _is_hidden(sub.name) and identity not in seen
        seen.add(identity)
        return new

    def fail(error: OSError) -> None:
        raise DatasetError(f"cannot list {error.filename}: {error.strerror}; make it readable") from error

    for here, subfolders, files in os.walk(class_folder, followlinks=True, onerror=fail):
        subfolders[:] = [sub for sub in sorted(subfolders) if is_new(Path(here, sub))]
        yield from (Path(here, file) for file in files if not _is_hidden(file))


def _own_files(folder: Path) -> list[Path]:
    """Those that lie in it themselves."""
    return [file for file in folder.iterdir() if not _is_hidden(file.name) and not file.is_dir()]


def _subfolders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not _is_hidden(sub.name))


def _reason(file: Path) -> str:
    return f"ending in {file.suffix.lower()}" if file.suffix else "without an ending and no images by their content"


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # the latter: what macOS adds to its zips


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
