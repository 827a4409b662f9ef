"""Exported models against torch in short, from rows of `tables.DEPLOYED` (`evaluation.deployed`)."""

import pandas as pd

from asel_lib.reporting.summaries import accuracy_cell
from asel_lib.tables.kinds import ONNX, TORCH

LOOKS = {
    (TORCH, "float32"): ("torch, float32", dict(color="#555555", marker="s", linestyle=":")),
    (ONNX, "float32"): ("ONNX, float32", dict(color="#0072B2", marker="o", linestyle="-")),
    (ONNX, "int8"): ("ONNX, int8", dict(color="#D55E00", marker="^", linestyle="--")),
}


def latest(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of exported models; of a measurement made twice, the last."""
    same = ["checkpoint", "policy", "keep_ratio", "runtime", "dtype", "batch_size", "threads", "device"]
    rows = frame.sort_values("timestamp", kind="stable")
    return rows.drop_duplicates(same, keep="last").reset_index(drop=True)


def replaced(frame: pd.DataFrame, older: pd.DataFrame) -> pd.DataFrame:
    """Rows of exported models with those of other checkpoints from before.

    Args:
        frame: the new rows.
        older: a table; its rows of the same checkpoints are left out.
    """
    kept = older[~older["checkpoint"].isin(frame["checkpoint"])]
    return pd.concat([kept, frame], ignore_index=True) if len(kept) else frame


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Exported models in short.

    Args:
        frame: rows of `tables.DEPLOYED`.

    Returns:
        A row a (checkpoint, keep ratio, runtime): accuracy (%) with its interval, share of images answered as torch
        does, GMACs, size of the file, and for each batch size and number of threads ms and how many times as fast as
        torch at the highest ratio, with the quartiles of the rounds.
    """
    lines = []
    rows = latest(frame)
    for (checkpoint, ratio, runtime, dtype), group in rows.groupby(
        ["checkpoint", "keep_ratio", "runtime", "dtype"], sort=False
    ):
        first = group.iloc[0]
        line = {"checkpoint": checkpoint, "keep ratio": f"{ratio:g}", "runtime": LOOKS[runtime, dtype][0]}
        line |= {"test images": int(first["n_images"]), "accuracy, %": accuracy_cell(first)}
        line |= {"as torch": f"{first['agreement']:.1%}", "GMACs": f"{first['gmacs']:.3g}"}
        line["MB"] = "-" if pd.isna(first["file_mb"]) else f"{first['file_mb']:.1f}"
        for cell in group.sort_values(["threads", "batch_size"]).to_dict("records"):
            gain = f"{cell['speed_up']:.2f}x ({cell['speed_up_low']:.2f}-{cell['speed_up_high']:.2f})"
            line[f"ms, {setting_of(cell['batch_size'], cell['threads'])}"] = f"{cell['latency_ms']:.2f}, {gain}"
        lines.append(line)
    return pd.DataFrame(lines)


def setting_of(batch: float, threads: float) -> str:
    """How a batch size and a number of threads are called.

    Args:
        batch: images.
        threads: of the CPU.
    """
    return f"batch of {int(batch)}, {int(threads)} thread{'s' if threads > 1 else ''}"
