"""Speed, memory and growth in short, from rows of `tables.SPEED`."""

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from asel_lib.tables.kinds import PLAIN, READ

PLAIN_TIMM = "plain timm"
AUTHORS = "author_loop"  # the recipe of rows of the authors' own training loop
GROWTHS = {
    "growth: image_size": ("image_size", "side of the image (px)"),
    "growth: patch_size": ("patches", "patches of an image"),
    "growth: classes": ("classes", "classes"),
    "growth: images": ("images", "images"),
}
# What one row of the tables of inference is of.
SETTING = ["device", "profile", "image_size", "dtype", "compiled", "batch_size"]


def latest(frame: pd.DataFrame, task: str, device: str | None = None) -> pd.DataFrame:
    """The rows of a task that were measured last.

    Args:
        frame: rows of `tables.SPEED`.
        task: one of its tasks.
        device: the device's name; None: each one's.
    """
    rows = frame[frame["task"] == task]
    rows = rows if device is None else rows[rows["device"] == device]
    same = [
        "device",
        "threads",
        "profile",
        "dataset",
        "policy",
        "recipe",
        "keep_ratio",
        "dtype",
        "compiled",
        "batch_size",
        "image_size",
        "patches",
        "classes",
        "images",
    ]
    same = [name for name in same if name in rows]
    return rows.sort_values("timestamp", kind="stable").drop_duplicates(same, keep="last").reset_index(drop=True)


def inference_table(frame: pd.DataFrame, policy: str = "glance") -> pd.DataFrame:
    """A row a (device, profile, image size, precision, eager or compiled, batch size): ms of plain timm, and at each
    ratio the speed-up over it with its quartiles, and the share of the ideal (of GMACs) that this is; at 1 the time
    that the selection costs.

    Args:
        frame: rows of `tables.SPEED`.
        policy: whose speed-up.
    """
    table = []
    for setting, group in latest(frame, "inference").groupby(SETTING, sort=True):
        plain = group[group["policy"] == PLAIN]
        line = _described(setting)
        line["plain timm, ms"] = f"{plain['latency_ms'].iloc[0]:.2f}" if len(plain) else "-"
        for cell in group[group["policy"] == policy].sort_values("keep_ratio", ascending=False).to_dict("records"):
            text = _times(cell)
            if cell["keep_ratio"] < 1:
                text += f", {cell['speed_up'] / cell['ideal_speed_up']:.0%} of {cell['ideal_speed_up']:.2f}x"
            line[f"at {cell['keep_ratio']:g}"] = text
        table.append(line)
    return pd.DataFrame(table).fillna("-")


def training_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a training: images a second, how many times the authors' loop, share of the floor.

    Args:
        frame: rows of `tables.SPEED`.
    """
    table = []
    for row in in_order(latest(frame, "training")).to_dict("records"):
        table.append(
            {
                "device": row["device"],
                "data set": row["dataset"],
                "training": training_name(row["recipe"]),
                "precision": row["dtype"],
                "img/s": f"{row['throughput']:.0f}",
                "times the authors' loop": _times(row),
                "of the hardware's floor": f"{row['floor_ms'] / row['latency_ms']:.0%}",
            }
        )
    return pd.DataFrame(table)


def growth_table(frame: pd.DataFrame, last: int = 3) -> pd.DataFrame:
    """A row a (what grows, device, profile, keep ratio): the power by which time and memory grow over the last points,
    and both at the largest.

    Args:
        frame: rows of `tables.SPEED`.
        last: how many points.
    """
    table = []
    for task, (column, title) in GROWTHS.items():
        rows = latest(frame, task)
        for (device, profile, ratio), group in rows.groupby(["device", "profile", "keep_ratio"], dropna=False):
            group = group.sort_values(column)
            end = group.iloc[-1]
            powers = [
                exponent(group[column], group[y].clip(lower=1e-3), last) for y in ("latency_ms", "peak_memory_mb")
            ]
            reading = end["policy"] == READ
            table.append(
                {
                    "what grows": title,
                    "from - to": f"{group[column].iloc[0]:g} - {end[column]:g}",
                    "device": device,
                    "profile": profile,
                    "keep ratio": "-" if reading else f"{ratio:g}",
                    "time grows as power": f"{powers[0]:.2f}",
                    "memory grows as power": bytes_an_image(group) if reading else f"{powers[1]:.2f}",
                    "time at the largest": f"{end['latency_ms'] / 1e3:.1f} s"
                    if reading
                    else f"{end['latency_ms']:.1f} ms",
                    "of the hardware's floor": f"{end['floor_ms'] / end['latency_ms']:.0%}"
                    if end["floor_ms"] > 0
                    else "-",
                    "memory at the largest, MB": f"{end['peak_memory_mb']:.0f}",
                }
            )
    return pd.DataFrame(table)


def roofline_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a setting, as in `inference_table`: which share of what the hardware allows each of plain timm and
    `anytime` at each ratio reaches: floor / time.

    Args:
        frame: rows of `tables.SPEED`.
    """
    rows = latest(frame, "inference")
    rows = rows[rows["policy"].isin(["glance", PLAIN])]
    rows = rows.assign(
        share=(rows["floor_ms"] / rows["latency_ms"]).map("{:.0%}".format),
        what=[
            PLAIN_TIMM if p == PLAIN else f"at {r:g}" for p, r in zip(rows["policy"], rows["keep_ratio"], strict=True)
        ],
    )
    table = rows.pivot(index=SETTING, columns="what", values="share").fillna("-")
    return pd.DataFrame([_described(setting) | row.to_dict() for setting, row in table.iterrows()])


def training_name(recipe: str) -> str:
    """What a training is called whose speed was measured."""
    return "the authors' loop" if recipe == AUTHORS else recipe


def in_order(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of trainings, the authors' loop first, the others as they were measured."""
    return rows.sort_values("recipe", key=lambda names: names != AUTHORS, kind="stable")


def exponent(x: Sequence[float], y: Sequence[float], last: int = 3) -> float:
    """The power by which y grows with x at the end, where what is constant no longer counts: the slope of log y against
    log x by least squares.

    Args:
        x: what grows.
        y: what was measured.
        last: how many points count.

    Returns:
        nan for fewer than two points.
    """
    x, y = (np.log(np.asarray(values, dtype=float)[-last:]) for values in (x, y))
    return float(np.polyfit(x, y, 1)[0]) if len(x) > 1 else math.nan


def bytes_an_image(rows: pd.DataFrame) -> str:
    """Names and labels are a few hundred bytes an image, beside an allocator that takes and keeps megabytes: a power of
    that would say nothing."""
    more = np.polyfit(rows["images"], rows["peak_memory_mb"] * 1e6, 1)[0]
    return f"{more:.0f} bytes an image"


def _times(row: dict) -> str:
    return f"{row['speed_up']:.2f}x ({row['speed_up_low']:.2f}-{row['speed_up_high']:.2f})"


def _described(setting: tuple) -> dict[str, object]:
    """A SETTING as the first cells of a row."""
    device, profile, side, dtype, compiled, batch = setting
    said = {"device": device, "profile": profile, "px": int(side), "precision": dtype}
    return said | {"compiled": "yes" if compiled else "no", "batch": int(batch)}
