"""Which classes are taken for which: confusion matrices, from the table of answers."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from asel_lib.extras import need
from asel_lib.reporting.style import drawn_from, short, styled


@styled
def confusion_matrices(table: pd.DataFrame, title: str = "") -> Figure:
    """Confusion matrices side by side: counts, and shares of each true class in per cent.

    Args:
        table: rows (class, answer, images) of `accuracy.confusion`, of one checkpoint at one keep ratio.
        title: what they are of.
    """
    need("figures", "seaborn")
    import seaborn as sns

    classes = list(dict.fromkeys(table["class"]))
    counts = table.pivot_table(index="class", columns="answer", values="images", aggfunc="sum", fill_value=0)
    counts = counts.reindex(index=classes, columns=classes, fill_value=0).to_numpy()
    shares = 100 * counts / counts.sum(axis=1, keepdims=True).clip(1)
    names = [short(name, 24, lines=1) for name in classes]
    side = max(3.0, 0.24 * len(classes) + 0.8 + 0.06 * max(map(len, names)))
    figure = Figure(figsize=(2 * side, side), layout="constrained")
    written = len(classes) <= 15  # more are read by colour
    panels = zip(figure.subplots(1, 2), (counts, shares), ("images", "% of the class"), strict=True)
    for cell, matrix, what in panels:
        sns.heatmap(
            matrix,
            ax=cell,
            cmap="Blues",
            vmin=0,
            annot=written,
            fmt=".0f",
            square=True,
            annot_kws={"fontsize": 6},
            cbar_kws={"shrink": 0.7},
            xticklabels=names,
            yticklabels=names,
        )
        cell.set_title(what)
        cell.set(xlabel="answer", ylabel="class")
        cell.tick_params(axis="x", rotation=90)
        cell.tick_params(axis="y", rotation=0)
        cell.grid(False)
    if title:
        figure.suptitle(title, fontsize=9)
    right = np.trace(counts) / max(1, counts.sum())
    figure.set_label(f"Confusion matrix {title}: {right:.1%} of {counts.sum()} images on the diagonal; left counts")
    return drawn_from(figure, table)
