"""How time and memory grow with the images, their size, the patches and the classes, and by which power."""

import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from asel_lib import paths
from asel_lib.configs import Profile
from asel_lib.data import synthetic
from asel_lib.data.batches import Batches
from asel_lib.data.decode import ImageArray
from asel_lib.data.generated import Scenes, identities
from asel_lib.data.sets import split_of
from asel_lib.devices import default_device
from asel_lib.evaluation import cost, memory, roofline, timing
from asel_lib.evaluation.bench_models import model_of, pixels, with_origin
from asel_lib.models.at_ratio import AtRatio
from asel_lib.selection import keep_count
from asel_lib.tables.kinds import READ

SIDE = 32  # pixels of the images that are counted in thousands


def with_model(
    profile: Profile,
    what: str,
    values: Sequence[int],
    *,
    ratios: Sequence[float] = (1.0, 0.2),
    batch_size: int = 4,
    seconds: float = 1.0,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Time and peak memory of a forward (float32, `anytime`'s selector) as one thing grows.

    Args:
        profile: whose model.
        what: "image_size" (pixels; patches stay as large as they are), "patch_size" (pixels, of images of the profile's
            size) or "classes".
        values: of it.
        ratios: keep ratios, in (0, 1].
        batch_size: images of a forward.
        seconds: of timing, for each value.
        device: None: the default one.
        progress: whether a bar is shown.

    Returns:
        Rows of `tables.SPEED`, one a (value, ratio), task "growth: <what>".

    Raises:
        ValueError: for anything else that could grow.
    """
    if what not in ("image_size", "patch_size", "classes"):
        raise ValueError(f"what is {what!r}: expected 'image_size', 'patch_size' or 'classes'")
    device = torch.device(device) if device else default_device()
    machine, rows = roofline.measure(device, seconds=seconds), []
    for value in tqdm(values, desc=what, leave=False, disable=not progress):
        model = model_of(profile, "glance", device, **{what: value})
        images = pixels(model, batch_size, device)
        calls = {ratio: _call(AtRatio(model, ratio), images) for ratio in ratios}
        with torch.inference_mode():
            times = timing.in_turn(calls, seconds, rounds=5)
            for ratio, call in calls.items():
                macs, found = cost.gmacs(model, images.shape[-1], ratio), timing.latency(times[ratio], batch_size)
                rows.append(
                    {
                        "task": f"growth: {what}",
                        "policy": "glance",
                        "keep_ratio": ratio,
                        "kept_patches": keep_count(model.patch_embed.num_patches, ratio),
                        "patches": model.patch_embed.num_patches,
                        "gmacs": macs.total,
                        "selector_gmacs": macs.selector,
                        "latency_ms": found.median_ms,
                        "latency_iqr_ms": found.iqr_ms,
                        "throughput": found.throughput,
                        "peak_memory_mb": memory.peak(call, device) / 1e6,
                        "batch_size": batch_size,
                        "dtype": "float32",
                        "compiled": False,
                        "image_size": images.shape[-1],
                        "classes": model.num_classes,
                        "floor_ms": machine.floor_ms(macs.total * batch_size, roofline.moved(model, images)),
                    }
                )
    return with_origin(pd.DataFrame(rows), profile, device)


def with_images(
    profile: Profile, counts: Sequence[int], *, folder: str | Path | None = None, progress: bool = True
) -> pd.DataFrame:
    """Splitting a memory-mapped set of images of 32 pixels, and reading its training part once in random order,
    augmented: time (latency_ms, of all images), images a second, and by how much the memory that is nowhere on disk
    grew.

    Args:
        profile: whose split.
        counts: of images; those for which the disk has no room are left out, with a line.
        folder: where the file is made, None: beside the cache.
        progress: whether a bar is shown.

    Returns:
        Rows of `tables.SPEED`, one a count, task "growth: images".
    """
    device, rows = torch.device("cpu"), []
    machine = roofline.measure(device, seconds=profile.speed.seconds)
    folder = Path(folder) if folder else paths.cache()
    folder.mkdir(parents=True, exist_ok=True)
    for count in tqdm(counts, desc="images", leave=False, disable=not progress):
        bytes_needed = count * SIDE * SIDE * 3
        if shutil.disk_usage(folder).free < 1.2 * bytes_needed:
            print(f"{count} images left out: they need {bytes_needed / 1e9:.1f} GB in {folder}")
            continue
        with tempfile.TemporaryDirectory(dir=folder) as place:
            file = _written(Path(place) / "pixels.npy", count)
            before, begun = memory.resident(), time.perf_counter()
            images = _opened(file, count)
            split = split_of(images, profile.split_protocol, profile.split_seed)
            batches = Batches(images, split.train, image_size=SIDE)
            splitting, most = time.perf_counter() - begun, memory.resident()
            order, reading = np.random.default_rng(0).permutation(len(split.train)), time.perf_counter()
            for start in range(0, len(order), 64):
                batches.take(order[start : start + 64], "dihedral", torch.Generator().manual_seed(start))
                if start % (64 * 64) == 0:
                    most = max(most, memory.resident())
            reading = time.perf_counter() - reading
        rows.append(
            {
                "task": "growth: images",
                "policy": READ,
                "latency_ms": 1e3 * (splitting + reading),
                "throughput": len(order) / reading,
                "peak_memory_mb": (most - before) / 1e6,
                "batch_size": 64,
                "dtype": "uint8",
                "image_size": SIDE,
                "images": count,
                "floor_ms": machine.floor_ms(0, bytes_needed / 1e6),
            }
        )
    return with_origin(pd.DataFrame(rows), profile, device)


def _call(module: torch.nn.Module, images: torch.Tensor) -> Callable[[], torch.Tensor]:
    return lambda: module(images)


def _written(file: Path, count: int) -> Path:
    """So many synthetic scenes as one array on disk: a few, over and over, for only their bytes count here."""
    some = np.asarray(Scenes("synthetic", min(count, 64), SIDE).pixels[: min(count, 64)])
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=(count, SIDE, SIDE, 3))
    for start in range(0, count, len(some)):
        array[start : start + len(some)] = some[: count - start]
    array.flush()
    return file


def _opened(file: Path, count: int) -> ImageArray:
    names, digests = identities("synthetic", count)
    labels = np.arange(count) % len(synthetic.CLASSES)
    return ImageArray(
        "synthetic", np.load(file, mmap_mode="r", allow_pickle=False), labels, synthetic.CLASSES, names, digests
    )
