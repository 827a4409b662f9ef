"""The image sets we know: what exists, where it lies, where it comes from.

A set is a folder `<class>/*`, or `{train,val,test}/<class>/*` where it has its own split. It is asked for
by its name in the catalogue or by the path of any such folder.
"""

import difflib
from dataclasses import dataclass, replace
from pathlib import Path

from asel_lib import paths
from asel_lib.data import download as downloads
from asel_lib.data import unpack as archives
from asel_lib.data.layout import LAYOUTS, ImageSet, class_folders, read_folder
from asel_lib.data.names import name_of
from asel_lib.errors import DatasetError, DatasetMissing


@dataclass(frozen=True)
class DatasetSpec:
    """An entry of the catalogue.

    Args:
        name: by which it is asked for.
        title: for people.
        classes: how many it must have.
        folders: where it may lie below data/ or the checkout, ours first, then the published names; none: it is
            generated.
        layout: of the files below such a folder.
        origin: who publishes it.
        url: of a public archive, "" where there is none.
        inner: the folder in the archive that holds the class or part folders.
        images: how many the archive should have.
        md5: of the archive; None for that of a moving branch, which nothing can be checked against.
        seed: of a generated set's scenes (`data.synthetic`); sets of different seeds share no scene.
        closeup: whether a generated set's scenes are seen from close up.
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
    seed: int = 0
    closeup: bool = False


_IMAGENET = {"layout": "{train,val}/<class>/*.JPEG", "origin": "https://image-net.org"}
# The addresses and digests of EuroSAT and Imagenette are those of torchvision.datasets; of CIFAR-10, whose version
# there consists of pickles, those of the binary version on its publisher's page.
_SPECS = {
    entry.name: entry
    for entry in (
        # Of different seeds: no scene is a warm-up picture seen from further away.
        DatasetSpec("synthetic", "synthetic aerial scenes", 10, seed=0),
        DatasetSpec("synthetic_closeups", "synthetic aerial close-ups", 10, seed=1, closeup=True),
        DatasetSpec(
            "cifar10",
            "CIFAR-10",
            10,
            ("cifar10", "CIFAR10", "CIFAR-10"),
            "{train,test}/<class>/*",
            url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
            inner="cifar-10-batches-bin",
            images=60_000,
            md5="c32a1d4ab5d03f1284b67883e8d87530",
        ),
        DatasetSpec(
            "eurosat",
            "EuroSAT RGB",
            10,
            ("eurosat", "eurosat/2750", "EuroSAT", "EuroSAT/2750", "EuroSAT_RGB"),
            url="https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
            "c877bcd43f099cd0196738f714544e355477f3fd/EuroSAT.zip",
            inner="2750",
            images=27_000,
            md5="c8fa014336c82ac7804f0398fcb19387",
        ),
        DatasetSpec(
            "rsscn7",
            "RSSCN7",
            7,
            ("rsscn7", "RSSCN7", "RSSCN7-master"),
            url="https://github.com/palewithout/RSSCN7/archive/refs/heads/master.zip",
            inner="RSSCN7-master",
            images=2_800,
        ),
        DatasetSpec(
            "aid", "AID", 30, ("aid", "AID-data", "AID", "AID-data/AID"), origin="https://captain-whu.github.io/AID/"
        ),
        DatasetSpec(
            "ucmerced",
            "UC Merced Land Use",
            21,
            ("ucmerced", "UCMerced_LandUse/Images", "ucmerced/UCMerced_LandUse/Images"),
            "<class>/*.tif",
            origin="http://weegee.vision.ucmerced.edu/datasets/landuse.html",
        ),
        DatasetSpec(
            "imagenette",
            "Imagenette",
            10,
            ("imagenette", "imagenette2-320", "imagenette2", "imagenette2-160"),
            "{train,val}/<class>/*.JPEG",
            url="https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-320.tgz",
            inner="imagenette2-320",
            images=13_394,
            md5="3df6f0d01a2c9592104656642f5e78a3",
        ),
        DatasetSpec("imagenet10", "ImageNet-1k, 10 of it", 10, ("imagenet10", "ImageNet10"), **_IMAGENET),
        DatasetSpec("imagenet100", "ImageNet-1k, 100 of it", 100, ("imagenet100", "ImageNet100"), **_IMAGENET),
    )
}


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
    """The image set of that name in the catalogue, or in that folder.

    Hidden files and folders are ignored; files that lie outside the class folders or are no images
    (`pixels.is_image_file`) are counted in `left_out`. A folder is called by its last name, or by more of its path
    where that name stands for another set (`names`). A model must not get an output for a class that nobody can see,
    nor lose one in silence: what leaves that open is an error.

    Args:
        name_or_path: a name in any case, or a path; a relative one is looked for below the working folder, the checkout
            and data/.
        download: whether to fetch a set that is not there, if it is public.

    Raises:
        DatasetMissing: with `missing_message`, where the set is not there.
        DatasetError: where the name is unknown, or the folder is no image set: no images, one class, an empty class
            folder, or classes that look like parts.
    """
    known = _in_catalog(name_or_path)
    if known is None:
        folder = _folder(name_or_path)
        if folder is None:
            raise DatasetError(_unknown(name_or_path))
        owner = next((entry for entry in _SPECS.values() if _locate(entry) == folder), None)
        if owner:
            return read_folder(folder, owner.name)
        found = read_folder(folder, "")
        return replace(found, name=name_of(found, reserved=_SPECS))
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
    return read_folder(folder, known.name)


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


def _candidates(known: DatasetSpec) -> list[tuple[Path, int]]:
    """Folders that this set may lie in, and how many classes each has; those without any left out."""
    places = [base / name for base in (paths.data(), paths.root()) for name in known.folders]
    there = [place.resolve() for place in places if place.is_dir()]
    counts = [len({class_folder.name for _, class_folder in class_folders(place)}) for place in there]
    return [(place, count) for place, count in zip(there, counts, strict=True) if count]


def _locate(known: DatasetSpec) -> Path | None:
    # A wrong count also tells the set from the folder around it, e.g. eurosat/ from eurosat/2750/.
    return next((place for place, count in _candidates(known) if count == known.classes), None)


# --- downloading ---


def _download(known: DatasetSpec) -> Path:
    folder = paths.data() / known.folders[0]
    unpack = archives.unpack_cifar10 if known.name == "cifar10" else archives.unpack
    try:
        downloads.obtain(known.url, folder, md5=known.md5, inner=known.inner, unpack=unpack)
    except DatasetMissing as error:
        reason = " ".join(str(error).split())
        raise DatasetMissing(f"{missing_message(known.name)}; the download failed: {reason}") from error
    count = len(read_folder(folder, known.name).files)
    changed = "" if count == known.images else f", {known.images:,} expected: its publisher changed it"
    print(f"{known.name}: {count:,} images in {folder}{changed}")
    return folder
