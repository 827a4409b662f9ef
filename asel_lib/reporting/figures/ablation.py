"""What each part of a recipe is worth, from paired differences. No table of a run holds these: it is drawn where
they are made, and not registered."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from asel_lib.reporting.style import PAGE, drawn_from, nothing, say_below, styled


@styled
def ablation(gaps: pd.DataFrame, dataset: str, ratios: Sequence[float] = (0.1, 0.2, 0.5, 1.0)) -> Figure:
    """What each change of a recipe does to accuracy: a panel a keep ratio, a row a variant, points above or below the
    recipe as it is, with their 95 % interval.

    Args:
        gaps: `evaluation.paired.against`'s rows.
        dataset: the data set's name.
        ratios: keep ratios; those that were not measured are left out.
    """
    ratios = [ratio for ratio in ratios if len(gaps) and np.isclose(gaps["keep_ratio"], ratio).any()]
    if not ratios:
        return nothing(f"no ablation of {dataset} at hand")
    labels = list(dict.fromkeys(gaps["label"]))
    figure = Figure(figsize=(PAGE, 1.3 + 0.24 * len(labels)), layout="constrained")
    cells = figure.subplots(1, len(ratios), squeeze=False, sharey=True, sharex=True)[0]
    for cell, ratio in zip(cells, ratios, strict=True):
        rows = gaps[np.isclose(gaps["keep_ratio"], ratio)].set_index("label").loc[labels] * 100
        errors = [rows["difference"] - rows["low"], rows["high"] - rows["difference"]]
        cell.axvline(0, color="#555555", linewidth=0.8)
        cell.errorbar(
            rows["difference"], labels, xerr=errors, fmt="o", color="#0072B2", capsize=2, label="changed - unchanged"
        )
        cell.set_title(f"at {ratio:g}")
        cell.set_xlabel("points")
    cells[0].invert_yaxis()
    about = gaps.iloc[0]
    seeds = ", ".join(f"{count:g}" for count in sorted(set(gaps["seeds"])))
    note = (
        f"seeds: {seeds} against {about['their_seeds']:g}. bars: 95 % interval of the paired difference over images, "
    )
    note += "not over trainings, which differ among themselves too"
    say_below(figure, f"{dataset} test, {about['n_images']:g} images", note)
    return drawn_from(figure, gaps)
