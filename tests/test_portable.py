"""Windows, macOS and Apple's GPUs, as far as they can be played here: without what only Linux has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from asel_lib import devices

REPOSITORY = Path(__file__).parents[1]
# asyncio and subprocess have branches of their own for Windows, which a Linux that only plays one does not take.
WITHOUT = """
import asyncio, getpass, multiprocessing, os, shutil, subprocess, sys, tarfile, tempfile
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
for name in ("posix_fallocate", "sched_getaffinity", "fork", "forkpty", "getuid", "geteuid", "sysconf"):
    delattr(os, name)
"""


def run(code: str, **environment: object) -> subprocess.CompletedProcess:
    own = os.environ | {"PYTHONPATH": str(REPOSITORY)} | {key: str(value) for key, value in environment.items()}
    return subprocess.run([sys.executable, "-c", WITHOUT + code], env=own, capture_output=True, text=True, timeout=300)


def test_import_predict_and_writing_need_nothing_that_only_linux_has(tmp_path):
    done = run(
        f"""
import asel_lib, numpy as np
from pathlib import Path
from PIL import Image
from asel_lib import files, paths, reproducibility
from asel_lib.data import decode
model = asel_lib.load("synthetic_anytime")
(answer,) = model.predict([Image.new("RGB", (128, 128), "green")], keep_ratio=0.2)
assert answer.label in model.classes and reproducibility.cores() >= 1
here = Path({str(tmp_path)!r})
files.replace_text(here / "table.csv", "a,b")
assert [file.name for file in here.iterdir()] == ["table.csv"] and (here / "table.csv").read_text() == "a,b"
array = decode._scratch((3, 5))
assert isinstance(array, np.memmap) and array.shape == (3, 5) and not array.any()
""",
        ASEL_CACHE=tmp_path / "cache",
        ASEL_ROOT=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_where_room_cannot_be_reserved_a_full_disk_is_an_error_and_no_bus_error(monkeypatch, tmp_path):
    from asel_lib.data import decode

    monkeypatch.setenv("ASEL_CACHE", str(tmp_path))
    monkeypatch.delattr(os, "posix_fallocate")
    with (tmp_path / "pixels").open("wb") as file:
        decode._reserve(file, 4096)
        assert os.fstat(file.fileno()).st_size == 4096
        with pytest.raises(OSError, match="no room on the disk"):
            decode._reserve(file, 1 << 60)


def test_an_unfinished_file_is_cleared_after_it_is_closed(monkeypatch, tmp_path):
    """Windows removes no file that is open."""
    from asel_lib import files

    left = tmp_path / ".table.csv.leftover"
    left.write_text("half")
    os.utime(left, (0, 0))
    unlink = os.unlink

    def as_windows(name, *arguments, **options):
        held = [Path("/proc/self/fd", number) for number in os.listdir("/proc/self/fd")]
        assert not any(each.exists() and os.path.samefile(each, name) for each in held), "it is still open"
        unlink(name, *arguments, **options)

    monkeypatch.setattr(os, "unlink", as_windows)
    files.replace_text(tmp_path / "table.csv", "whole")
    assert [file.name for file in tmp_path.iterdir()] == ["table.csv"]


@pytest.mark.parametrize("cuda, mps, chosen", [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_the_default_device_is_a_gpu_where_there_is_one(monkeypatch, cuda, mps, chosen):
    monkeypatch.setattr("accelerate.utils.is_cuda_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setattr(torch.backends.mps, "is_built", lambda: mps)
    assert devices.default_device() == torch.device(chosen)


def test_precision_on_apples_gpus_is_float32_unless_another_is_asked_for():
    assert devices.resolve_precision("auto", "mps") == "float32"
    assert devices.resolve_precision("float16", "mps") == "float16"
    with devices.autocast("mps", "float32"):
        assert not torch.is_autocast_enabled("mps")
