"""ASEL against AgentViT: the paper's four figures, one with everything else equal, and what training cost."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asel_lib.reporting import tables
from asel_lib.reporting.figures import footer
from asel_lib.reporting.style import COLUMN, axes_grid, nothing, save, styled

STYLES = {
    "ASEL, paper": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "ASEL, dropped": {"color": "#009E73", "marker": "^", "linestyle": "-"},
    "AgentViT": {"color": "#D55E00", "marker": "s", "linestyle": "-"},
    "AgentViT, random patches": {"color": "#D55E00", "marker": "x", "linestyle": ":"},
    "random patches": {"color": "#555555", "marker": "x", "linestyle": ":"},
}
INTERVAL = "band: 95 % interval (Wilson); bars: lowest to highest seed"


def published(frame: pd.DataFrame, dataset: str) -> dict[str, pd.DataFrame]:
    """label -> rows (means over seeds) of the comparison as published: ASEL warmed up and transferred, AgentViT from
    scratch, each by its own selector, and AgentViT's network with random patches. Empty without AgentViT's rows."""
    rows = frame[frame["dataset"] == dataset]
    agentvit = rows[rows["method"] == "agentvit"]
    if agentvit.empty:
        return {}
    rows = rows[rows["profile"].isin(agentvit["profile"])]
    asel = rows[
        (rows["method"] == "asel") & rows["checkpoint"].str.contains("_finetuned") & (rows["policy"] == "learned")
    ]
    found = {f"ASEL, {recipe}": asel[asel["recipe"] == recipe] for recipe in ("paper", "dropped")}
    found["AgentViT"] = agentvit[agentvit["policy"] == "agent"]
    found["AgentViT, random patches"] = agentvit[agentvit["policy"] == "random"]
    return _means(found)


def equal(frame: pd.DataFrame, dataset: str) -> dict[str, pd.DataFrame]:
    """label -> rows (means over seeds) of models that differ in nothing but how patches are chosen and trained: the
    same backbone, start, schedule and seeds. Empty without an agent's rows among them."""
    rows = frame[(frame["dataset"] == dataset) & (frame["method"] == "line_guided")]
    agent = rows[rows["policy"] == "agent"]
    if agent.empty:
        return {}
    rows = rows[rows["profile"].isin(agent["profile"])]
    learned = rows[rows["policy"] == "learned"]
    found = {f"ASEL, {recipe}": learned[learned["recipe"] == recipe] for recipe in ("paper", "dropped")}
    found["AgentViT"] = agent
    found["random patches"] = rows[(rows["policy"] == "random") & (rows["recipe"] == "dropped")]
    return _means(found)


@styled
def accuracy_keep(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against keep ratio, as published."""
    return _lines(published(frame, dataset), frame, dataset, "keep_ratio", "accuracy", "keep ratio", INTERVAL)


@styled
def accuracy_throughput(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against throughput, as published."""
    note = "along a line the keep ratio falls from left to right; " + INTERVAL.partition(";")[0]
    return _lines(published(frame, dataset), frame, dataset, "throughput", "accuracy", "throughput (img/s)", note)


@styled
def gmacs(frame: pd.DataFrame, dataset: str) -> Figure:
    """Counted GMACs against keep ratio, as published; choosing included."""
    note = "counted by fvcore, attention and choosing included"
    return _lines(published(frame, dataset), frame, dataset, "keep_ratio", "gmacs", "keep ratio", note)


@styled
def latency_50(frame: pd.DataFrame, dataset: str) -> Figure:
    """Latency of a batch with all and with half of the patches, as published."""
    found = {label: rows for label, rows in published(frame, dataset).items() if "random" not in label}
    if not found:
        return _missing(dataset)
    figure, (axes,) = axes_grid(1, footer=True)
    for number, ratio in enumerate((1.0, 0.5)):
        cells = [rows[np.isclose(rows["keep_ratio"], ratio)] for rows in found.values()]
        times = [cell["latency_ms"].mean() for cell in cells]
        places = np.arange(len(found)) + (number - 0.5) * 0.38
        bars = axes.bar(
            places, times, 0.36, yerr=[cell["latency_iqr_ms"].mean() / 2 for cell in cells],
            color=[STYLES[label]["color"] for label in found], alpha=(0.45, 1.0)[number], ecolor="#333333",
            hatch=("//", "")[number], edgecolor="white", error_kw={"elinewidth": 0.8},
        )  # fmt: skip
        axes.bar_label(bars, [f"{time:.1f}" for time in times], fontsize=7, padding=3)
    axes.set_xticks(range(len(found)), list(found))
    sizes = "/".join(f"{size:g}" for size in sorted(frame.loc[frame["dataset"] == dataset, "batch_size"].unique()))
    axes.set(ylabel=f"latency of {sizes} images (ms)", title=f"{dataset}: left all patches, right half of them")
    axes.margins(y=0.15)
    _foot(figure, frame, dataset, "bars: half the interquartile range")
    return figure


@styled
def equal_setting(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against keep ratio, all else equal."""
    return _lines(
        equal(frame, dataset), frame, dataset, "keep_ratio", "accuracy", "keep ratio", INTERVAL, "line_guided"
    )


# Under the published names; the last has none there.
FIGURES = {
    "asel_vs_agentvit_1_acc_keep": accuracy_keep,
    "asel_vs_agentvit_2_acc_throughput": accuracy_throughput,
    "asel_vs_agentvit_3_gflops": gmacs,
    "asel_vs_agentvit_4_latency_50": latency_50,
    "asel_vs_agentvit_5_equal": equal_setting,
}


def all_figures(frame: pd.DataFrame, dataset: str, folder: str | os.PathLike) -> list[Path]:
    """Draw and save FIGURES, where the data set has results of AgentViT. -> the files, PNG and PDF each."""
    if not published(frame, dataset) and not equal(frame, dataset):
        return []
    return [path for name, draw in FIGURES.items() for path in save(draw(frame, dataset), folder, f"{dataset}_{name}")]


def table(
    frame: pd.DataFrame, dataset: str, ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.2, 0.1), equal_setting: bool = False
) -> pd.DataFrame:
    """A row a method: seeds, test images, accuracy (%) with half its interval at each ratio, GMACs and the latency of a
    batch (ms) with all patches and with half."""
    lines = []
    for label, rows in (equal if equal_setting else published)(frame, dataset).items():
        found = {round(row["keep_ratio"], 6): row for row in rows.to_dict("records")}
        line = {"data set": dataset, "method": label, "seeds": int(rows["seeds"].max())}
        line["test images"] = int(rows["n_images"].max())
        line |= {f"at {ratio:g}": tables.seeds_cell(found.get(round(ratio, 6))) for ratio in ratios}
        for name, column in (("GMACs", "gmacs"), ("ms", "latency_ms")):
            line[f"{name} at 1 / 0.5"] = " / ".join(
                f"{found[r][column]:.3g}" if r in found else "-" for r in (1.0, 0.5)
            )
        lines.append(line)
    return pd.DataFrame(lines)


def training_cost(records: Sequence[dict], speeds: pd.DataFrame | None = None) -> pd.DataFrame:
    """What training cost until the best validation accuracy: a row a (data set, setting, method), means over seeds.

    records: of checkpoints; a warm-up counts towards the transfers that start from it, at all its epochs until its own
    best. speeds: of `training.speed.in_turn`, img/s of each method measured in turn; then `seconds` is images seen over
    that speed, else the time that the training itself took, on whatever machine that was.
    """
    by_name = {record["name"]: record for record in records}
    rows = []
    for record in records:
        if record["stage"] == "warmup" or record["model"]["selector"] not in ("learned", "agent", "random"):
            continue
        chain, start = [record], str(record["start"]).partition(" from ")[0]
        if start.endswith("_warmup"):
            warm = [r for r in by_name.values() if r["stage"] == "warmup" and r["name"].startswith(start)
                    and (r["recipe"], r["seed"]) == (record["recipe"], record["seed"])]  # fmt: skip
            if not warm:
                continue  # a cost without its warm-up would be too low
            chain = [warm[0], record]
        best = [one["history"][: one["metrics"]["best_epoch"]] for one in chain]
        images = sum(len(epochs) * one["split"]["train"] for epochs, one in zip(best, chain, strict=True))
        seconds = sum(epoch["seconds"] for epochs in best for epoch in epochs)
        if speeds is not None:
            seconds = images / speeds.set_index("training").loc[_training(record), "images_per_second"]
        rows.append(
            {"data set": record["dataset"], "setting": "equal" if record["method"] == "line_guided" else "as published",
             "method": _label(record), "seed": record["seed"],
             "epochs": " + ".join(str(one["metrics"]["epochs"]) for one in chain),
             "best epoch": record["metrics"]["best_epoch"], "images seen": images, "seconds": seconds,
             "val accuracy": record["metrics"]["val_accuracy"]}
        )  # fmt: skip
    if not rows:
        return pd.DataFrame()
    groups = pd.DataFrame(rows).groupby(["data set", "setting", "method", "epochs"], sort=True)
    means = groups[["best epoch", "images seen", "seconds", "val accuracy"]].mean()
    return means.assign(seeds=groups["seed"].nunique()).reset_index()


def _training(record: dict) -> str:
    return "agentvit" if record["method"] == "agentvit" else record["recipe"]


def _label(record: dict) -> str:
    selector = record["model"]["selector"]
    if selector == "random":
        return "random patches"
    return "AgentViT" if selector == "agent" else f"ASEL, {record['recipe']}"


def _means(found: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {label: tables.over_seeds(_latest(rows)) for label, rows in found.items() if len(rows)}


def _latest(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a measurement made twice, the last."""
    return pd.concat([group for _, group in tables.runs(rows)])


def _missing(dataset: str) -> Figure:
    return nothing(f"no results of AgentViT for {dataset}")


def _lines(
    found: dict[str, pd.DataFrame], frame: pd.DataFrame, dataset: str, x: str, y: str, xlabel: str, note: str,
    method: str = "",
) -> Figure:  # fmt: skip
    if not found:
        return _missing(dataset)
    figure, (axes,) = axes_grid(1, footer=True)
    figure.set_figwidth(COLUMN * 1.25)
    for label, rows in found.items():
        _line(axes, label, rows, x, y)
    axes.set(xlabel=xlabel, ylabel="top-1 accuracy (%)" if y == "accuracy" else "cost of an image (GMACs)")
    if x == "keep_ratio":
        axes.set(xlim=(0, 1.03), xticks=np.arange(0, 1.01, 0.2))
    if y == "gmacs":
        axes.set_ylim(bottom=0)
    seeds = ", ".join(f"{label}: {int(rows['seeds'].max())}" for label, rows in found.items())
    axes.set_title(f"{dataset}, {'all else equal' if method else 'as published'}")
    axes.legend(loc="best")
    _foot(figure, frame, dataset, f"seeds: {seeds}. {note}", method)
    return figure


def _line(axes: Axes, label: str, rows: pd.DataFrame, x: str, y: str) -> None:
    style, scale = STYLES[label], 100 if y == "accuracy" else 1
    axes.plot(rows[x], rows[y] * scale, label=label, **style)
    if y == "accuracy":
        low, high = rows["accuracy_low"] * 100, rows["accuracy_high"] * 100
        axes.fill_between(rows[x], low, high, color=style["color"], alpha=0.12, linewidth=0)
        if x == "keep_ratio" and rows["seeds"].max() > 1:
            axes.vlines(rows[x], rows["seed_low"] * 100, rows["seed_high"] * 100, color=style["color"], linewidth=0.8)


def _foot(figure: Figure, frame: pd.DataFrame, dataset: str, note: str, method: str = "") -> None:
    rows = frame[(frame["dataset"] == dataset) & frame["method"].isin([method] if method else ["asel", "agentvit"])]
    footer(figure, rows, dataset, note)
