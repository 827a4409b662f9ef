"""Exported models against torch, from the rows of the results table with task "deployed" (evaluation.deployed)."""

import pandas as pd
from matplotlib.figure import Figure

from asel_lib.evaluation.deployed import ONNX, TASK, TORCH
from asel_lib.reporting import tables
from asel_lib.reporting.style import axes_grid, drawn_from, nothing, say_below, styled

LOOKS = {
    (TORCH, "float32"): ("torch, float32", dict(color="#555555", marker="s", linestyle=":")),
    (ONNX, "float32"): ("ONNX, float32", dict(color="#0072B2", marker="o", linestyle="-")),
    (ONNX, "int8"): ("ONNX, int8", dict(color="#D55E00", marker="^", linestyle="--")),
}


def latest(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of exported models; of a measurement made twice, the last."""
    same = ["checkpoint", "policy", "keep_ratio", "runtime", "dtype", "batch_size", "threads", "device"]
    rows = frame[frame["task"] == TASK].sort_values("timestamp", kind="stable")
    return rows.drop_duplicates(same, keep="last").reset_index(drop=True)


def replaced(frame: pd.DataFrame, older: pd.DataFrame) -> pd.DataFrame:
    """`frame`, and of `older` the rows of other checkpoints."""
    kept = older[~older["checkpoint"].isin(frame["checkpoint"])]
    return pd.concat([kept, frame], ignore_index=True) if len(kept) else frame


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a (checkpoint, keep ratio, runtime): accuracy (%) with its interval, share of images answered as torch
    does, GMACs, size of the file, and for each batch size and number of threads ms and how many times as fast as torch
    at the highest ratio, with the quartiles of the rounds."""
    lines = []
    rows = latest(frame)
    for (checkpoint, ratio, runtime, dtype), group in rows.groupby(
        ["checkpoint", "keep_ratio", "runtime", "dtype"], sort=False
    ):
        first = group.iloc[0]
        line = {"checkpoint": checkpoint, "keep ratio": f"{ratio:g}", "runtime": LOOKS[runtime, dtype][0]}
        line |= {"test images": int(first["n_images"]), "accuracy, %": tables.accuracy_cell(first)}
        line |= {"as torch": f"{first['agreement']:.1%}", "GMACs": f"{first['gmacs']:.3g}"}
        line["MB"] = "-" if pd.isna(first["file_mb"]) else f"{first['file_mb']:.1f}"
        for cell in group.sort_values(["threads", "batch_size"]).to_dict("records"):
            gain = f"{cell['speed_up']:.2f}x ({cell['speed_up_low']:.2f}-{cell['speed_up_high']:.2f})"
            line[f"ms, {_setting(cell['batch_size'], cell['threads'])}"] = f"{cell['latency_ms']:.2f}, {gain}"
        lines.append(line)
    return pd.DataFrame(lines)


@styled
def latency(frame: pd.DataFrame) -> Figure:
    """Latency against keep ratio, a line a runtime, a panel a (batch size, threads), of one checkpoint; the band is the
    interquartile range."""
    rows = latest(frame)
    if rows.empty:
        return nothing("no exported model was measured yet: run 10_export")
    panels = list(rows.groupby(["batch_size", "threads"], sort=True))
    figure, axes = axes_grid(len(panels), footer=True)
    for cell, ((batch, threads), group) in zip(axes, panels, strict=True):
        for (runtime, dtype), (label, look) in LOOKS.items():
            line = group[(group["runtime"] == runtime) & (group["dtype"] == dtype)].sort_values("keep_ratio")
            if len(line):
                cell.plot(line["keep_ratio"], line["latency_ms"], label=label, **look)
                half = line["latency_iqr_ms"] / 2
                low, high = line["latency_ms"] - half, line["latency_ms"] + half
                cell.fill_between(line["keep_ratio"], low, high, color=look["color"], alpha=0.12, linewidth=0)
        cell.set(title=_setting(batch, threads), xlabel="keep ratio", ylabel="latency (ms)", xlim=(0, 1.03))
        cell.set_ylim(bottom=0)
    axes[0].legend()
    first = rows.iloc[-1]
    about = f"{', '.join(dict.fromkeys(rows['checkpoint']))}; {first['device']}; commit {first['commit']}. latency of "
    say_below(figure, about + "torch and onnxruntime against keep ratio; band: interquartile range of rounds")
    return drawn_from(figure, rows)


def _setting(batch: float, threads: float) -> str:
    return f"batch of {int(batch)}, {int(threads)} thread{'s' if threads > 1 else ''}"
