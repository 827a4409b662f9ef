"""The folder of a run: one run at a time in it, and no files from the future."""

import fcntl
import os
import shutil
import time
from pathlib import Path
from typing import IO


def exclusive(file: Path, patience: float = 4.0) -> IO:
    """The opened lock file. The kernel frees the lock when its holders are gone.

    Args:
        file: the lock file.
        patience: seconds to wait: a run that was just killed takes a moment to be gone.

    Raises:
        BlockingIOError: if somebody else keeps it.
    """
    opened = file.open("a")
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return opened
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def settle_times(folder: Path, lock: str | Path) -> int:
    """Give the files of a run that are from the future the time it is now by the clock of their disk, in their order.

    Else, until that future comes, what is made now would be older than what it was made of, and made again at each
    start.

    Args:
        folder: of the run.
        lock: a file on the same disk, whose time is set to learn that disk's clock.

    Returns:
        How many these were.
    """
    os.utime(lock)
    now = os.stat(lock).st_mtime_ns
    files = [file for file in folder.rglob("*") if file.is_file() and ".snakemake" not in file.parts]
    ahead = sorted((file.stat().st_mtime_ns, file) for file in files if file.stat().st_mtime_ns > now)
    for place, (_, file) in enumerate(ahead):
        os.utime(file, ns=(now, now + place))
    return len(ahead)


def clear_scratch(folder: Path) -> None:
    """Remove what notebooks that were killed have left."""
    for scratch in folder.glob("notebooks/.kernel-*"):
        shutil.rmtree(scratch, ignore_errors=True)
