"""The image sets we know: what exists, where it lies, where it comes from.

A set is a folder `<class>/*`, or `{train,val,test}/<class>/*` where it has its own split. It is asked for
by its name in the catalogue or by the path of any such folder.
"""

import difflib
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from asel_lib import paths
from asel_lib.data import download as downloads
from asel_lib.errors import DatasetError, DatasetMissing

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".ppm"})
PARTS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
LAYOUTS = "<class>/* or {train,val,test}/<class>/*"


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Files of one image set, sorted by their name below `root`. Nothing is decoded yet.

    name: for result files. files: n paths. labels: (n,) int64, positions in `classes` (folder names,
    sorted). parts: for each file "train", "val" or "test" where the set has its own split, else None.
    """

    name: str
    root: Path
    files: tuple[Path, ...] = field(repr=False)
    labels: np.ndarray = field(repr=False)
    classes: tuple[str, ...]
    parts: tuple[str, ...] | None = field(repr=False)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Each file's path below `root`, with forward slashes."""
        start = len(self.root.as_posix().rstrip("/")) + 1
        return tuple(file.as_posix()[start:] for file in self.files)


@dataclass(frozen=True)
class DatasetSpec:
    """An entry of the catalogue.

    classes: how many it must have. folders: where it may lie below data/ or the checkout, ours first, then
    the published names; none: it is generated. origin: who publishes it. url: a public archive, if any;
    inner: the folder in it that holds the class or part folders; images: how many it should have; md5: None
    for the archive of a moving branch, which nothing can be checked against.
    """

    name: str
    title: str
    classes: int
    folders: tuple[str, ...] = ()
    layout: str = "<class>/*.jpg"
    origin: str = ""
    url: str = ""
    inner: str = ""
    images: int = 0
    md5: str | None = None


_IMAGENET = {"layout": "{train,val}/<class>/*.JPEG", "origin": "https://image-net.org"}
# The addresses and digests of EuroSAT and Imagenette are those of torchvision.datasets; of CIFAR-10, whose version there
# consists of pickles, those of the binary version on its publisher's page.
_SPECS = {entry.name: entry for entry in (
    DatasetSpec("synthetic", "synthetic aerial scenes", 10),
    DatasetSpec("synthetic_closeups", "synthetic aerial close-ups", 10),
    DatasetSpec(
        "cifar10", "CIFAR-10", 10, ("cifar10", "CIFAR10", "CIFAR-10"), "{train,test}/<class>/*",
        url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", inner="cifar-10-batches-bin",
        images=60_000, md5="c32a1d4ab5d03f1284b67883e8d87530",
    ),
    DatasetSpec(
        "eurosat", "EuroSAT RGB", 10, ("eurosat", "eurosat/2750", "EuroSAT", "EuroSAT/2750", "EuroSAT_RGB"),
        url="https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
        "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
        inner="2750", images=27_000, md5="c8fa014336c82ac7804f0398fcb19387",
    ),
    DatasetSpec(
        "rsscn7", "RSSCN7", 7, ("rsscn7", "RSSCN7", "RSSCN7-master"),
        url="https://github.com/palewithout/RSSCN7/archive/refs/heads/master.zip",
        inner="RSSCN7-master", images=2_800,
    ),
    DatasetSpec(
        "aid", "AID", 30, ("aid", "AID-data", "AID", "AID-data/AID"),
        origin="https://captain-whu.github.io/AID/",
    ),
    DatasetSpec(
        "ucmerced", "UC Merced Land Use", 21,
        ("ucmerced", "UCMerced_LandUse/Images", "ucmerced/UCMerced_LandUse/Images"), "<class>/*.tif",
        origin="http://weegee.vision.ucmerced.edu/datasets/landuse.html",
    ),
    DatasetSpec(
        "imagenette", "Imagenette", 10, ("imagenette", "imagenette2-320", "imagenette2", "imagenette2-160"),
        "{train,val}/<class>/*.JPEG",
        url="https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz",
        inner="imagenette2-320", images=13_394, md5="3df6f0d01a2c9592104656642f5e78a3",
    ),
    DatasetSpec("imagenet10", "ImageNet-1k, 10 of it", 10, ("imagenet10", "ImageNet10"), **_IMAGENET),
    DatasetSpec("imagenet100", "ImageNet-1k, 100 of it", 100, ("imagenet100", "ImageNet100"), **_IMAGENET),
)}


def names() -> list[str]:
    """Names in the catalogue, the generated sets among them."""
    return list(_SPECS)


def spec(name: str) -> DatasetSpec:
    """The catalogue's entry of that name, in any case; DatasetError if there is none."""
    known = _in_catalog(name)
    if known is None:
        raise DatasetError(_unknown(name))
    return known


def is_generated(name: str | Path) -> bool:
    """Whether the set is drawn on the fly (asel_lib.data.synthetic) and has no files."""
    known = _in_catalog(name)
    return known is not None and not known.folders


def is_available(name_or_path: str | Path) -> bool:
    """Whether it is generated, or in the catalogue and complete, or a folder. Lists class folders only."""
    known = _in_catalog(name_or_path)
    if known is None:
        return _folder(name_or_path) is not None
    return not known.folders or _locate(known) is not None


def missing_message(name: str) -> str:
    """One line that says what to put where; DatasetError if the name is unknown."""
    known = spec(name)
    if not known.folders:
        return f"{known.name} ({known.title}) is generated, nothing has to be put anywhere"
    fetch = f"catalog.find({known.name!r}, download=True) fetches {known.url}"
    return (
        f"{known.name} ({known.title}, {known.classes} classes) is not there: put its images into "
        f"{paths.data() / known.folders[0]}/{known.layout} (also found: {', '.join(known.folders[1:])}); "
        + (fetch if known.url else f"it can be had from {known.origin}")
    )


def find(name_or_path: str | Path, download: bool = False) -> ImageSet:
    """The image set of that name in the catalogue (in any case), or in that folder.

    A relative path is looked for below the working folder, the checkout and data/. `download`: fetch a set
    that is not there, if it is public. Ignored are hidden files and folders, files that lie outside the
    class folders, and files with other endings than EXTENSIONS.

    Raises DatasetMissing, with `missing_message`, if the set is not there; DatasetError if the name is
    unknown or the folder is no image set: no images, one class, or an empty class folder. A model must not
    get an output for a class that nobody can see, nor lose one in silence, so that is for the user to settle.
    """
    known = _in_catalog(name_or_path)
    if known is None:
        folder = _folder(name_or_path)
        if folder is None:
            raise DatasetError(_unknown(name_or_path))
        owner = next((entry for entry in _SPECS.values() if _locate(entry) == folder), None)
        return _read(folder, owner.name if owner else _slug(folder))
    if not known.folders:
        raise DatasetError(f"{known.name} is generated and has no files: see asel_lib.data.synthetic")

    folder = _locate(known)
    if folder is None and (incomplete := _candidates(known)):
        where, count = incomplete[0]
        raise DatasetError(
            f"{known.name}: {where} has {count} class folders, expected {known.classes}; complete it "
            f"({known.layout}), or keep your part of it elsewhere and pass that folder's path"
        )
    if folder is None and download and known.url:
        folder = _download(known)
    if folder is None:
        raise DatasetMissing(missing_message(known.name))
    return _read(folder, known.name)


# --- names and places ---


def _in_catalog(name: str | Path) -> DatasetSpec | None:
    return None if isinstance(name, Path) else _SPECS.get(name.strip().lower())


def _folder(path: str | Path) -> Path | None:
    if not str(path).strip():  # as a path, "" would be the working folder
        return None
    tried = (base / Path(path).expanduser() for base in (Path.cwd(), paths.root(), paths.data()))
    return next((folder.resolve() for folder in tried if folder.is_dir()), None)


def _unknown(name: str | Path) -> str:
    likely = difflib.get_close_matches(str(name).strip().lower(), names(), n=1)
    return (
        f"data set {str(name)!r} is neither in the catalogue nor a folder."
        + (f" Did you mean {likely[0]!r}?" if likely else "")
        + f" Known: {', '.join(names())}; or the path of an image folder, {LAYOUTS}"
    )


def _slug(folder: Path) -> str:
    slug = re.sub(r"\W+", "_", folder.name.lower()).strip("_") or "images"
    return f"{slug}_folder" if slug in _SPECS else slug


def _candidates(known: DatasetSpec) -> list[tuple[Path, int]]:
    """Folders that this set may lie in, and how many classes each has; those without any left out."""
    places = [base / name for base in (paths.data(), paths.root()) for name in known.folders]
    there = [place.resolve() for place in places if place.is_dir()]
    counts = [len({class_folder.name for _, class_folder in _class_folders(place)}) for place in there]
    return [(place, count) for place, count in zip(there, counts, strict=True) if count]


def _locate(known: DatasetSpec) -> Path | None:
    # A wrong count also tells the set from the folder around it, e.g. eurosat/ from eurosat/2750/.
    return next((place for place, count in _candidates(known) if count == known.classes), None)


# --- reading a folder ---


def _read(folder: Path, name: str) -> ImageSet:
    by_part = _class_folders(folder)
    found: list[tuple[Path, str, str | None]] = []  # file, class, part
    for part, class_folder in by_part:
        around = {_identity(folder), _identity(class_folder.parent)}
        found += [(file, class_folder.name, part) for file in _images(class_folder, around)]
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
    )


def _check(folder: Path, by_part: list[tuple[str | None, Path]], filled: set[tuple[str | None, str]]) -> None:
    """`filled`: the (part, class) that have images. Raises DatasetError with what was found and is due."""
    expected = f"expected {LAYOUTS}, at least two classes, images {' '.join(sorted(EXTENSIONS))}"
    if not filled:
        flat = sum(_is_image(name) for name in os.listdir(folder))
        beside = f", {flat} images outside of class folders" if flat else ""
        raise DatasetError(f"{folder}: no images in {len(by_part)} class folders{beside}; {expected}")

    has_split = by_part[0][0] is not None
    stray = [sub.name for sub in _subfolders(folder) if has_split and sub.name.lower() not in PARTS]
    if stray:
        raise DatasetError(f"{folder}: {stray} beside train/, val/, test/; move them out; {expected}")
    labels = sorted({class_folder.name for _, class_folder in by_part})
    if len(labels) == 1:
        only = by_part[0][1]
        deeper = f"; or did you mean {only}?" if len(_subfolders(only)) > 1 else ""
        raise DatasetError(f"{folder}: only one class, {only.name!r}; {expected}{deeper}")
    # A class may be absent from val or test, never from the images that are learnt from.
    where, learnt = (folder / "train", "train") if has_split else (folder, None)
    if empty := [str(where / label) for label in labels if (learnt, label) not in filled]:
        listed = ", ".join(empty[:5]) + (" ..." if len(empty) > 5 else "")
        raise DatasetError(
            f"{folder}: {len(empty)} of {len(labels)} classes have no images: {listed}; put some there or "
            f"remove the class; {expected}"
        )


def _class_folders(folder: Path) -> list[tuple[str | None, Path]]:
    """(part, class folder) of each class folder; part is None where the set has no split of its own."""
    top = _subfolders(folder)
    parts = [(PARTS[sub.name.lower()], sub) for sub in top if sub.name.lower() in PARTS]
    kinds = {part for part, _ in parts}
    # "train" beside other folders may well be a class (railways); with "val" or "test" it is a split.
    if "train" in kinds and (len(kinds) > 1 or len(top) == 1):
        return [(part, class_folder) for part, sub in parts for class_folder in _subfolders(sub)]
    return [(None, sub) for sub in top]


def _images(class_folder: Path, around: set[tuple[int, int]]) -> Iterator[Path]:
    """Image files at any depth. Links are followed, but no folder is entered twice, nor one of `around`:
    the identities of the folders that the class lies in."""
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
        yield from (Path(here, file) for file in files if _is_image(file))


def _subfolders(folder: Path) -> list[Path]:
    return sorted(sub for sub in folder.iterdir() if sub.is_dir() and not _is_hidden(sub.name))


def _is_image(name: str) -> bool:
    return not _is_hidden(name) and os.path.splitext(name)[1].lower() in EXTENSIONS


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # the latter: what macOS adds to its zips


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


# --- downloading ---


def _download(known: DatasetSpec) -> Path:
    folder = paths.data() / known.folders[0]
    unpack = downloads.unpack_cifar10 if known.name == "cifar10" else downloads.unpack
    try:
        downloads.obtain(known.url, folder, md5=known.md5, inner=known.inner, unpack=unpack)
    except DatasetMissing as error:
        reason = " ".join(str(error).split())
        raise DatasetMissing(f"{missing_message(known.name)}; the download failed: {reason}") from error
    count = len(_read(folder, known.name).files)
    changed = "" if count == known.images else f", {known.images:,} expected: its publisher changed it"
    print(f"{known.name}: {count:,} images in {folder}{changed}")
    return folder
