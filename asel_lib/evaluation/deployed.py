"""What a model gains by being exported: torch against onnxruntime in float32 and in int8, on the same test images."""

import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from asel_lib.data.batches import Batches
from asel_lib.evaluation import cost, timing
from asel_lib.evaluation.benchmark import timing_batch
from asel_lib.evaluation.metrics.accuracy import interval
from asel_lib.export import export
from asel_lib.identity import ModelKey
from asel_lib.models.at_ratio import AtRatio
from asel_lib.reproducibility import cores, environment
from asel_lib.selection import keep_count
from asel_lib.tables.kinds import ONNX, TORCH


class Variant(NamedTuple):
    """One way of running the model; file None: torch's."""

    keep_ratio: float
    runtime: str
    dtype: str
    file: Path | None


def compare(
    model,
    batches: Batches,
    *,
    ratios: Sequence[float] = (1.0, 0.5, 0.2),
    batch_sizes: Sequence[int] = (1, 8),
    threads: Sequence[int] = (),
    int8: bool = True,
    folder: str | Path | None = None,
    calibration: int = 128,
    seconds: float = 1.0,
    rounds: int = 9,
    split: str = "test",
    progress: bool = True,
) -> pd.DataFrame:
    """Export the model (a checkpoint's, on the CPU) at each ratio, answer all images of `batches` with each file and
    with torch (`AtRatio`, eager, float32), and time them, all of a batch size in turn, in this process.

    All take normalised images, so that they do the same work; a policy that draws makes each image's first draw.

    Args:
        model: a checkpoint's.
        batches: of the images that are answered and timed.
        ratios: keep ratios, in (0, 1].
        batch_sizes: images of a forward that is timed.
        threads: of a forward, () for one and all of the process's cores.
        int8: whether the quantised model is measured too.
        folder: where the files are left, None: nowhere.
        calibration: images that int8 is calibrated on.
        seconds: of timing, for each variant, batch size and number of threads; see `timing.in_turn`.
        rounds: of timing.
        split: the part that the batches are of.
        progress: whether bars are shown.

    Returns:
        A row a (ratio, runtime, dtype, batch size, threads), with the columns of `tables.DEPLOYED`: accuracy with
        Wilson's interval, `agreement` with torch's answers, gmacs (of a file: counted from its graph, which leaves out
        what the last block would compute for all tokens but the class token), latency; speed_up: torch's time at the
        highest ratio over this one's, median of the rounds' ratios with quartiles, as many threads and images.

    Errors are as `export`'s.
    """
    record = model.record
    with tempfile.TemporaryDirectory() as nowhere:
        folder = Path(folder or nowhere)
        variants: list[Variant] = []
        for ratio in tqdm(ratios, desc="export", unit="ratio", leave=False, disable=not progress):
            made = export(model, ratio, folder, int8=int8, preprocessing=False, calibration=calibration)
            variants += [Variant(ratio, TORCH, "float32", None), Variant(ratio, ONNX, "float32", made.float32)]
            variants += [Variant(ratio, ONNX, "int8", made.int8)] if made.int8 else []
        found = _answered(model, batches, variants, progress)
        about = {variant: _about(model, variant, found) for variant in variants}
        rows = []
        for batch_size in tqdm(batch_sizes, desc="latency", unit="batch size", leave=False, disable=not progress):
            images, _ = timing_batch(batches, batch_size)
            for count in threads or _one_and_all():
                times = _timed(model, variants, images, count, seconds, rounds)
                whole = times[max((one for one in variants if one.file is None), key=lambda one: one.keep_ratio)]
                for variant, measured in times.items():
                    time, gain = timing.latency(measured, batch_size), timing.ratio(whole, measured)
                    rows.append(
                        about[variant]
                        | {"batch_size": batch_size, "threads": count, "latency_ms": time.median_ms}
                        | {"latency_iqr_ms": time.iqr_ms, "throughput": time.throughput, "speed_up": gain.middle}
                        | {"speed_up_low": gain.low, "speed_up_high": gain.high, "n_images": len(batches.indices)}
                    )
    here = environment()
    return pd.DataFrame(rows).assign(
        **_identity(record),
        policy=model.selector.name,
        profile=record["profile"],
        start=record["start"],
        split=split,
        baseline=f"{TORCH}, keep ratio {max(ratios):g}",
        image_size=batches.image_size,
        patches=model.patch_embed.num_patches,
        device=here["device_name"] if here["device"] == "cpu" else "cpu",
        compiled=False,
        torch=here["torch"],
        commit=here["commit"],
        timestamp=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _identity(record: dict) -> dict[str, object]:
    return ModelKey.of(record).columns() | {"checkpoint": record["name"]}


def onnx_gmacs(file: str | Path) -> float:
    """1e9 multiply-accumulates of one image, of the products and convolutions of an .onnx file's graph (float32)."""
    import onnx

    model = onnx.shape_inference.infer_shapes(onnx.load(file))
    shapes = {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        # A size that is not known is that of the batch: one image.
        shapes[value.name] = [side.dim_value or 1 for side in value.type.tensor_type.shape.dim]
    total = 0
    for node in model.graph.node:
        if node.op_type in ("MatMul", "Gemm"):
            total += prod(shapes[node.output[0]]) * _shared(node, shapes)
        elif node.op_type == "Conv":
            total += prod(shapes[node.output[0]]) * prod(shapes[node.input[1]][1:])
    return total / 1e9


def _shared(node, shapes: dict[str, list[int]]) -> int:
    """The side that a product sums over."""
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return shapes[node.input[0]][0 if turned else -1]


def _about(model, variant: Variant, found: dict[Variant, np.ndarray]) -> dict[str, object]:
    """The columns of a variant that are the same for every batch size and number of threads."""
    ratio, labels = variant.keep_ratio, found["labels"]
    logits, torchs = found[variant], found[variant._replace(runtime=TORCH, dtype="float32", file=None)]
    answers = logits.argmax(axis=1)
    best = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    correct = int((answers == labels).sum())
    low, high = interval(correct, len(labels))
    macs = cost.gmacs(model, tuple(model.patch_embed.img_size), ratio)
    plain = variant.file and variant.file.with_name(variant.file.name.replace("_int8", ""))
    return {
        "keep_ratio": ratio,
        "kept_patches": keep_count(model.patch_embed.num_patches, ratio),
        "runtime": variant.runtime,
        "dtype": variant.dtype,
        "accuracy": correct / len(labels),
        "accuracy_low": low,
        "accuracy_high": high,
        "top5": float((best == labels[:, None]).any(axis=1).mean()),
        "agreement": float((answers == torchs.argmax(axis=1)).mean()),
        "gmacs": onnx_gmacs(plain) if plain else macs.total,
        "selector_gmacs": macs.selector,
        "file_mb": variant.file.stat().st_size / 1e6 if variant.file else np.nan,
    }


def _answered(model, batches: Batches, variants: Sequence[Variant], progress: bool) -> dict:
    """Variant -> logits (n, classes) of all images; "labels" -> (n,)."""
    runs = {variant: _runner(model, variant, torch.get_num_threads()) for variant in variants}
    logits, labels = {variant: [] for variant in variants}, []
    with torch.inference_mode():
        for images, truth, *_ in tqdm(batches, desc="accuracy", unit="batch", leave=False, disable=not progress):
            labels.append(truth.numpy())
            for variant, run in runs.items():
                answered = run(images)()
                logits[variant].append(answered if variant.file is None else answered[0])
    return {variant: np.concatenate(parts) for variant, parts in logits.items()} | {"labels": np.concatenate(labels)}


def _one_and_all() -> list[int]:
    return sorted({1, cores()})


def _timed(
    model, variants: Sequence[Variant], images: Tensor, threads: int, seconds: float, rounds: int
) -> dict[Variant, np.ndarray]:
    """Variant -> ms of a forward, a number a round; all in turn, on as many threads."""
    calls, before = {variant: _runner(model, variant, threads)(images) for variant in variants}, torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            return timing.in_turn(calls, seconds, rounds)
    finally:
        torch.set_num_threads(before)


def _runner(model, variant: Variant, threads: int) -> Callable[[Tensor], Callable[[], np.ndarray]]:
    """A function of images -> a call without arguments that answers them, logits (B, classes). threads: onnxruntime's,
    torch takes those that are set."""
    if variant.file is None:
        module = AtRatio(model, variant.keep_ratio)
        return lambda images: lambda: module(images).numpy()
    session = _session(variant.file, threads)
    return lambda images: partial(session.run, ["logits"], {"images": images.numpy()})


def _session(file: Path, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    # Its threads wait for work by spinning: between its own calls, which would take the next one's cores away.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
