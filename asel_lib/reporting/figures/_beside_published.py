"""Panels in which what was measured stands beside what was published, as faint hollow markers; a panel without results
says so, in its place."""

import textwrap

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from asel_lib.reporting.figures._common import DRAWN, look
from asel_lib.reporting.rows import RECIPES
from asel_lib.reporting.style import FAINT, PAGE, drawn_from, say_below


def grid(rows: int) -> tuple[Figure, np.ndarray]:
    """A figure of so many rows of panels, a column a recipe of RECIPES."""
    figure = Figure(figsize=(PAGE, 2.25 * rows + 0.4), layout="constrained")
    return figure, figure.subplots(rows, len(RECIPES), squeeze=False, sharey="row")


def line(axes: Axes, x: str, rows: pd.DataFrame, policy: str, label: str, y: str = "accuracy") -> None:
    """Ours: a policy's line, accuracy with its interval; nothing where there are no rows.

    Args:
        axes: drawn into.
        x: a column.
        rows: of the policy.
        policy: whose look.
        label: in the legend.
        y: a column.
    """
    if rows.empty:
        return
    scale, style = (100 if y == "accuracy" else 1), look(policy)
    rows = rows.sort_values(x)
    axes.plot(rows[x], rows[y] * scale, label=label, **style)
    if y == "accuracy":
        low, high = rows["accuracy_low"] * 100, rows["accuracy_high"] * 100
        axes.fill_between(rows[x], low, high, color=style["color"], alpha=0.13, linewidth=0)


def faint(axes: Axes, x: str, rows: pd.DataFrame, policy: str, label: str, y: str = "accuracy") -> None:
    """What was published, as hollow markers; nothing where it was not. Arguments as `line`'s."""
    rows = rows.dropna(subset=[x, y])
    if len(rows):
        shown = {key: look(policy)[key] for key in ("color", "marker")}
        axes.plot(rows[x], rows[y] * (100 if y == "accuracy" else 1), label=label, **shown | FAINT)


def in_proportion(axes: Axes, rows: pd.DataFrame, y: str) -> None:
    """What ours would cost in proportion to the keep ratio: on a logarithmic axis the eye needs it.

    Args:
        axes: drawn into.
        rows: of the recipe.
        y: the cost's column.
    """
    whole = rows.loc[rows["keep_ratio"] == 1, y]
    if len(whole):
        ratios = np.linspace(rows["keep_ratio"].min(), 1, 50)
        axes.plot(ratios, ratios * whole.iloc[0], color="#777777", linewidth=0.8, label="in proportion to ours at 1")


def logarithmic(axes: Axes, ylabel: str) -> None:
    """A cost on a logarithmic axis, against keep ratio.

    Args:
        axes: of the panel.
        ylabel: of the cost.
    """
    axes.set(yscale="log", xlabel="keep ratio", ylabel=ylabel)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def titled(axes: Axes, letter: str, dataset: str, recipe: str, rows: pd.DataFrame) -> None:
    """The panel's letter, what it is of and from which start; where that was not measured, it says so.

    Args:
        axes: of the panel.
        letter: "a".
        dataset: the data set's name.
        recipe: the recipe's name.
        rows: that are drawn.
    """
    missing(axes, rows, f"recipe {recipe} on {dataset}")
    axes.set_title(f"({letter}) {dataset}, recipe {recipe}{_start(rows)}")


def missing(axes: Axes, rows: pd.DataFrame, what: str) -> None:
    """Say in the panel's place where nothing was measured.

    Args:
        axes: of the panel.
        rows: that would be drawn.
        what: was to be measured.
    """
    axes.set_ylabel("top-1 accuracy (%)")
    if rows.empty:
        text = "\n".join(textwrap.wrap(f"no results of {what} in this table", 30))
        axes.text(
            0.5,
            0.2,
            text,
            ha="center",
            va="center",
            transform=axes.transAxes,
            color="#9a3b00",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "#9a3b00", "linewidth": 0.6, "pad": 4},
        )


def _start(rows: pd.DataFrame) -> str:
    return f"\n({rows['profile'].iloc[0]}, {rows['start'].iloc[0].replace('_', ' ')} weights)" if len(rows) else ""


def finished(figure: Figure, panels: np.ndarray, used: list[pd.DataFrame], dataset: str, note: str) -> Figure:
    """The figure with one legend, ticks of keep ratios, and below it what the drawn rows are of.

    Args:
        figure: with its panels drawn.
        panels: (rows, columns) of axes.
        used: the drawn rows.
        dataset: the data set's name.
        note: for the line below.
    """
    named: dict[str, object] = {}
    for axes in panels.ravel():
        if axes.get_xlabel() == "keep ratio":
            axes.set(xlim=(0, 1.03), xticks=np.arange(0, 1.01, 0.2))
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
        axes.tick_params(labelleft=True)
    if named:
        figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=3)
    rows = pd.concat([part for part in used if len(part)] or [pd.DataFrame(columns=list(DRAWN))], ignore_index=True)
    about = f"{dataset} test"
    if len(rows):
        each = {
            name: ", ".join(dict.fromkeys(map(str, rows[name])))
            for name in ("device", "dtype", "commit")
            if name in rows
        }
        about += "; " + "; ".join(f"commit {text}" if name == "commit" else text for name, text in each.items())
    say_below(figure, about, f"band: 95 % interval (Wilson). {note}")
    return drawn_from(figure, rows.drop_duplicates())
