"""Writing files so that a kill, a full disk or a reader at the wrong moment never meets half of one, and reading
tensors without running what lies in their file."""

import contextlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from asel_lib.errors import CheckpointError


def replace_files(contents: dict[Path, Callable[[BinaryIO], object]]) -> None:
    """Let each function fill a file beside its path, flush them all to the disk, and only then rename them over their
    paths. Where anything fails before that (OSError: no space, no permission) the old files stay as they were."""
    temporary: dict[Path, str] = {}
    try:
        for path, write in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            handle, temporary[path] = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            with os.fdopen(handle, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary[path], 0o644)  # mkstemp's 0600 would hide results from the group
        for path, name in temporary.items():
            os.replace(name, path)
    except BaseException:
        for name in temporary.values():
            with contextlib.suppress(OSError):
                os.unlink(name)
        raise


def replace_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """`replace_files` for one."""
    replace_files({path: write})


def replace_text(path: Path, text: str) -> None:
    replace_file(path, lambda file: file.write(text.encode()))


def read_pth(path: str | os.PathLike) -> object:
    """What a .pth file holds: tensors and plain containers. No code in it is run. CheckpointError where it cannot be
    read."""
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn zip, a pickle with code, a missing file: each has its own type
        raise CheckpointError(f"{path}: not a readable .pth of tensors ({type(error).__name__}: {error})") from error


def read_tensors(path: str | os.PathLike, wrappers: tuple[str, ...]) -> dict:
    """The state dict (name -> tensor) in a .pth file, plain or under some of `wrappers`. No code in it is run.
    CheckpointError where it cannot be read or holds something else."""
    return state_dict(read_pth(path), wrappers, path)


def state_dict(state: object, wrappers: tuple[str, ...], path: str | os.PathLike) -> dict:
    """The state dict in what `path` holds. CheckpointError where it is something else."""
    import torch

    while isinstance(state, dict) and (inner := next((w for w in wrappers if isinstance(state.get(w), dict)), "")):
        state = state[inner]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: expected a plain state dict (name -> tensor), found {type(state).__name__}")
    return state
