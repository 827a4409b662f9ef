"""What several figures share: which data sets they are of, their lines, and what is said below them."""

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asel_lib import methods
from asel_lib.identity import ModelKey
from asel_lib.reporting.rows import over_seeds, runs
from asel_lib.reporting.style import axes_grid, drawn_from, nothing, say_below

# What a figure's own table says of each point; the rest is in the results.
DRAWN = (
    "dataset",
    "checkpoint",
    "schedule",
    "selector",
    "policy",
    "recipe",
    "profile",
    "start",
    "seed",
    "keep_ratio",
    "n_images",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "gmacs",
    "selector_gmacs",
    "latency_ms",
    "latency_iqr_ms",
    "throughput",
    "device",
    "dtype",
    "commit",
)
FIRST = ("learned", "random", "central", "agent", "glance")  # the order in legends; others follow


def datasets(keys: Sequence[ModelKey]) -> tuple[str, ...]:
    """Subjects of a figure that is drawn of every data set."""
    return tuple(dict.fromkeys(key.dataset for key in keys))


def once(keys: Sequence[ModelKey]) -> tuple[str, ...]:
    """The subject of a figure that is drawn once, whatever the models."""
    return ("",)


def in_order(policies: Sequence[str]) -> list[str]:
    """The policies in the order of a legend."""
    return sorted(set(policies), key=lambda name: ([*FIRST, name].index(name), name))


def look(policy: str) -> dict[str, str]:
    """How a policy's line is drawn."""
    return methods.method(policy).look


def main_policy(run: pd.DataFrame) -> str:
    """The policy that was trained, if one was."""
    there = sorted(run["policy"].unique())
    return next((policy for policy in ("learned", "glance") if policy in there), there[0])


def accuracy_line(axes: Axes, x: str, rows: pd.DataFrame, policy: str, band: bool = True) -> None:
    """A policy's accuracy, with its interval as a band.

    Args:
        axes: drawn into.
        x: a column.
        rows: of the policy.
        policy: whose look.
        band: whether the interval is drawn.
    """
    style = look(policy)
    axes.plot(rows[x], rows["accuracy"] * 100, label=methods.policy_label(policy), **style)
    if band:
        low, high = rows["accuracy_low"] * 100, rows["accuracy_high"] * 100
        axes.fill_between(rows[x], low, high, color=style["color"], alpha=0.15, linewidth=0)


def seeds_bars(axes: Axes, x: str, rows: pd.DataFrame, color: str) -> None:
    """From the lowest to the highest seed, where there are several.

    Args:
        axes: drawn into.
        x: a column.
        rows: of one policy.
        color: "#rrggbb".
    """
    if rows["seeds"].max() > 1:
        axes.vlines(rows[x], rows["seed_low"] * 100, rows["seed_high"] * 100, color=color, linewidth=0.8)


def panels(
    frame: pd.DataFrame,
    dataset: str,
    line: Callable[[Axes, pd.DataFrame, str, pd.DataFrame], None],
    xlabel: str,
    ylabel: str,
    note: str,
    ratio_axis: bool = False,
    from_zero: bool = False,
) -> Figure:
    """A panel a run of the data set.

    Args:
        frame: results.
        dataset: the data set's name.
        line: draws a policy: (axes, its rows over seeds, policy, all rows of the run).
        xlabel: of the axis.
        ylabel: of the axis.
        note: said below the figure.
        ratio_axis: x is the keep ratio.
        from_zero: y begins at 0.
    """
    rows = frame[frame["dataset"] == dataset]
    if rows.empty:
        return nothing(f"no results for {dataset}")
    groups = runs(rows)
    figure, axes = axes_grid(len(groups), share=True, footer=True)
    named: set[str] = set()
    for number, (cell, run) in enumerate(zip(axes, groups, strict=True)):
        means = over_seeds(run.rows)
        for policy in in_order(means["policy"]):
            line(cell, means[means["policy"] == policy], policy, means)
        seeds = run.rows["seed"].nunique()
        title = f"{dataset}, recipe {run.label}" + (f", mean of {seeds} seeds" if seeds > 1 else "")
        cell.set_title("\n".join(textwrap.wrap(title, 44)))
        cell.set(xlabel=xlabel, ylabel=ylabel)
        if ratio_axis:
            cell.set_xlim(0, 1.03)
            cell.set_xticks(np.arange(0, 1.01, 0.2))
        if from_zero:
            cell.set_ylim(bottom=0)  # after the last line: it ends the axis' own scaling
        cell.label_outer(remove_inner_ticks=False)
        if number + 2 >= len(axes):  # nothing below it
            cell.set_xlabel(xlabel)
            cell.tick_params(labelbottom=True)
        handles, labels = cell.get_legend_handles_labels()
        if len(labels) > 5 and len(axes) == 1:  # they would cover the lines of a single small panel
            figure.set_figheight(figure.get_figheight() + 0.15 * -(-len(labels) // 2))
            figure.legend(handles, labels, loc="outside upper center", ncols=2)
        elif not named.issuperset(labels):
            cell.legend(loc="best")
            named |= set(labels)
    footer(figure, rows, dataset, note)
    return figure


def footer(figure: Figure, rows: pd.DataFrame, dataset: str, note: str) -> None:
    """Say below the figure what the drawn rows are of, and that it draws them.

    Args:
        figure: to be finished.
        rows: that are drawn.
        dataset: the data set's name.
        note: added to the line.
    """

    def each(column: str) -> str:
        return ", ".join(f"{value}" for value in dict.fromkeys(rows[column]))

    images = ", ".join(f"{count:.0f}" for count in dict.fromkeys(rows["n_images"]))
    about = f"{dataset} {each('split')}, {images} images; {each('device')}, {each('dtype')}; "
    about += f"commit {each('commit')}"
    if others := sorted(set(rows["elsewhere"]) - {""} if "elsewhere" in rows else ()):
        note += f". accuracy of some seeds, without their cost: {', '.join(others)}"
    say_below(figure, about, note)
    drawn_from(figure, rows[[name for name in (*DRAWN, "elsewhere") if name in rows]])
