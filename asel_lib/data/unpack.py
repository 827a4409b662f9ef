"""Unpack archives of images, all or nothing: the folder that they become appears in one rename."""

import contextlib
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

from asel_lib.errors import DatasetError

if TYPE_CHECKING:
    import numpy as np


def unpack(archive: Path, destination: Path, inner: str = "") -> Path:
    """Unpack a zip or tar (plain, gz, bz2, xz), all or nothing: the folder appears in one rename.

    Args:
        archive: the file.
        destination: the folder, which must not exist before, or be empty.
        inner: the folder in the archive whose content it gets; "": all.

    Raises:
        DatasetError: where the archive is damaged, or has a member that is absolute, climbs out by `..`, or is neither
            file nor folder (an archive of images needs no links).
    """
    with staged(destination) as stage:
        try:
            if zipfile.is_zipfile(archive):
                _unpack_zip(archive, stage)
            elif tarfile.is_tarfile(archive):
                _unpack_tar(archive, stage)
            else:
                raise DatasetError(f"{archive} is neither a zip nor a tar; remove it and download it again")
        except _DAMAGED as error:
            raise DatasetError(f"{archive} is damaged ({error}); remove it and download it again") from error
        except OSError as error:
            raise DatasetError(f"cannot unpack {archive} into {destination.parent}: {error}") from error
        if not (stage / inner).is_dir():
            found = sorted(path.name for path in stage.iterdir())[:5]
            raise DatasetError(f"{archive} has no folder {inner!r}, it holds {found}: its layout has changed")
        os.replace(stage / inner, destination)
    return destination


def unpack_cifar10(archive: Path, destination: Path, inner: str = "") -> Path:
    """CIFAR-10's binary batches as `{train,test}/<class>/NNNN.png`, each class numbered in the order of the batches, as
    the public copies of it as folders are: by these names a shipped checkpoint knows what it was trained on.

    (Its Python version holds pickles, which nothing here runs.) Arguments as of `unpack`.

    Raises:
        DatasetError: where a batch is not made of records of label and 32 x 32 pixels, or a label has no name.
    """
    from PIL import Image
    from tqdm.auto import tqdm

    with staged(destination) as stage:
        batches = unpack(archive, stage / "batches", inner)
        try:
            classes = (batches / "batches.meta.txt").read_text().split()
            if not all(name.isidentifier() for name in classes):
                raise ValueError(f"class names {classes}")
            for part, pattern in (("train", "data_batch_*.bin"), ("test", "test_batch.bin")):
                folders = [stage / "images" / part / name for name in classes]
                for folder in folders:
                    folder.mkdir(parents=True)
                records = [record for file in sorted(batches.glob(pattern)) for record in _cifar10_records(file)]
                count = Counter()
                for label, pixels in tqdm(records, f"cifar10 {part}"):
                    Image.fromarray(pixels).save(folders[label] / f"{count[label]:04d}.png")
                    count[label] += 1
        except (FileNotFoundError, IndexError, ValueError) as error:
            raise DatasetError(
                f"{archive} does not hold CIFAR-10's binary batches ({error}); download it again"
            ) from error
        os.replace(stage / "images", destination)
    return destination


def _cifar10_records(file: Path) -> Iterator[tuple[int, "np.ndarray"]]:
    """(label, pixels uint8 (32, 32, 3)): a byte, then the red, green and blue planes, row by row."""
    import numpy as np

    content = np.frombuffer(file.read_bytes(), np.uint8)
    if not len(content) or len(content) % 3073:
        raise ValueError(f"{file.name} has {len(content)} bytes, expected a multiple of 3073")
    for record in content.reshape(-1, 3073):
        yield int(record[0]), record[1:].reshape(3, 32, 32).transpose(1, 2, 0).copy()


@contextlib.contextmanager
def staged(destination: Path) -> Iterator[Path]:
    """An empty folder beside `destination` to build it in and rename from; gone when the block ends.

    What a killed process left is cleared first, so hold a lock where two processes may do the same work.
    """
    if not is_free(destination):
        raise DatasetError(f"{destination} is there already; move it away to unpack afresh")
    outer = destination.with_name(f".{destination.name}.unpacking")
    stage = outer / "content"  # one deeper, so that it can itself be renamed away
    try:
        shutil.rmtree(outer, ignore_errors=True)
        stage.mkdir(parents=True)
    except OSError as error:
        raise DatasetError(f"cannot write into {destination.parent}: {error}") from error
    try:
        yield stage
    finally:
        shutil.rmtree(outer, ignore_errors=True)


def is_free(destination: Path) -> bool:
    """Whether nothing lies there, or an empty folder."""
    return not destination.exists() or (destination.is_dir() and not any(destination.iterdir()))


# RuntimeError: zipfile's word for a member that is encrypted.
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, RuntimeError)


def _unpack_zip(archive: Path, folder: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        for member in opened.infolist():
            # The upper half holds Unix file modes; many writers leave the type bits empty.
            kind = stat.S_IFMT(member.external_attr >> 16)
            _refuse_unsafe(archive, member.orig_filename, kind in (0, stat.S_IFREG, stat.S_IFDIR))
        opened.extractall(folder)


def _unpack_tar(archive: Path, folder: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise DatasetError(f"unpacking {archive} safely needs Python 3.11.4 or newer; or unpack it by hand")

    def strict(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo:
        _refuse_unsafe(archive, member.name, member.isreg() or member.isdir())
        return tarfile.data_filter(member, path)

    with tarfile.open(archive) as opened:
        opened.extractall(folder, filter=strict)


def _refuse_unsafe(archive: Path, name: str, plain: bool) -> None:
    path = PureWindowsPath(name)  # knows both kinds of slash, and drives
    if path.drive or path.root or ".." in path.parts:
        raise DatasetError(f"{archive} is not safe: {name!r} leaves the folder; nothing was unpacked")
    if not plain:
        raise DatasetError(f"{archive} is not safe: {name!r} is a link or device; nothing was unpacked")
