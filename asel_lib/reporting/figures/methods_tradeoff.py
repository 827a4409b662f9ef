"""Every method on one backbone, start and schedule: accuracy against what it costs."""

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from asel_lib.identity import ModelKey
from asel_lib.registry import FIGURES, FigureEntry
from asel_lib.reporting.figures._common import footer
from asel_lib.reporting.method_tables import found
from asel_lib.reporting.rows import MEASURED, alike, own_choice
from asel_lib.reporting.style import axes_grid, nothing, styled


@styled
def tradeoffs(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against counted GMACs and against measured throughput, a line a method, with the 95 % interval.

    Args:
        frame: results.
        dataset: the data set's name.
    """
    lines = found(frame, dataset)
    if not lines:
        return nothing(f"no results of the direct schedule for {dataset}")
    figure, axes = axes_grid(2, footer=True)
    figure.set_figheight(4.2)
    for cell, x in zip(axes, ("gmacs", "throughput"), strict=True):
        for method, rows in lines.items():
            cell.plot(rows[x], rows["accuracy"] * 100, label=method.label, **method.look)
            low, high = rows["accuracy_low"] * 100, rows["accuracy_high"] * 100
            cell.fill_between(rows[x], low, high, color=method.color, alpha=0.07, linewidth=0)
        cell.set_ylabel("top-1 accuracy (%)")
        cell.set_xlabel("cost of an image (GMACs)" if x == "gmacs" else "throughput (img/s)")
    axes[0].set_title(f"{dataset}: one backbone, start and schedule", loc="left")
    axes[1].set_title("every method by its own model", loc="left")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    drawn = own_choice(frame[(frame["dataset"] == dataset) & (frame["schedule"] == "direct")])
    ours = drawn[drawn["recipe"] == "anytime"] if (drawn["recipe"] == "anytime").any() else drawn
    seeds = ", ".join(f"{method.label}: {int(rows['seeds'].max())}" for method, rows in lines.items())
    footer(figure, alike(drawn, ours, MEASURED), dataset, f"seeds: {seeds}. band: 95 % interval (Wilson)")
    return figure


def _compared(keys: Sequence[ModelKey]) -> tuple[str, ...]:
    """Data sets of which several methods are trained on the direct schedule."""
    methods: dict[str, set] = {}
    for key in keys:
        if key.schedule == "direct" and not key.variant and key.keep_ratio is None:
            methods.setdefault(key.dataset, set()).add((key.selector, key.recipe))
    return tuple(dataset for dataset, several in methods.items() if len(several) > 1)


FIGURES.add("7_methods", FigureEntry("7_methods", tradeoffs, _compared))
