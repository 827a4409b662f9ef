"""Exported models against torch, from rows of `tables.DEPLOYED`."""

import pandas as pd
from matplotlib.figure import Figure

from asel_lib.registry import FIGURES, FigureEntry
from asel_lib.reporting.deployed import LOOKS, latest, setting_of
from asel_lib.reporting.style import axes_grid, drawn_from, nothing, say_below, styled


@styled
def latency(frame: pd.DataFrame, checkpoint: str = "") -> Figure:
    """Latency against keep ratio, a line a runtime, a panel a (batch size, threads); band: interquartile range.

    Args:
        frame: rows of `tables.DEPLOYED`.
        checkpoint: of which, "": of all that the rows have.
    """
    rows = latest(frame if not checkpoint else frame[frame["checkpoint"] == checkpoint])
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
        cell.set(title=setting_of(batch, threads), xlabel="keep ratio", ylabel="latency (ms)", xlim=(0, 1.03))
        cell.set_ylim(bottom=0)
    axes[0].legend()
    first = rows.iloc[-1]
    about = f"{', '.join(dict.fromkeys(rows['checkpoint']))}; {first['device']}; commit {first['commit']}. latency of "
    say_below(figure, about + "torch and onnxruntime against keep ratio; band: interquartile range of rounds")
    return drawn_from(figure, rows)


FIGURES.add(
    "export", FigureEntry("export", latency, lambda keys: [key.name for key in dict.fromkeys(keys)], table="deployed")
)
