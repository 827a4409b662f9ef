"""The figures, drawn from the results table alone."""

import os
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asel_lib.reporting import published_values, tables
from asel_lib.reporting.style import COLUMN, FAINT, LINES, MORE, axes_grid, drawn_from, nothing, save, say_below, styled

# What a figure's own table says of each point; the rest is in the results table.
DRAWN = (
    "dataset",
    "checkpoint",
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


XDOG = "line_guided:lines=xdog,choice=sample"  # line guidance as published


@styled
def strategies(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against keep ratio, a panel a run, a line a policy, with the 95 % interval."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        _accuracy(axes, "keep_ratio", rows, policy, run)
        _seeds(axes, "keep_ratio", rows, policy, run)

    note = "band: 95 % interval (Wilson); bars: lowest to highest seed"
    return _panels(frame, dataset, line, "keep ratio", "top-1 accuracy (%)", note, ratio_axis=True)


@styled
def throughput(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against throughput, the learned policy's points named by their keep ratio."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        style = _line(policy, run)
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
        if policy == _main_policy(run):
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
    return _panels(frame, dataset, line, "throughput (img/s)", "top-1 accuracy (%)", note)


@styled
def gmacs(frame: pd.DataFrame, dataset: str) -> Figure:
    """GMACs of one image against keep ratio, with the part that choosing takes, and the straight line that
    cost would follow if it were in proportion to the patches kept."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        style = _line(policy, run)
        axes.plot(rows["keep_ratio"], rows["gmacs"], label=policy_label(policy), **style)
        if policy == _main_policy(run):
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

    return _panels(frame, dataset, line, "keep ratio", "cost of an image (GMACs)", "", ratio_axis=True, from_zero=True)


@styled
def latency(frame: pd.DataFrame, dataset: str) -> Figure:
    """Latency of a batch against keep ratio, median and interquartile range, with the speed-up over all
    patches."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        style = _line(policy, run)
        middle, spread = rows["latency_ms"], rows["latency_iqr_ms"] / 2
        axes.plot(rows["keep_ratio"], middle, label=policy_label(policy), **style)
        axes.fill_between(
            rows["keep_ratio"], middle - spread, middle + spread, color=style["color"], alpha=0.15, linewidth=0
        )
        full = rows.loc[rows["keep_ratio"] == 1, "latency_ms"]
        if policy == _main_policy(run) and len(full):
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
    return _panels(
        frame, dataset, line, "keep ratio", f"latency of {batch} images (ms)", note, ratio_axis=True, from_zero=True
    )


@styled
def accuracy_vs_gmacs(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against the cost of an image, a panel a run, a line a policy, with the 95 % interval."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        _accuracy(axes, "gmacs", rows, policy, run)

    note = "band: 95 % interval (Wilson)"
    return _panels(frame, dataset, line, "cost of an image (GMACs)", "top-1 accuracy (%)", note)


@styled
def tradeoff(frame: pd.DataFrame, dataset: str) -> Figure:
    """One run's accuracy against keep ratio (left) and against GMACs (right), a line a policy, random as the
    yardstick with its 95 % interval. The run: the line-guided one, where each policy has a model trained with it; of
    several that with the most policies."""
    rows = frame[frame["dataset"] == dataset]
    if rows.empty:
        return nothing(f"no results for {dataset}")
    guided = rows[rows["method"] == "line_guided"]
    label, run = max(tables.runs(rows if guided.empty else guided), key=lambda each: each[1]["policy"].nunique())
    means = tables.over_seeds(run)
    yardstick = "random" if "random" in set(means["policy"]) else _main_policy(means)
    figure, axes = axes_grid(2, share=False, footer=True)
    for cell, x in zip(axes, ("keep_ratio", "gmacs"), strict=True):
        for policy in sorted(means["policy"].unique(), key=lambda name: ([*LINES, name].index(name), name)):
            line = means[means["policy"] == policy]
            _accuracy(cell, x, line, policy, means, band=policy == yardstick)
            if x == "keep_ratio" and policy != yardstick:
                _seeds(cell, x, line, policy, means)
        cell.set_ylabel("top-1 accuracy (%)")
        cell.set_xlabel("keep ratio" if x == "keep_ratio" else "cost of an image (GMACs)")
    seeds = run["seed"].nunique()
    each = "each policy by the model trained with it" if len(guided) else f"recipe {label}"
    axes[0].set_title(f"{dataset}, {each}" + (f", mean of {seeds} seeds" if seeds > 1 else ""))
    axes[0].legend(loc="lower right")
    note = f"band: 95 % interval (Wilson) of {policy_label(yardstick)}; bars: lowest to highest seed"
    footer(figure, run, dataset, note)
    return figure


@styled
def gmacs_scaling(table: pd.DataFrame, results: pd.DataFrame | None = None) -> Figure:
    """GMACs of an image against keep ratio, as shares of all patches' cost: by formula a line an architecture (table
    from `evaluation.cost.scaling`), as filled markers what was counted of our models, choosing included (results, of
    line-guided choosing, else of random patches), as hollow ones what the line-guided README published."""
    parts = {f"{name}, formula": rows for name, rows in table.groupby("architecture", sort=False)}
    looks = [look | {"markersize": 0} for look in LINES.values()][: len(parts)]
    for profile, rows in (results if results is not None else pd.DataFrame({"profile": []})).groupby("profile"):
        chosen = next((name for name in (XDOG, "random") if name in set(rows["policy"])), None)
        if chosen is not None:
            means = rows[rows["policy"] == chosen].groupby("keep_ratio", as_index=False)["gmacs"].mean()
            parts[f"counted: profile {profile}, {policy_label(chosen)}"] = means
            color, marker, _ = MORE[len(parts) % len(MORE)]
            looks.append({"color": color, "marker": marker, "linestyle": "none", "markersize": 3})
    old = published_values.line_guided().dropna(subset=["gflops"]).rename(columns={"gflops": "gmacs"})
    parts["published: line-guided README, attention not counted"] = old
    looks.append({"color": "#000000", "marker": "D"} | FAINT)

    figure = Figure(figsize=(COLUMN * 1.25, 3.2), layout="constrained")
    axes, drawn = figure.subplots(), []
    for (label, rows), look in zip(parts.items(), looks, strict=True):
        full = rows.loc[rows["keep_ratio"] == 1, "gmacs"]
        if full.empty:
            continue  # a share of what was not counted
        name = f"{label} (1: {full.iloc[0]:.3g} GMACs)"
        axes.plot(rows["keep_ratio"], rows["gmacs"] / full.iloc[0] * 100, label=name, **look)
        share = rows["gmacs"] / full.iloc[0]
        drawn.append(rows[["keep_ratio", "gmacs"]].assign(series=label, share=share))
    axes.plot([0, 1], [0, 100], color="#777777", linewidth=0.8, label="in proportion")
    axes.set(xlabel="keep ratio", ylabel="cost (% of that of all patches)", xlim=(0, 1.03), ylim=(0, 104))
    figure.legend(loc="outside upper center", ncols=1)
    figure.set_label("GMACs against keep ratio as a share of all patches' cost, only the kept patches embedded")
    return drawn_from(figure, pd.concat(drawn, ignore_index=True)[["series", "keep_ratio", "gmacs", "share"]])


# The ASEL paper's four and the line-guided paper's, under their published names.
FIGURES = {
    "1_strategies": strategies,
    "2_throughput": throughput,
    "3_gflops": gmacs,
    "4_latency": latency,
    "5_accuracy_vs_gflops": accuracy_vs_gmacs,
    "6_combined_tradeoff": tradeoff,
}


def all_figures(frame: pd.DataFrame, dataset: str, folder: str | os.PathLike) -> list[Path]:
    """Draw and save the figures of a data set (FIGURES). -> the files, PNG and PDF each."""
    return [path for name, draw in FIGURES.items() for path in save(draw(frame, dataset), folder, f"{dataset}_{name}")]


@styled
def history(frame: pd.DataFrame) -> Figure:
    """A training run over its epochs: loss, accuracy, keep ratio, speed; a panel for each that the table
    has."""
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
        for style, (column, label) in zip(LINES.values(), columns.items(), strict=False):
            cell.plot(epochs, frame[column] * scale, label=label, **style)
        cell.set(xlabel="epoch", ylabel=name)
        cell.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(columns) > 1:
            cell.legend()
    return figure


def _panels(frame, dataset, line, xlabel, ylabel, note, ratio_axis=False, from_zero=False) -> Figure:
    """A panel a run of the data set; `line(axes, rows over seeds, policy, run)` draws a policy."""
    rows = frame[frame["dataset"] == dataset]
    if rows.empty:
        return nothing(f"no results for {dataset}")
    groups = tables.runs(rows)
    figure, axes = axes_grid(len(groups), share=True, footer=True)
    named: set[str] = set()
    for number, (cell, (label, run)) in enumerate(zip(axes, groups, strict=True)):
        means = tables.over_seeds(run)
        for policy in sorted(means["policy"].unique(), key=lambda name: ([*LINES, name].index(name), name)):
            line(cell, means[means["policy"] == policy], policy, means)
        seeds = run["seed"].nunique()
        title = f"{dataset}, recipe {label}" + (f", mean of {seeds} seeds" if seeds > 1 else "")
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


def _accuracy(axes: Axes, x: str, rows: pd.DataFrame, policy: str, run: pd.DataFrame, band: bool = True) -> None:
    """A policy's accuracy against the column x, with its interval as a band."""
    style = _line(policy, run)
    axes.plot(rows[x], rows["accuracy"] * 100, label=policy_label(policy), **style)
    if band:
        low, high = rows["accuracy_low"] * 100, rows["accuracy_high"] * 100
        axes.fill_between(rows[x], low, high, color=style["color"], alpha=0.15, linewidth=0)


def _seeds(axes: Axes, x: str, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
    """From the lowest to the highest seed, where there are several."""
    if rows["seeds"].max() > 1:
        ends = rows["seed_low"] * 100, rows["seed_high"] * 100
        axes.vlines(rows[x], *ends, color=_line(policy, run)["color"], linewidth=0.8)


def footer(figure: Figure, rows: pd.DataFrame, dataset: str, note: str) -> None:
    def each(column: str) -> str:
        return ", ".join(f"{value}" for value in dict.fromkeys(rows[column]))

    images = ", ".join(f"{count:.0f}" for count in dict.fromkeys(rows["n_images"]))
    about = f"{dataset} {each('split')}, {images} images; {each('device')}, {each('dtype')}; "
    about += f"commit {each('commit')}"
    if others := sorted(set(rows["elsewhere"]) - {""} if "elsewhere" in rows else ()):
        note += f". accuracy of some seeds, without their cost: {', '.join(others)}"
    say_below(figure, about, note)
    drawn_from(figure, rows[[name for name in (*DRAWN, "elsewhere") if name in rows]])


def policy_label(policy: str) -> str:
    """ "line_guided:lines=xdog,choice=top" -> "line-guided (xdog, top)"."""
    name, _, options = policy.partition(":")
    values = ", ".join(option.partition("=")[2] for option in options.split(","))
    return name.replace("_", "-") + (f" ({values})" if options else "")


def _line(policy: str, run: pd.DataFrame) -> dict[str, str]:
    if policy in LINES:
        return LINES[policy]
    others = sorted(set(run["policy"]) - set(LINES))
    color, marker, dashes = MORE[others.index(policy) % len(MORE)]
    return {"color": color, "marker": marker, "linestyle": dashes}


def _main_policy(run: pd.DataFrame) -> str:
    """The one that was trained, if one was."""
    there = sorted(run["policy"].unique())
    return next((policy for policy in ("learned", "glance") if policy in there), there[0])
