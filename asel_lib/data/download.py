"""Fetch public archives (resumed after a cut, checksummed) and unpack them all or nothing.

Neither torchvision's download helpers nor pooch resume, hence the few lines on urllib here.
"""

import contextlib
import hashlib
import http.client
import lzma
import os
import re
import shutil
import stat
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, BinaryIO

from asel_lib.errors import DatasetError, DatasetMissing

if TYPE_CHECKING:
    import numpy as np

CHUNK = 1 << 20  # bytes
Unpacker = Callable[[Path, Path, str], Path]  # archive, destination, inner -> destination
SERVER_IS_BUSY = {408, 425, 429, 500, 502, 503, 504}  # HTTP answers that are worth another attempt


def fetch(
    url: str,
    destination: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    progress: bool = True,
    attempts: int = 5,
    timeout: float = 30.0,
    pause: float = 1.0,
) -> Path:
    """Download `url` to the file `destination`; a file that is there already is only checked.

    Bytes arrive in `<destination>.part`, and a later call goes on where the last one was cut. `timeout`
    and `pause` are in seconds; the pause doubles after each of the `attempts`.

    Raises DatasetMissing if the server cannot be reached, refuses, or breaks off; DatasetError if the
    digest is wrong (the download is removed then) or the disk cannot be written.
    """
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"cannot fetch {url!r}: expected an http:// or https:// address")
    destination = Path(destination)
    kind, expected = ("sha256", sha256) if sha256 else ("md5", md5)
    if destination.exists():
        _check_digest(destination, kind, expected, f"remove {destination} and start again")
        return destination

    part = destination.with_name(destination.name + ".part")
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        _download(url, part, expected is not None, progress, attempts, timeout, pause)
        try:
            _check_digest(part, kind, expected, "it was removed, start again")
        except DatasetError:
            _forget(part)
            raise
        os.replace(part, destination)
        _forget(part)
    except OSError as error:
        raise DatasetError(f"cannot write {destination}: {error}; free the disk and start again") from error
    return destination


def obtain(url: str, destination: Path, *, md5: str | None, inner: str, unpack: Unpacker) -> Path:
    """Fetch the archive at `url` and `unpack` it into the folder `destination`; the archive is not kept.

    Processes that ask for the same folder wait for each other: the first one does the work.
    """
    from filelock import FileLock

    stock = destination.with_name(".downloads")
    archive = stock / f"{destination.name}-{url.rsplit('/', 1)[1]}"
    try:
        stock.mkdir(parents=True, exist_ok=True)
        with FileLock(stock / f"{destination.name}.lock"):
            if _is_free(destination):
                fetch(url, archive, md5=md5)
                unpack(archive, destination, inner)
                archive.unlink()
    except OSError as error:
        raise DatasetError(f"cannot write into {stock}: {error}; free it or set ASEL_DATA") from error
    return destination


def unpack(archive: Path, destination: Path, inner: str = "") -> Path:
    """Unpack a zip or tar (plain, gz, bz2, xz) so that `destination` holds what lies below `inner` in it.

    All or nothing: `destination` appears in one rename, and must not exist before or be empty. Refused,
    as a DatasetError, are members that are absolute, climb out by `..`, or are neither file nor folder
    (an archive of images needs no links), and archives that are damaged.
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
    """CIFAR-10's binary batches as `{train,test}/<class>/NNNNN.png`, numbered as in the batches. (Its Python version
    holds pickles, which nothing here runs.) DatasetError where a batch is not made of records of label and 32 x 32
    pixels, or a label has no name."""
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
                for number, (label, pixels) in enumerate(tqdm(records, f"cifar10 {part}")):
                    Image.fromarray(pixels).save(folders[label] / f"{number:05d}.png")
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
    if not _is_free(destination):
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


def _is_free(destination: Path) -> bool:
    return not destination.exists() or (destination.is_dir() and not any(destination.iterdir()))


# --- downloading ---


class _Interrupted(Exception):
    """The network or the server gave way; what has arrived so far is kept."""


def _download(
    url: str, part: Path, has_digest: bool, progress: bool, attempts: int, timeout: float, pause: float
) -> None:
    for attempt in range(attempts):
        if attempt:
            time.sleep(pause * 2 ** (attempt - 1))
        try:
            return _download_rest(url, part, has_digest, progress, timeout)
        except _Interrupted as error:
            reason = error
    kept = f"; {part.stat().st_size:,} bytes are kept, start again to go on" if part.exists() else ""
    raise DatasetMissing(f"{url} could not be downloaded in {attempts} attempts ({reason}){kept}")


def _download_rest(url: str, part: Path, has_digest: bool, progress: bool, timeout: float) -> None:
    """One request for the bytes that `part` lacks."""
    from tqdm.auto import tqdm

    # Bytes of two versions of a file must not be joined: either the server says by its ETag that the
    # file is still the same, or the digest at the end tells.
    version = _version_file(part)
    etag = version.read_text() if version.exists() else None
    have = part.stat().st_size if part.exists() and (has_digest or etag) else 0
    headers = {"User-Agent": "asel_lib", "Accept-Encoding": "identity"}
    if have:
        headers |= {"Range": f"bytes={have}-"} | ({"If-Range": etag} if etag else {})

    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=timeout)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # nothing lies beyond the bytes we have
                if error.headers.get("Content-Range", "") == f"bytes */{have}":
                    return
                _forget(part)
                raise _Interrupted("the partial download did not fit the file") from error
            if error.code in SERVER_IS_BUSY:
                raise _Interrupted(f"HTTP {error.code} {error.reason}") from error
            raise DatasetMissing(f"{url} was refused: HTTP {error.code} {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(getattr(error, "reason", None) or error) from error

    with response:
        resumes = response.status == 206 and _starts_at(response.headers.get("Content-Range", "")) == have
        if response.status == 206 and not resumes:
            _forget(part)
            raise _Interrupted("the server sent other bytes than it was asked for")
        start = have if resumes else 0  # a server that ignores Range sends the whole file
        if not resumes:
            _forget(part)
            new_etag = response.headers.get("ETag", "")
            if new_etag.startswith('"'):  # a weak one (W/"...") does not promise the same bytes
                version.write_text(new_etag)
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        bar = tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=part.stem[:30], disable=not progress)
        with part.open("ab" if resumes else "wb") as file, bar:
            while chunk := _read(response):
                file.write(chunk)
                bar.update(len(chunk))
            size = file.tell()
    if total is not None and size != total:  # http.client takes an early end for the end
        raise _Interrupted(f"cut off after {size:,} of {total:,} bytes")


def _read(response: BinaryIO) -> bytes:
    # Apart from the write, so that a full disk is not taken for a bad network. read1 returns what has
    # arrived: a cut loses at most that, not a whole chunk.
    try:
        return response.read1(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _Interrupted(error) from error


def _starts_at(content_range: str) -> int | None:
    match = re.match(r"bytes (\d+)-", content_range)
    return int(match[1]) if match else None


def _version_file(part: Path) -> Path:
    return part.with_name(part.name + ".etag")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _version_file(part).unlink(missing_ok=True)


def _check_digest(file: Path, kind: str, expected: str | None, advice: str) -> None:
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, kind if expected else "sha256").hexdigest()
    if not expected:
        print(f"{file.name}: sha256 {found}, not verified (its publisher gives no checksum)")
    elif found != expected.lower():
        raise DatasetError(f"{file} is not the file we know: {kind} {found}, expected {expected}; {advice}")


# --- unpacking ---

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
