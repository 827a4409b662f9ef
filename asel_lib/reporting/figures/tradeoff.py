"""One run's accuracy against keep ratio and against cost, random patches as the yardstick."""

import pandas as pd
from matplotlib.figure import Figure

from asel_lib.methods import policy_label
from asel_lib.registry import FIGURES, FigureEntry
from asel_lib.reporting.figures._common import accuracy_line, datasets, footer, in_order, look, main_policy, seeds_bars
from asel_lib.reporting.rows import over_seeds, runs
from asel_lib.reporting.style import axes_grid, nothing, styled


@styled
def tradeoff(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against keep ratio (left) and against GMACs (right), a line a policy; random with its 95 % interval.

    The run is one on the direct schedule where there is one, since each policy has a model trained with it there; of
    several that with the most policies.

    Args:
        frame: results.
        dataset: the data set's name.
    """
    rows = frame[frame["dataset"] == dataset]
    if rows.empty:
        return nothing(f"no results for {dataset}")
    direct = rows[rows["schedule"] == "direct"]
    run = max(runs(rows if direct.empty else direct), key=lambda each: each.rows["policy"].nunique())
    means = over_seeds(run.rows)
    yardstick = "random" if "random" in set(means["policy"]) else main_policy(means)
    figure, axes = axes_grid(2, share=False, footer=True)
    for cell, x in zip(axes, ("keep_ratio", "gmacs"), strict=True):
        for policy in in_order(means["policy"]):
            line = means[means["policy"] == policy]
            accuracy_line(cell, x, line, policy, band=policy == yardstick)
            if x == "keep_ratio" and policy != yardstick:
                seeds_bars(cell, x, line, look(policy)["color"])
        cell.set_ylabel("top-1 accuracy (%)")
        cell.set_xlabel("keep ratio" if x == "keep_ratio" else "cost of an image (GMACs)")
    seeds = run.rows["seed"].nunique()
    each = "each policy by the model trained with it" if len(direct) else f"recipe {run.label}"
    axes[0].set_title(f"{dataset}, {each}" + (f", mean of {seeds} seeds" if seeds > 1 else ""))
    axes[0].legend(loc="lower right")
    note = f"band: 95 % interval (Wilson) of {policy_label(yardstick)}; bars: lowest to highest seed"
    footer(figure, run.rows, dataset, note)
    return figure


FIGURES.add("6_combined_tradeoff", FigureEntry("6_combined_tradeoff", tradeoff, datasets))
