"""Writing files so that a kill, a full disk or a reader at the wrong moment never meets half of one, and reading
tensors without running what lies in their file."""

import contextlib
import errno
import glob
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from filelock import lock_descriptor

from asel_lib.errors import AselError, CheckpointError

LEFT_BEHIND = 60.0  # seconds after which an unfinished file that nobody holds is one of a killed process


def replace_files(contents: dict[Path, Callable[[BinaryIO], object]]) -> None:
    """Write files so that each path has the old content or the new, whatever happens.

    All are filled beside their paths and flushed to the disk before the first is renamed over its path.

    Args:
        contents: path -> function that writes into the opened file.

    Raises:
        OSError: names the path and what to do; the old files stay, and nothing is left beside them.
    """
    temporary: dict[Path, str] = {}
    path = None
    try:
        with contextlib.ExitStack() as held:
            for path, write in contents.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, temporary[path] = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
                file = held.enter_context(os.fdopen(handle, "wb"))
                with contextlib.suppress(OSError):  # a disk without locks: there nothing is cleared
                    lock_descriptor(file.fileno())  # says that somebody is at work on it, see _clear
                _clear(path, but=temporary[path])
                write(file)
                file.flush()
                os.fsync(file.fileno())
                os.chmod(temporary[path], 0o644)  # mkstemp's 0600 would hide results from the group
        for path, name in temporary.items():
            os.replace(name, path)
    except BaseException as error:
        for name in temporary.values():
            with contextlib.suppress(OSError):
                os.unlink(name)
        if isinstance(error, OSError):
            raise OSError(error.errno, f"{error.strerror or error}; {advice(error)}", str(path)) from error
        raise


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """`replace_files` for one.

    Args:
        path: of the file.
        write: fills the opened file.
    """
    replace_files({path: write})


def replace_text(path: Path, text: str) -> None:
    """`replace_files` for one text.

    Args:
        path: of the file.
        text: its content, written as UTF-8.
    """
    replace_file(path, lambda file: file.write(text.encode()))


def check_writable(*folders: Path) -> None:
    """Make folders and try to write into each: an error now rather than after hours of work.

    Args:
        folders: all that will be written into.

    Raises:
        AselError: names the folder and what to do.
    """
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"x")
                file.flush()
        except OSError as error:
            raise AselError(f"cannot write into {folder} ({error.strerror or error}); {advice(error)}") from error


def advice(error: OSError) -> str:
    """What a user can do about a file that could not be written."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free some space there, then run again: it goes on from what is kept"
    return "make the folder writable, or choose another with ASEL_ROOT (results), ASEL_DATA or ASEL_CACHE (images)"


def _clear(path: Path, but: str) -> None:
    """Remove what killed processes left of `path`: unfinished files that no process holds and that are not of this
    minute (by the clock of the disk they lie on)."""
    now = os.stat(but).st_mtime
    for name in glob.glob(f"{glob.escape(str(path.parent))}/.{glob.escape(path.name)}.????????"):
        with contextlib.suppress(OSError):
            if name != but and abs(os.stat(name).st_mtime - now) > LEFT_BEHIND and _is_free(name):
                os.unlink(name)  # closed by now: Windows removes no file that is open


def _is_free(name: str) -> bool:
    """Whether no process has the file's lock."""
    with open(name, "rb") as file:
        return lock_descriptor(file.fileno(), blocking=False)


def read_pth(path: str | os.PathLike) -> object:
    """What a .pth file holds: tensors and plain containers. No code in it is run. CheckpointError where it cannot be
    read."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn zip, a pickle with code, a missing file: each has its own type
        raise CheckpointError(f"{path}: not a readable .pth of tensors ({type(error).__name__}: {error})") from error


def read_tensors(path: str | os.PathLike, wrappers: tuple[str, ...]) -> dict:
    """The tensors in a .pth file. No code in it is run.

    Args:
        path: of the file.
        wrappers: what they may be held under.

    Returns:
        Name -> tensor.

    Raises:
        CheckpointError: where it cannot be read or holds something else.
    """
    return state_dict(read_pth(path), wrappers, path)


def state_dict(state: object, wrappers: tuple[str, ...], path: str | os.PathLike) -> dict:
    """The tensors in what a file holds.

    Args:
        state: the content.
        wrappers: what they may be held under.
        path: of the file, for errors.

    Returns:
        Name -> tensor.

    Raises:
        CheckpointError: where it is something else.
    """
    import torch

    while isinstance(state, dict) and (inner := next((w for w in wrappers if isinstance(state.get(w), dict)), "")):
        state = state[inner]
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise CheckpointError(f"{path}: expected a plain state dict (name -> tensor), found {type(state).__name__}")
    for name, value in state.items():
        if value.layout != torch.strided or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            # Strides of 0 make a few bytes a tensor larger than any memory.
            raise CheckpointError(f"{path}: {name!r} is {tuple(value.shape)}, and the file does not hold as much")
    return state
