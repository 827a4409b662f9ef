"""Figure 1 of the ASEL paper."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from asel_lib.registry import FIGURES, FigureEntry
from asel_lib.reporting.figures._common import once
from asel_lib.reporting.style import PAGE, styled

KEPT = "#0072B2"  # a kept patch


@styled
def architecture(frame: pd.DataFrame | None = None, subject: str = "") -> Figure:
    """Figure 1: what ASEL's model does with an image, drawn by code. Arguments as `figures.draw`'s."""
    figure = Figure(figsize=(PAGE, 2.0), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 14.1), ylim=(-0.1, 3.6), aspect="equal")
    axes.set_axis_off()
    kept = {1, 4, 6, 9, 10}
    for patch in range(16):
        row, column = divmod(patch, 4)
        for left, shown in ((0.1, True), (8.65, patch in kept)):
            face = KEPT if patch in kept and left > 1 else "#cfe3f2" if shown else "#eeeeee"
            axes.add_patch(
                Rectangle((left + column * 0.42, 2.2 - row * 0.42), 0.38, 0.38, facecolor=face, edgecolor="w")
            )
    boxes = {
        "embed": (2.15, 0.95, 1.7, 1.4, "embedding\n+ position\n$z_1 \\ldots z_N$"),
        "mean": (4.6, 2.75, 1.5, 0.6, "mean $g$"),
        "selector": (4.3, 0.8, 2.1, 1.6, "MLP on $[z_i \\| g]$:\nLinear,\nLayerNorm,\nReLU, Linear"),
        "scores": (6.85, 1.2, 1.35, 0.9, "sigmoid\n$s_i \\in (0, 1)$"),
        "blocks": (10.75, 1.0, 1.6, 1.25, "ViT blocks\non $K + 1$\ntokens"),
        "head": (12.8, 1.2, 1.15, 0.85, "head on\nCLS"),
    }
    for left, low, width, height, text in boxes.values():
        axes.add_patch(
            FancyBboxPatch(
                (left, low),
                width,
                height,
                boxstyle="round,pad=0.05",
                facecolor="#f6f6f6",
                edgecolor="#555555",
                linewidth=0.8,
            )
        )
        axes.text(left + width / 2, low + height / 2, text, ha="center", va="center", fontsize=6.5)
    for start, end in [
        ((1.82, 1.65), (2.08, 1.65)),
        ((3.93, 1.6), (4.22, 1.6)),
        ((3.93, 2.2), (4.53, 2.9)),
        ((5.35, 2.68), (5.35, 2.48)),
        ((6.48, 1.6), (6.78, 1.6)),
        ((8.28, 1.65), (8.55, 1.65)),
        ((10.35, 1.65), (10.67, 1.65)),
        ((12.43, 1.62), (12.72, 1.62)),
    ]:
        axes.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=7, linewidth=0.8, color="#555555"))
    axes.text(0.92, 2.75, "image,\n$N$ patches", ha="center", va="bottom", fontsize=6.5)
    axes.text(
        9.47,
        2.75,
        "$K = \\max(1, \\lfloor \\rho N \\rfloor)$\nhighest scores stay",
        ha="center",
        va="bottom",
        fontsize=6.5,
    )
    note = (
        "In training (recipe masked) all $N$ tokens stay and are multiplied by the straight-through mask; at test time "
        "only the $K$ kept ones enter the blocks."
    )
    axes.text(7.05, 0.15, note, ha="center", va="center", fontsize=6.5)
    figure.set_label(
        "Architecture of ASEL: an image is cut into N patches and embedded; a small MLP scores each patch from its "
        "embedding and the mean of all; the K patches with the highest scores and the class token enter the "
        "transformer's blocks, and the head reads the class token."
    )
    return figure


FIGURES.add("paper_1_architecture", FigureEntry("paper_1_architecture", architecture, once, rows=False))
