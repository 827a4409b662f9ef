"""Speed, memory and growth, from the rows of the results table that have a `task` (evaluation.speed, .growth)."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asel_lib.evaluation.growth import READ, exponent
from asel_lib.evaluation.speed import PLAIN
from asel_lib.reporting.style import axes_grid, drawn_from, nothing, save, say_below, styled

LOOKS = {
    "glance": dict(color="#0072B2", marker="h", linestyle="-"),
    "random": dict(color="#D55E00", marker="s", linestyle="--"),
    "learned": dict(color="#009E73", marker="^", linestyle=":"),
}
NAMES = {"glance": "anytime (glance)", "random": "random patches", "learned": "ASEL (learned)", PLAIN: "plain timm"}
TRAININGS = {"published": "the authors' loop", "paper": "paper", "dropped": "dropped", "anytime": "anytime"}
GROWTHS = {
    "growth: image_size": ("image_size", "side of the image (px)"),
    "growth: patch_size": ("patches", "patches of an image"),
    "growth: classes": ("classes", "classes"),
    "growth: images": ("images", "images"),
}


# What one row of the tables of inference is of.
SETTING = ["device", "profile", "image_size", "dtype", "compiled", "batch_size"]


def latest(frame: pd.DataFrame, task: str, device: str | None = None) -> pd.DataFrame:
    """The rows of a task, measured last on each device, or on that one."""
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
    that the selection costs."""
    table = []
    for setting, group in latest(frame, "inference").groupby(SETTING, sort=True):
        plain = group[group["policy"] == PLAIN]
        line = _described(setting)
        line["plain timm, ms"] = f"{plain['latency_ms'].iloc[0]:.2f}" if len(plain) else "-"
        for cell in group[group["policy"] == policy].sort_values("keep_ratio", ascending=False).to_dict("records"):
            text = _times(cell)
            if cell["keep_ratio"] < 1:
                text += f", {cell['speed_up'] / cell['ideal']:.0%} of {cell['ideal']:.2f}x"
            line[f"at {cell['keep_ratio']:g}"] = text
        table.append(line)
    return pd.DataFrame(table).fillna("-")


def training_table(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a training: images a second, how many times the authors' loop, share of the floor."""
    table = []
    rows = latest(frame, "training")
    for row in rows.assign(order=rows["recipe"].map(list(TRAININGS).index)).sort_values("order").to_dict("records"):
        table.append(
            {
                "device": row["device"],
                "data set": row["dataset"],
                "training": TRAININGS[row["recipe"]],
                "precision": row["dtype"],
                "img/s": f"{row['throughput']:.0f}",
                "times the authors' loop": _times(row),
                "of the hardware's floor": f"{row['floor_ms'] / row['latency_ms']:.0%}",
            }
        )
    return pd.DataFrame(table)


def growth_table(frame: pd.DataFrame, last: int = 3) -> pd.DataFrame:
    """A row a (what grows, device, profile, keep ratio): the power by which time and memory grow over the last points,
    and both at the largest."""
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
                    "memory grows as power": _an_image(group) if reading else f"{powers[1]:.2f}",
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
    `anytime` at each ratio reaches: floor / time."""
    rows = latest(frame, "inference")
    rows = rows[rows["policy"].isin(["glance", PLAIN])]
    rows = rows.assign(
        share=(rows["floor_ms"] / rows["latency_ms"]).map("{:.0%}".format),
        what=[
            NAMES[PLAIN] if p == PLAIN else f"at {r:g}" for p, r in zip(rows["policy"], rows["keep_ratio"], strict=True)
        ],
    )
    table = rows.pivot(index=SETTING, columns="what", values="share").fillna("-")
    return pd.DataFrame([_described(setting) | row.to_dict() for setting, row in table.iterrows()])


@styled
def inference(frame: pd.DataFrame) -> Figure:
    """Speed-up over plain timm against that of GMACs, a panel a (profile, precision, batch size); filled: eager,
    hollow: compiled; the line is the ideal."""
    rows = latest(frame, "inference")
    if rows.empty:
        return nothing("no inference speeds yet: run 09_speed")
    panels = list(rows.groupby(["profile", "image_size", "dtype", "batch_size"], sort=True))
    figure, axes = axes_grid(len(panels))
    for cell, ((profile, side, dtype, batch), group) in zip(axes, panels, strict=True):
        most = group["ideal"].max() * 1.05
        cell.plot([1, most], [1, most], color="#999999", linewidth=0.8, label="ideal (GMACs)")
        for (policy, compiled), line in group[group["policy"] != PLAIN].groupby(["policy", "compiled"], sort=True):
            line = line.sort_values("ideal")
            look = LOOKS[policy] | ({"markerfacecolor": "white", "alpha": 0.8} if compiled else {})
            label = NAMES[policy] + (", compiled" if compiled else "")
            cell.plot(line["ideal"], line["speed_up"], label=label, **look)
            cell.fill_between(
                line["ideal"], line["speed_up_low"], line["speed_up_high"], color=look["color"], alpha=0.12
            )
        cell.set_title(f"{profile}, {int(side)} px, {dtype}, batch of {int(batch)}", loc="left")
        cell.set_xlabel("speed-up in GMACs")
        cell.set_ylabel("measured, over plain timm")
    axes[0].legend()
    return _finish(figure, rows, "speed-up over plain timm against the ideal, of GMACs; band: quartiles of rounds")


@styled
def training(frame: pd.DataFrame) -> Figure:
    """Images a second of each training, with quartiles; how many times the authors' loop above each bar."""
    rows = latest(frame, "training")
    if rows.empty:
        return nothing("no training speeds yet: run 09_speed")
    panels = list(rows.groupby("device", sort=True))
    figure, axes = axes_grid(len(panels))
    for cell, (device, group) in zip(axes, panels, strict=True):
        group = group.set_index("recipe").reindex([name for name in TRAININGS if name in set(group["recipe"])])
        middle = group["throughput"]
        half = group["latency_iqr_ms"] / group["latency_ms"] * middle / 2
        bars = cell.bar(
            [TRAININGS[name] for name in group.index],
            middle,
            yerr=half,
            color="#56B4E9",
            edgecolor="black",
            linewidth=0.6,
            hatch=["//" if name == "published" else "" for name in group.index],
        )
        cell.bar_label(bars, [f"{times:.1f}x" for times in group["speed_up"]], padding=2)
        cell.set_ylabel("images a second")
        cell.set_title(
            f"training, {group['dataset'].iloc[0]} at {int(group['image_size'].iloc[0])} px, {device}", loc="left"
        )
    return _finish(figure, rows, "images a second of each training; bars' lines: quartiles of rounds")


@styled
def memory(frame: pd.DataFrame) -> Figure:
    """Peak memory against keep ratio: of a forward, and of a training step, a row of panels a profile."""
    every = latest(frame, "memory")
    if every.empty:
        return nothing("no memory measured yet: run 09_speed")
    each = [("inference", [""]), ("a training step", ["paper", "dropped"])]
    panels = [(group, *one) for _, group in every.groupby("profile", sort=True) for one in each]
    figure, axes = axes_grid(len(panels))
    for cell, (rows, title, recipes) in zip(axes, panels, strict=True):
        for recipe in recipes:
            line = rows[(rows["recipe"] == recipe) & (rows["policy"] != PLAIN)].sort_values("keep_ratio")
            look = LOOKS["glance" if not recipe else "learned" if recipe == "paper" else "random"]
            cell.plot(line["keep_ratio"], line["peak_memory_mb"], label=recipe or NAMES["glance"], **look)
        plain = rows[(rows["policy"] == PLAIN) & (title == "inference")]
        if len(plain):
            cell.plot(plain["keep_ratio"], plain["peak_memory_mb"], "kx", label=NAMES[PLAIN])
        cell.set_ylim(bottom=0)
        cell.set_xlabel("keep ratio")
        cell.set_ylabel("peak memory (MB)")
        first = rows.iloc[0]
        cell.set_title(f"{first['profile']}, {title}, batch of {int(first['batch_size'])}", loc="left")
        cell.legend()
    return _finish(figure, every, "peak memory against keep ratio, above weights and images")


@styled
def growth(frame: pd.DataFrame, last: int = 3) -> Figure:
    """Time and memory against what grows, on logarithmic scales; the power by which they grow at the end in the
    legend."""
    tasks = [task for task in GROWTHS if len(latest(frame, task))]
    if not tasks:
        return nothing("no growth measured yet: run 09_speed")
    figure, axes = axes_grid(2 * len(tasks))
    drawn = []
    for number, task in enumerate(tasks):
        column, title = GROWTHS[task]
        rows = latest(frame, task)
        drawn.append(rows)
        for cell, y, unit in zip(
            axes[2 * number :], ("latency_ms", "peak_memory_mb"), ("time (ms)", "peak memory (MB)"), strict=False
        ):
            _curves(cell, rows, column, y, last)
            cell.set_xlabel(title)
            cell.set_ylabel(unit)
            if rows["policy"].iloc[0] == READ:
                cell.set_title("split and read once, memory-mapped, 32 px", loc="left")
            else:
                cell.set_title(f"forward, batch of {int(rows['batch_size'].iloc[0])}, float32", loc="left")
    return _finish(figure, pd.concat(drawn), "time and memory against images, their size, patches and classes")


def all_figures(frame: pd.DataFrame, folder: str | os.PathLike) -> list[Path]:
    """Draw and save all four as speed_1 ... speed_4. -> the files."""
    made = []
    for stem, draw in (
        ("speed_1_inference", inference),
        ("speed_2_training", training),
        ("speed_3_memory", memory),
        ("speed_4_growth", growth),
    ):
        made += save(draw(frame), folder, stem)
    return made


def _curves(cell: Axes, rows: pd.DataFrame, column: str, y: str, last: int) -> None:
    looks: Sequence[dict] = (LOOKS["random"], LOOKS["glance"])
    for (ratio, line), look in zip(
        rows.groupby("keep_ratio", dropna=False, sort=True),
        looks if rows["keep_ratio"].nunique() > 1 else looks[1:],
        strict=False,
    ):
        line = line.sort_values(column)
        values = line[y].clip(lower=1e-3)
        reading = line["policy"].iloc[0] == READ
        grows = f"power {exponent(line[column], values, last):.2f}"
        if reading and y == "peak_memory_mb":
            values, grows = line[y].clip(lower=0.1), _an_image(line)
        label = ("" if reading else f"keep ratio {ratio:g}: ") + grows
        cell.plot(line[column], values, label=label, **look)
        if y == "latency_ms":
            cell.plot(line[column], line["floor_ms"], color=look["color"], linewidth=0.7, linestyle=":")
    cell.set_xscale("log")
    cell.set_yscale("log")
    places = sorted(rows[column].unique())
    cell.set_xticks(places, [f"{int(place):,}".replace(",", " ") for place in places])
    cell.minorticks_off()
    cell.legend()


def _an_image(rows: pd.DataFrame) -> str:
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


def _finish(figure: Figure, rows: pd.DataFrame, what: str) -> Figure:
    said = ", ".join(sorted({f"{device}" for device in rows["device"]}))
    commits = ", ".join(sorted(set(rows["commit"].astype(str))))
    about = f"profile {', '.join(sorted(set(rows['profile'])))}; {said}; commit {commits}. {what}"
    say_below(figure, about)
    return drawn_from(figure, rows)
