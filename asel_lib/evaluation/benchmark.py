"""The sweep: metrics and cost of one checkpoint over keep ratios and policies, as rows of the results."""

from collections.abc import Iterable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from asel_lib.data.decode import ImageArray
from asel_lib.data.synthetic import object_patches
from asel_lib.evaluation import answers, cost
from asel_lib.evaluation.accuracy import sweep
from asel_lib.evaluation.timing import Latency
from asel_lib.identity import ModelKey, selector_name
from asel_lib.reproducibility import environment
from asel_lib.selection import parse
from asel_lib.tables import RESULTS

RECORD_KEYS = ("name", *(field.name for field in fields(ModelKey)), "start", "split")


def benchmark(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    record: dict,
    profile: str,
    ratios: Sequence[float],
    policies: Sequence[str],
    draws: int = 5,
    precision: str = "float32",
    timing_seconds: float | None = 1.0,
    batch_size: int = 64,
    object_fraction: np.ndarray | None = None,
    answers_file: Path | None = None,
    names: Sequence[str] = (),
    progress: bool = True,
) -> pd.DataFrame:
    """One row a (policy, keep ratio), with all columns of `tables.RESULTS`.

    Args:
        model: the checkpoint's.
        batches: re-iterable, see `accuracy.sweep`.
        record: the checkpoint's, with RECORD_KEYS; `split` is the part that is measured.
        profile: name of the profile.
        ratios: keep ratios, in (0, 1].
        policies: how patches are chosen.
        draws: forwards of policies that draw.
        precision: as resolved by `devices`.
        timing_seconds: for each (policy, ratio), see `cost.latencies`; None: neither time nor memory is measured (nan),
            as of another seed of a model that was.
        batch_size: images that cost is measured with, repeated where the set holds fewer; MACs are those of one image.
        object_fraction: see `accuracy.sweep`.
        answers_file: where it is kept which images were answered rightly (see `answers`); None: nowhere.
        names: of the images, for that file.
        progress: whether bars are shown.

    Raises:
        ValueError: where the record lacks a key or an argument makes no sweep.
    """
    missing = [key for key in RECORD_KEYS if key not in record]
    if missing:
        raise ValueError(f"the checkpoint's record lacks {', '.join(missing)}: expected {', '.join(RECORD_KEYS)}")
    frame, right = sweep(model, batches, ratios, policies, draws, precision, object_fraction, progress)
    if answers_file is not None:
        answers.write(answers_file, right, names, _plain(model).record, record["split"])
    images, lines = timing_batch(batches, batch_size)
    times = {}
    if timing_seconds is not None:
        times = cost.latencies(model, images, ratios, policies, precision, timing_seconds, lines=lines)
    return with_costs(frame, model, images, lines, times, record, profile, precision, progress)


def with_costs(
    frame: pd.DataFrame,
    model: nn.Module,
    images: Tensor,
    lines: Tensor | None,
    times: dict[tuple[str, float], Latency],
    record: dict,
    profile: str,
    precision: str,
    progress: bool = True,
) -> pd.DataFrame:
    """Rows of metrics with operations, times and origin: all columns of `tables.RESULTS`.

    Args:
        frame: as `accuracy.sweep`'s.
        model: what was measured.
        images: a batch, (B, C, H, W), normalised.
        lines: its drawings (B, 1, h, w), if it brings some.
        times: (policy, keep ratio) -> time; what is not in it has no time and no memory (nan).
        record: the model's, with RECORD_KEYS.
        profile: name of the profile.
        precision: as resolved by `devices`.
        progress: whether a bar is shown.
    """
    rows = []
    for row in tqdm(frame.to_dict("records"), desc="cost", unit="setting", disable=not progress):
        policy, ratio = row["policy"], row["keep_ratio"]
        macs = cost.gmacs(_plain(model), tuple(images.shape[-2:]), ratio, policy, lines)
        measured = dict.fromkeys(("latency_ms", "latency_iqr_ms", "throughput", "peak_memory_mb"), np.nan)
        if time := times.get((policy, ratio)):
            memory = cost.peak_memory(model, images, ratio, policy, precision, lines)
            measured = {"latency_ms": time.median_ms, "latency_iqr_ms": time.iqr_ms, "throughput": time.throughput}
            measured |= {"peak_memory_mb": memory}
        rows.append(row | {"gmacs": macs.total, "selector_gmacs": macs.selector} | measured)
    frame = pd.DataFrame(rows).assign(**_origin(model, images, record, profile, precision))
    return frame[list(RESULTS.columns)]


def object_fractions(images: ImageArray, indices: np.ndarray, model: nn.Module) -> np.ndarray | None:
    """The share of each patch that the deciding object covers.

    Args:
        images: the data set.
        indices: (n,) of the images.
        model: whose grid of patches.

    Returns:
        (n, N) float32; None where the data set does not know the object.
    """
    if images.masks is None:
        return None
    return object_patches(images.masks[indices], model.patch_embed.grid_size)


def own_policies(record: dict, policies: Sequence[str]) -> Sequence[str]:
    """The policies that say something about a checkpoint.

    Of a model on the direct schedule, which is there to be compared with others of its kind, only its own; of one that
    was trained for any set of patches (random ones, or those that its selector drew by a recipe of its own) also random
    patches and the even layout, which say what its choice adds. Else all, its own in place of another that would have
    to be trained.

    Args:
        record: the checkpoint's.
        policies: those that a profile asks for.
    """
    own = record["selector"]
    if record["schedule"] == "direct":
        any_set = parse(own)[0].trained and record["recipe"] not in ("masked", "dropped")
        return list(dict.fromkeys((own, "random", "even"))) if any_set or selector_name(own) == "random" else [own]
    return list(dict.fromkeys(own if parse(policy)[0].trained else policy for policy in policies))


def timing_batch(batches: Iterable[tuple[Tensor, ...]], batch_size: int) -> tuple[Tensor, Tensor | None]:
    """One batch to measure times with.

    Args:
        batches: of the test part.
        batch_size: B; a smaller set is repeated.

    Returns:
        Images (B, C, H, W), and their line drawings where they bring some, else None.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size!r}: expected at least 1")
    found: list[tuple[Tensor, ...]] = []
    for images, _, *lines in batches:
        found.append((images, *lines))
        if sum(len(images) for images, *_ in found) >= batch_size:
            break
    if not found:
        raise ValueError("the batches hold no image: there is nothing to time")
    joined = [torch.cat(parts) for parts in zip(*found, strict=True)]
    repeats = -(-batch_size // len(joined[0]))
    images, *lines = (part.repeat(repeats, 1, 1, 1)[:batch_size].contiguous() for part in joined)
    return images, lines[0] if lines else None


def _origin(model: nn.Module, images: Tensor, record: dict, profile: str, precision: str) -> dict[str, object]:
    """The columns that are the same in every row: what was measured, where and with what."""
    found = environment()
    device = found["device_name"] if images.device.type == found["device"] else images.device.type
    return ModelKey.of(record).columns() | {
        "checkpoint": record["name"],
        "profile": profile,
        "start": record["start"],
        "split": record["split"],
        "batch_size": len(images),
        "device": device,
        "dtype": precision,
        "compiled": _plain(model) is not model,
        "torch": found["torch"],
        "commit": found["commit"],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _plain(model: nn.Module) -> nn.Module:
    """The model inside `torch.compile`'s wrapper, which no counter can trace."""
    return getattr(model, "_orig_mod", model)
