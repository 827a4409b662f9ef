"""Fetch public files, resumed after a cut and checksummed.

Neither torchvision's download helpers nor pooch resume, hence the few lines on urllib here.
"""

import hashlib
import http.client
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from asel_lib.data.unpack import is_free
from asel_lib.errors import DatasetError, DatasetMissing

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
    """Download a file; one that is there already is only checked.

    Bytes arrive in `<destination>.part`, and a later call goes on where the last one was cut.

    Args:
        url: an http(s) address.
        destination: the file.
        sha256: its digest, where it is known.
        md5: the same by MD5.
        progress: whether a bar is shown.
        attempts: how often the server is asked.
        timeout: of one wait for the server, seconds.
        pause: between the first two attempts, seconds; it doubles from one to the next.

    Raises:
        DatasetMissing: where the server cannot be reached, refuses, or breaks off.
        DatasetError: where the digest is wrong (the download is removed then) or the disk cannot be written.
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
    """Fetch an archive and unpack it into a folder; the archive is not kept.

    Processes that ask for the same folder wait for each other: the first one does the work.

    Args:
        url: of the archive.
        destination: the folder.
        md5: of the archive; None: unknown.
        inner: the folder in the archive that becomes `destination`.
        unpack: called with archive, destination and inner.

    Raises:
        DatasetMissing, DatasetError: as of `fetch` and of `unpack`.
    """
    from filelock import FileLock

    stock = destination.with_name(".downloads")
    archive = stock / f"{destination.name}-{url.rsplit('/', 1)[1]}"
    try:
        stock.mkdir(parents=True, exist_ok=True)
        with FileLock(stock / f"{destination.name}.lock"):
            if is_free(destination):
                fetch(url, archive, md5=md5)
                unpack(archive, destination, inner)
                archive.unlink()
    except OSError as error:
        raise DatasetError(f"cannot write into {stock}: {error}; free it or set ASEL_DATA") from error
    return destination


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
