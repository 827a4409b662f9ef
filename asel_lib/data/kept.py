"""Arrays that took long to make, kept on disk and opened memory-mapped while what they were made of is the same."""

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from asel_lib import paths
from asel_lib.files import replace_file, replace_text


def kept_on_disk(
    stem: str, key: dict, make: Callable[[], tuple[dict, dict]], check: Callable[[dict, dict], bool] = lambda *_: True
) -> tuple[dict[str, np.ndarray], dict]:
    """Arrays and facts from the cache where they were made for the same key, else made and written.

    One line says so where others were there, or damaged ones. <cache>/<stem>/ holds <array>.npy and about.json, which
    is written last: without it, or with another key in it, or an array that does not fit it, the folder counts as not
    there.

    Args:
        stem: the folder's name.
        key: what they depend on.
        make: -> (arrays, facts).
        check: (arrays, facts) -> whether they can be what `make` gives; it may raise Changed.
    """
    key = json.loads(json.dumps(key))
    folder = paths.cache() / stem
    if (folder / "about.json").exists():
        try:
            return _read_kept(folder, key, check)
        except Changed:
            print(f"{folder}: the files it was made of, or how it is made, changed: made again")
        except Exception as error:  # whatever numpy and json say of a damaged file
            print(f"{folder}: cannot be used ({type(error).__name__}: {str(error)[:200]}): made again")
    arrays, about = make()
    about |= {"key": key, "shapes": {n: a.shape for n, a in arrays.items()}}
    try:
        (folder / "about.json").unlink(missing_ok=True)
        for name, array in arrays.items():
            replace_file(folder / f"{name}.npy", lambda file, array=array: np.save(file, array, allow_pickle=False))
        replace_text(folder / "about.json", json.dumps(about))
    except OSError as error:
        warnings.warn(f"decoded images are not kept for next time: {error}", stacklevel=3)
        return arrays, about
    return {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in arrays}, about


class Changed(Exception):
    """What is kept is whole, and of something else."""


def _read_kept(folder: Path, key: dict, check: Callable[[dict, dict], bool]) -> tuple[dict[str, np.ndarray], dict]:
    about = json.loads((folder / "about.json").read_text())
    if about["key"] != key:
        raise Changed
    arrays = {n: np.load(folder / f"{n}.npy", mmap_mode="r", allow_pickle=False) for n in about["shapes"]}
    for name, array in arrays.items():
        if list(array.shape) != about["shapes"][name]:
            raise ValueError(f"{name}.npy is {array.shape}, expected {tuple(about['shapes'][name])}")
    if not check(arrays, about):
        raise ValueError("its arrays and about.json do not fit each other")
    return arrays, about
