"""Seeds and the record of the environment.

Nothing here touches a global generator. Each use of chance has a generator of its own, derived from the
run's seed and the use's name and position (`generator(seed, "order", epoch)`), so that an answer does not
depend on what was drawn before it, and a run that resumes draws what the uninterrupted run would have drawn.
"""

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from asel_lib import paths


def derived_seed(*parts: object) -> int:
    """A seed in [0, 2^63) from any printable parts, the same on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def generator(*parts: object):
    """A CPU `torch.Generator` of its own for the use that `parts` name."""
    import torch

    return torch.Generator().manual_seed(derived_seed(*parts))


@dataclass(frozen=True)
class BatchSliceGenerator:
    """A generator for some images of a batch. What is drawn with it (`uniform`) is what they get when the whole batch
    draws, so that an answer does not depend on how a batch is dealt out.

    Args:
        generator: torch's, of the whole batch.
        count: how many images the batch has.
        rows: (b,) the places of these images in it.
    """

    generator: object
    count: int
    rows: object


def uniform(shape: tuple[int, ...], generator=None, images: int = 0):
    """torch.rand(shape) on the CPU.

    Args:
        shape: of the answer.
        generator: torch's, or a BatchSliceGenerator.
        images: the dimension that is that of the images.
    """
    import torch

    if not isinstance(generator, BatchSliceGenerator):
        return torch.rand(shape, generator=generator)
    whole = (*shape[:images], generator.count, *shape[images + 1 :])
    rows = torch.as_tensor(generator.rows)
    if len(rows) != shape[images]:
        raise ValueError(f"{shape[images]} images draw with the generator of {len(rows)}: give it their rows")
    return torch.rand(whole, generator=generator.generator).index_select(images, rows)


@contextlib.contextmanager
def seeded(*parts: object):
    """Run a block that draws from torch's global generator (weight initialisation) from a derived seed;
    the global state is as before afterwards."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(*parts))
        yield


@cache
def commit() -> str:
    """The checkout's commit, with "+" behind it where tracked files were changed; "unknown" without git."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=paths.root(), capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def cores() -> int:
    """CPU cores that this process may use: fewer than the machine has under taskset, or in a job of a cluster."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def environment() -> dict[str, object]:
    """What a result was made with: versions, device, threads, commit."""
    import torch

    cuda = torch.cuda.is_available()
    packages = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "safetensors")
    return {
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "platform": sys.platform,
        "device": "cuda" if cuda else "cpu",
        "device_name": torch.cuda.get_device_name() if cuda else _cpu_name(),
        "cores": cores(),
        "commit": commit(),
    }


def _cpu_name() -> str:
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as lines:
        for line in lines:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
