"""ASEL against AgentViT: the paper's four figures, and one with everything else equal."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asel_lib.identity import ModelKey
from asel_lib.registry import FIGURES, FigureEntry
from asel_lib.reporting.comparison import as_published, equal, looks, random_label
from asel_lib.reporting.figures._common import footer, seeds_bars
from asel_lib.reporting.rows import MEASURED, alike
from asel_lib.reporting.style import COLUMN, axes_grid, nothing, styled

INTERVAL = "band: 95 % interval (Wilson); bars: lowest to highest seed"


@styled
def accuracy_keep(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against keep ratio, as published; arguments as `figures.draw`'s."""
    return _lines(as_published(frame, dataset), frame, dataset, "keep_ratio", "accuracy", "keep ratio", INTERVAL)


@styled
def accuracy_throughput(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against throughput, as published; arguments as `figures.draw`'s."""
    note = f"along a line the keep ratio falls from left to right; {INTERVAL.partition(';')[0]}"
    return _lines(as_published(frame, dataset), frame, dataset, "throughput", "accuracy", "throughput (img/s)", note)


@styled
def gmacs(frame: pd.DataFrame, dataset: str) -> Figure:
    """Counted GMACs against keep ratio, choosing included, as published; arguments as `figures.draw`'s."""
    note = "attention and choosing included"
    return _lines(as_published(frame, dataset), frame, dataset, "keep_ratio", "gmacs", "keep ratio", note)


@styled
def latency_50(frame: pd.DataFrame, dataset: str) -> Figure:
    """Latency of a batch with all and with half of the patches, as published; arguments as `figures.draw`'s."""
    found = {label: rows for label, rows in as_published(frame, dataset).items() if label != random_label()}
    if not found:
        return _missing(dataset)
    (figure, (axes,)), styles = axes_grid(1, footer=True), looks()
    for number, ratio in enumerate((1.0, 0.5)):
        cells = [rows[np.isclose(rows["keep_ratio"], ratio)] for rows in found.values()]
        times = [cell["latency_ms"].mean() for cell in cells]
        places = np.arange(len(found)) + (number - 0.5) * 0.38
        bars = axes.bar(
            places,
            times,
            0.36,
            yerr=[cell["latency_iqr_ms"].mean() / 2 for cell in cells],
            color=[styles[label]["color"] for label in found],
            alpha=(0.45, 1.0)[number],
            ecolor="#333333",
            hatch=("//", "")[number],
            edgecolor="white",
            error_kw={"elinewidth": 0.8},
        )
        axes.bar_label(bars, [f"{time:.1f}" for time in times], fontsize=7, padding=3)
    axes.set_xticks(range(len(found)), list(found))
    sizes = "/".join(f"{size:g}" for size in sorted(frame.loc[frame["dataset"] == dataset, "batch_size"].unique()))
    axes.set(ylabel=f"latency of {sizes} images (ms)", title=f"{dataset}: left all patches, right half of them")
    axes.margins(y=0.15)
    footer(figure, _drawn(frame, dataset, False), dataset, "bars: half the interquartile range")
    return figure


@styled
def equal_setting(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against keep ratio: the same backbone, start, optimiser and epochs; arguments as `figures.draw`'s."""
    note = f"{INTERVAL}; trained at keep ratios: AgentViT about half, the others 0.05 to 1"
    return _lines(equal(frame, dataset), frame, dataset, "keep_ratio", "accuracy", "keep ratio", note, equally=True)


def _missing(dataset: str) -> Figure:
    return nothing(f"no results of AgentViT for {dataset}")


def _lines(
    found: dict[str, pd.DataFrame],
    frame: pd.DataFrame,
    dataset: str,
    x: str,
    y: str,
    xlabel: str,
    note: str,
    equally: bool = False,
) -> Figure:
    if not found:
        return _missing(dataset)
    figure, (axes,) = axes_grid(1, footer=True)
    figure.set_size_inches(COLUMN * 1.25, 3.1)
    styles = looks()
    for label, rows in found.items():
        _line(axes, label, rows, x, y, styles[label])
    axes.set(xlabel=xlabel, ylabel="top-1 accuracy (%)" if y == "accuracy" else "cost of an image (GMACs)")
    if x == "keep_ratio":
        axes.set(xlim=(0, 1.03), xticks=np.arange(0, 1.01, 0.2))
    if y == "gmacs":
        axes.set_ylim(bottom=0)
    seeds = ", ".join(f"{label}: {int(rows['seeds'].max())}" for label, rows in found.items())
    axes.set_title(
        f"{dataset}: " + ("same backbone, start, epochs" if equally else "ASEL warmed up, AgentViT from scratch")
    )
    figure.legend(loc="outside upper center", ncols=2)  # the lines fill the panel
    footer(figure, _drawn(frame, dataset, equally), dataset, f"seeds: {seeds}. {note}")
    return figure


def _line(axes: Axes, label: str, rows: pd.DataFrame, x: str, y: str, style: dict[str, str]) -> None:
    scale = 100 if y == "accuracy" else 1
    axes.plot(rows[x], rows[y] * scale, label=label, **style)
    if y == "accuracy":
        low, high = rows["accuracy_low"] * 100, rows["accuracy_high"] * 100
        axes.fill_between(rows[x], low, high, color=style["color"], alpha=0.12, linewidth=0)
        if x == "keep_ratio":
            seeds_bars(axes, x, rows, style["color"])


def _drawn(frame: pd.DataFrame, dataset: str, equally: bool) -> pd.DataFrame:
    """The rows behind a figure, for its footer."""
    schedules = ("direct",) if equally else ("published", "agentvit")
    rows = frame[(frame["dataset"] == dataset) & frame["schedule"].isin(schedules)]
    return alike(rows, rows[rows["policy"] == "agent"], MEASURED)


def _with_agentvit(keys: Sequence[ModelKey]) -> tuple[str, ...]:
    """Data sets with models of AgentViT, on either schedule."""
    return tuple(dict.fromkeys(key.dataset for key in keys if key.selector == "agent"))


# Under the published names; the last has none there.
for _name, _draw in {
    "asel_vs_agentvit_1_acc_keep": accuracy_keep,
    "asel_vs_agentvit_2_acc_throughput": accuracy_throughput,
    "asel_vs_agentvit_3_gflops": gmacs,
    "asel_vs_agentvit_4_latency_50": latency_50,
    "asel_vs_agentvit_5_equal": equal_setting,
}.items():
    FIGURES.add(_name, FigureEntry(_name, _draw, _with_agentvit))
