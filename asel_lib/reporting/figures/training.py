"""The history of a training, as the notebooks that train show it."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asel_lib.reporting.style import axes_grid, nothing, styled

SERIES = ({"color": "#0072B2", "marker": "o", "linestyle": "-"}, {"color": "#D55E00", "marker": "s", "linestyle": "--"})


@styled
def history(frame: pd.DataFrame) -> Figure:
    """A training over its epochs: loss, accuracy, keep ratio, speed; a panel for each that the table has.

    Args:
        frame: a row an epoch.
    """
    panels = [
        ("loss", {"train_loss": "train", "val_loss": "val"}, 1),
        ("top-1 accuracy (%)", {"train_accuracy": "train", "val_accuracy": "val"}, 100),
        ("keep ratio", {"keep_ratio": "mean of the epoch"}, 1),
        ("reward", {"reward": "mean of the epoch"}, 1),
        ("chance of a random mask (%)", {"epsilon": "epsilon"}, 100),
        ("speed (img/s)", {"images_per_second": "train"}, 1),
    ]
    panels = [
        (name, {k: v for k, v in columns.items() if k in frame and frame[k].notna().any()}, scale)
        for name, columns, scale in panels
    ]
    panels = [panel for panel in panels if panel[1]]
    if frame.empty or not panels:
        return nothing("no training history")
    figure, axes = axes_grid(len(panels))
    epochs = frame["epoch"] if "epoch" in frame else np.arange(len(frame))
    for cell, (name, columns, scale) in zip(axes, panels, strict=True):
        for style, (column, label) in zip(SERIES, columns.items(), strict=False):
            cell.plot(epochs, frame[column] * scale, label=label, **style)
        cell.set(xlabel="epoch", ylabel=name)
        cell.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(columns) > 1:
            cell.legend()
    return figure
