"""What a model does by every policy: accuracy and cost, a panel a run, a line a policy."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asel_lib.methods import policy_label
from asel_lib.registry import FIGURES, FigureEntry
from asel_lib.reporting.figures._common import accuracy_line, datasets, look, main_policy, panels, seeds_bars
from asel_lib.reporting.style import styled


@styled
def strategies(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against keep ratio, with the 95 % interval.

    Args:
        frame: results.
        dataset: the data set's name.
    """

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        accuracy_line(axes, "keep_ratio", rows, policy)
        seeds_bars(axes, "keep_ratio", rows, look(policy)["color"])

    note = "band: 95 % interval (Wilson); bars: lowest to highest seed"
    return panels(frame, dataset, line, "keep ratio", "top-1 accuracy (%)", note, ratio_axis=True)


@styled
def throughput(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against throughput, the learned policy's points named by their keep ratio; arguments as above."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        style = look(policy)
        axes.plot(rows["throughput"], rows["accuracy"] * 100, label=policy_label(policy), **style)
        error = [(rows["accuracy"] - rows["accuracy_low"]) * 100, (rows["accuracy_high"] - rows["accuracy"]) * 100]
        axes.errorbar(
            rows["throughput"],
            rows["accuracy"] * 100,
            np.clip(error, 0, None),
            fmt="none",
            ecolor=style["color"],
            elinewidth=0.6,
            alpha=0.6,
        )
        if policy == main_policy(run):
            for row in rows[rows["keep_ratio"].round(6).isin([1.0, 0.5, 0.3, 0.2, 0.1])].to_dict("records"):
                axes.annotate(
                    f"{row['keep_ratio']:g}",
                    (row["throughput"], row["accuracy"] * 100),
                    (4, 4),
                    textcoords="offset points",
                    color=style["color"],
                    fontsize=7,
                )

    note = "numbers: keep ratio; bars: 95 % interval (Wilson)"
    return panels(frame, dataset, line, "throughput (img/s)", "top-1 accuracy (%)", note)


@styled
def gmacs(frame: pd.DataFrame, dataset: str) -> Figure:
    """GMACs of one image against keep ratio, with the part that choosing takes, and the straight line that cost would
    follow if it were in proportion to the patches kept; arguments as above."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        style = look(policy)
        axes.plot(rows["keep_ratio"], rows["gmacs"], label=policy_label(policy), **style)
        if policy == main_policy(run):
            base = rows["gmacs"] - rows["selector_gmacs"]
            axes.fill_between(rows["keep_ratio"], base, rows["gmacs"], color=style["color"], alpha=0.35, linewidth=0)
            share = (rows["selector_gmacs"] / rows["gmacs"]).max()
            most = rows["selector_gmacs"].max()
            axes.text(
                0.97,
                0.04,
                f"selector: {most:.2g} GMACs\n(at most {share * 100:.1f} % of a forward)",
                fontsize=7,
                ha="right",
                va="bottom",
                transform=axes.transAxes,
                color=style["color"],
            )
            full = rows.loc[rows["keep_ratio"] == 1, "gmacs"]
            if len(full):
                axes.plot([0, 1], [0, full.iloc[0]], color="#777777", linewidth=0.8, label="in proportion")

    return panels(frame, dataset, line, "keep ratio", "cost of an image (GMACs)", "", ratio_axis=True, from_zero=True)


@styled
def latency(frame: pd.DataFrame, dataset: str) -> Figure:
    """Latency of a batch against keep ratio, median and interquartile range, with the speed-up over all patches;
    arguments as above."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        style = look(policy)
        middle, spread = rows["latency_ms"], rows["latency_iqr_ms"] / 2
        axes.plot(rows["keep_ratio"], middle, label=policy_label(policy), **style)
        axes.fill_between(
            rows["keep_ratio"], middle - spread, middle + spread, color=style["color"], alpha=0.15, linewidth=0
        )
        full = rows.loc[rows["keep_ratio"] == 1, "latency_ms"]
        if policy == main_policy(run) and len(full):
            for row in rows[rows["keep_ratio"].round(6).isin([0.8, 0.5, 0.2])].to_dict("records"):
                gain = f"{full.iloc[0] / row['latency_ms']:.1f}×"
                axes.annotate(
                    gain,
                    (row["keep_ratio"], row["latency_ms"]),
                    (0, -10),
                    textcoords="offset points",
                    color=style["color"],
                    fontsize=7,
                    ha="center",
                )

    sizes = sorted(frame.loc[frame["dataset"] == dataset, "batch_size"].unique())
    batch = "/".join(f"{size:g}" for size in sizes) or "?"
    note = "band: interquartile range; ×: speed-up over ratio 1"
    return panels(
        frame, dataset, line, "keep ratio", f"latency of {batch} images (ms)", note, ratio_axis=True, from_zero=True
    )


@styled
def accuracy_vs_gmacs(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against the cost of an image, with the 95 % interval; arguments as above."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        accuracy_line(axes, "gmacs", rows, policy)

    note = "band: 95 % interval (Wilson)"
    return panels(frame, dataset, line, "cost of an image (GMACs)", "top-1 accuracy (%)", note)


# Under the ASEL paper's and the line-guided paper's own names.
for _name, _draw in {
    "1_strategies": strategies,
    "2_throughput": throughput,
    "3_gflops": gmacs,
    "4_latency": latency,
    "5_accuracy_vs_gflops": accuracy_vs_gmacs,
}.items():
    FIGURES.add(_name, FigureEntry(_name, _draw, datasets))
