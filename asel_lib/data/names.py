"""What a folder's data set is called in checkpoints and results: by its last name, and by more of its path where
another data set has that name already.

Names that stand for something are kept in benchmarks_results/runs/names.json, beside what is filed under them.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np

from asel_lib import paths
from asel_lib.data.layout import ImageSet
from asel_lib.errors import DatasetError
from asel_lib.files import replace_text

SAMPLED = 16  # files whose bytes are compared; of all files names and sizes are


def name_of(found: ImageSet, reserved: Collection[str]) -> str:
    """The name of that folder's set: the one that it had before, else the first that stands for no other set. A copy
    of a set, or one that was moved, is that set. reserved: names that no folder may take."""
    held = _held()
    for name, entry in held.items():
        if entry["folder"] == str(found.root):
            return name
    return next(name for name in _names(found.root, reserved) if name not in held or _same(held[name], found))


def claim(found: ImageSet) -> None:
    """Let the set's name stand for this folder from now on.

    Raises:
        DatasetError: it came to stand for another set since the folder was read.
    """
    if (entry := _held().get(found.name)) and (entry["folder"] == str(found.root) or _same(entry, found)):
        return
    from filelock import FileLock

    file = _file()
    with contextlib.suppress(OSError):  # where nothing can be written, nothing can be overwritten
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_name(".names.lock")):
            held = _held()
            if (entry := held.get(found.name)) and not _same(entry, found):
                raise DatasetError(
                    f"{found.root} and {entry['folder']} would both be called {found.name!r} in checkpoints and "
                    "results: start again, and the second gets a name of its own"
                )
            held[found.name] = {"folder": str(found.root), "files": _digest(found)}
            replace_text(file, json.dumps(held, indent=2) + "\n")


def _names(folder: Path, reserved: Collection[str]) -> Iterator[str]:
    """ "views", "trip_views", "photos_trip_views" ... of .../photos/trip/views."""
    parts = [part for part in folder.parts if part != folder.anchor] or ["images"]
    for length in range(1, len(parts) + 1):
        slug = re.sub(r"\W+", "_", "_".join(parts[-length:]).lower()).strip("_") or "images"
        yield f"{slug}_folder" if slug in reserved else slug
    yield f"{slug}_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}"


def _same(entry: dict, found: ImageSet) -> bool:
    return entry["files"] == _digest(found)


def _digest(found: ImageSet) -> str:
    """The same for a copy of the set, wherever it lies."""
    made = hashlib.sha256()
    for name, file in zip(found.names, found.files, strict=True):
        with contextlib.suppress(OSError):
            made.update(f"{name}\t{file.stat().st_size}\n".encode())
    for index in np.unique(np.linspace(0, len(found.files) - 1, SAMPLED).astype(int)):
        with contextlib.suppress(OSError):
            made.update(found.files[index].read_bytes())
    return made.hexdigest()[:16]


def _file() -> Path:
    return paths.results() / "runs" / "names.json"


def _held() -> dict[str, dict[str, str]]:
    """name -> {"folder", "files"}; nothing where the file is not there, or is none."""
    try:
        held = json.loads(_file().read_text())
        return {name: {key: str(entry[key]) for key in ("folder", "files")} for name, entry in held.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}
