"""Speed, memory and growth, from rows of `tables.SPEED`; none of the figures is of a data set or checkpoint."""

from collections.abc import Callable

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asel_lib.methods import method, policy_label
from asel_lib.registry import FIGURES, FigureEntry
from asel_lib.reporting.figures._common import once
from asel_lib.reporting.speed_tables import (
    AUTHORS,
    GROWTHS,
    PLAIN_TIMM,
    bytes_an_image,
    exponent,
    in_order,
    latest,
    training_name,
)
from asel_lib.reporting.style import axes_grid, drawn_from, nothing, say_below, styled
from asel_lib.tables.kinds import PLAIN, READ


def _registered(name: str, tasks: tuple[str, ...], what: str) -> Callable:
    """Decorator: what draws the rows of these tasks becomes a figure, and is registered.

    Args:
        name: of the figure.
        tasks: of `tables.SPEED`.
        what: it shows, for the line below it.
    """

    def add(draw: Callable[[pd.DataFrame], Figure]) -> Callable[[pd.DataFrame, str], Figure]:
        @styled
        def figure(frame: pd.DataFrame, subject: str = "") -> Figure:
            rows = pd.concat([latest(frame, task) for task in tasks], ignore_index=True)
            if rows.empty:
                return nothing(f"no {draw.__name__} measured yet: run 09_speed")
            where, commits, profiles = (
                ", ".join(sorted(set(rows[column].astype(str)))) for column in ("device", "commit", "profile")
            )
            drawn = draw(rows)
            say_below(drawn, f"profile {profiles}; {where}; commit {commits}. {what}")
            return drawn_from(drawn, rows)

        FIGURES.add(name, FigureEntry(name, figure, once, table="speed"))
        return figure

    return add


@_registered(
    "speed_1_inference", ("inference",), "speed-up over plain timm against that of GMACs; band: quartiles of rounds"
)
def inference(rows: pd.DataFrame) -> Figure:
    """Speed-up over plain timm against that of GMACs, a panel a (profile, precision, batch size); filled: eager,
    hollow: compiled; the line is the ideal."""
    panels = list(rows.groupby(["profile", "image_size", "dtype", "batch_size"], sort=True))
    figure, axes = axes_grid(len(panels))
    for cell, ((profile, side, dtype, batch), group) in zip(axes, panels, strict=True):
        most = group["ideal_speed_up"].max() * 1.05
        cell.plot([1, most], [1, most], color="#999999", linewidth=0.8, label="ideal (GMACs)")
        for (policy, compiled), line in group[group["policy"] != PLAIN].groupby(["policy", "compiled"], sort=True):
            line = line.sort_values("ideal_speed_up")
            look = method(policy).look | ({"markerfacecolor": "white", "alpha": 0.8} if compiled else {})
            label = policy_label(policy) + (", compiled" if compiled else "")
            cell.plot(line["ideal_speed_up"], line["speed_up"], label=label, **look)
            cell.fill_between(
                line["ideal_speed_up"], line["speed_up_low"], line["speed_up_high"], color=look["color"], alpha=0.12
            )
        cell.set_title(f"{profile}, {int(side)} px, {dtype}, batch of {int(batch)}", loc="left")
        cell.set_xlabel("speed-up in GMACs")
        cell.set_ylabel("measured, over plain timm")
    axes[0].legend()
    return figure


@_registered("speed_2_training", ("training",), "images a second of each training; bars' lines: quartiles of rounds")
def training(rows: pd.DataFrame) -> Figure:
    """Images a second of each training, with quartiles; how many times the authors' loop above each bar."""
    panels = list(rows.groupby("device", sort=True))
    figure, axes = axes_grid(len(panels))
    for cell, (device, group) in zip(axes, panels, strict=True):
        group = in_order(group).set_index("recipe")
        middle = group["throughput"]
        half = group["latency_iqr_ms"] / group["latency_ms"] * middle / 2
        bars = cell.bar(
            [training_name(name) for name in group.index],
            middle,
            yerr=half,
            color="#56B4E9",
            edgecolor="black",
            linewidth=0.6,
            hatch=["//" if name == AUTHORS else "" for name in group.index],
        )
        cell.bar_label(bars, [f"{times:.1f}x" for times in group["speed_up"]], padding=2)
        cell.set_ylabel("images a second")
        cell.set_title(
            f"training, {group['dataset'].iloc[0]} at {int(group['image_size'].iloc[0])} px, {device}", loc="left"
        )
    return figure


@_registered("speed_3_memory", ("memory",), "peak memory against keep ratio, above weights and images")
def memory(every: pd.DataFrame) -> Figure:
    """Peak memory against keep ratio: of a forward, and of a training step, a row of panels a profile."""
    trained = [name for name in dict.fromkeys(every["recipe"]) if name]
    each = [("inference", [""]), ("a training step", trained)]
    panels = [(group, *one) for _, group in every.groupby("profile", sort=True) for one in each]
    figure, axes = axes_grid(len(panels))
    for cell, (rows, title, recipes) in zip(axes, panels, strict=True):
        for recipe in recipes:
            line = rows[(rows["recipe"] == recipe) & (rows["policy"] != PLAIN)].sort_values("keep_ratio")
            look = method(line["policy"].iloc[0], recipe).look if len(line) else {}
            label = recipe or policy_label("glance")
            cell.plot(line["keep_ratio"], line["peak_memory_mb"], label=label, **look)
        plain = rows[(rows["policy"] == PLAIN) & (title == "inference")]
        if len(plain):
            cell.plot(plain["keep_ratio"], plain["peak_memory_mb"], "kx", label=PLAIN_TIMM)
        cell.set_ylim(bottom=0)
        cell.set_xlabel("keep ratio")
        cell.set_ylabel("peak memory (MB)")
        first = rows.iloc[0]
        cell.set_title(f"{first['profile']}, {title}, batch of {int(first['batch_size'])}", loc="left")
        cell.legend()
    return figure


@_registered("speed_4_growth", tuple(GROWTHS), "time and memory against images, their size, patches and classes")
def growth(every: pd.DataFrame) -> Figure:
    """Time and memory against what grows, on logarithmic scales; the power by which they grow at the end in the
    legend."""
    tasks = [task for task in GROWTHS if task in set(every["task"])]
    figure, axes = axes_grid(2 * len(tasks))
    for number, task in enumerate(tasks):
        column, title = GROWTHS[task]
        rows = every[every["task"] == task]
        for cell, y, unit in zip(
            axes[2 * number :], ("latency_ms", "peak_memory_mb"), ("time (ms)", "peak memory (MB)"), strict=False
        ):
            _curves(cell, rows, column, y)
            cell.set_xlabel(title)
            cell.set_ylabel(unit)
            if rows["policy"].iloc[0] == READ:
                cell.set_title("split and read once, memory-mapped, 32 px", loc="left")
            else:
                cell.set_title(f"forward, batch of {int(rows['batch_size'].iloc[0])}, float32", loc="left")
    return figure


def _curves(cell: Axes, rows: pd.DataFrame, column: str, y: str, last: int = 3) -> None:
    looks = [method(policy).look for policy in ("random", "glance")]
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
            values, grows = line[y].clip(lower=0.1), bytes_an_image(line)
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
