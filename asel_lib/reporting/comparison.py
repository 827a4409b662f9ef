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
# Rows that differ in one of these were not measured alike, and are not drawn together.
MEASURED = ("profile", "split", "device", "dtype", "batch_size", "compiled")
NEAREST = ("paper", "compact", "demo", "smoke")  # profiles, from the paper's setting on down
INTERVAL = "band: 95 % interval (Wilson); bars: lowest to highest seed"


def published(frame: pd.DataFrame, dataset: str) -> dict[str, pd.DataFrame]:
    """label -> rows (means over seeds) of the comparison as the paper has it: ASEL warmed up and transferred, AgentViT
    from scratch, each by its own schedule and its own selector, and AgentViT's network with random patches.
    Empty without AgentViT's rows; where it was measured in several ways (profile, device, precision ...), the last."""
    rows = frame[frame["dataset"] == dataset]
    agentvit = rows[rows["method"] == "agentvit"]
    if agentvit.empty:
        return {}
    rows = alike(rows, agentvit, MEASURED)
    agentvit = rows[rows["method"] == "agentvit"]
    asel = rows[(rows["method"] == "asel") & (rows["policy"] == "learned")]
    asel = asel[asel["checkpoint"].str.contains("_finetuned")]
    found = {f"ASEL, {recipe}": asel[asel["recipe"] == recipe] for recipe in ("paper", "dropped")}
    found["AgentViT"] = agentvit[agentvit["policy"] == "agent"]
    found["AgentViT, random patches"] = agentvit[agentvit["policy"] == "random"]
    return _means(found)


def equal(frame: pd.DataFrame, dataset: str) -> dict[str, pd.DataFrame]:
    """label -> rows (means over seeds) of models of the same backbone, start, optimiser, epochs and seeds: ASEL by
    both recipes, AgentViT's agent, the agent's model with random patches, and one trained with random patches. Only
    seeds that all of them have. Empty without an agent's rows."""
    rows = frame[(frame["dataset"] == dataset) & (frame["method"] == "line_guided")]
    agent = rows[rows["policy"] == "agent"]
    if agent.empty:
        return {}
    rows = alike(rows, agent, (*MEASURED, "start"))
    learned, random = rows[rows["policy"] == "learned"], rows[rows["policy"] == "random"]
    found = {f"ASEL, {recipe}": learned[learned["recipe"] == recipe] for recipe in ("paper", "dropped")}
    found["AgentViT"] = rows[rows["policy"] == "agent"]
    found["AgentViT, random patches"] = random[random["recipe"] == "agent"]
    found["random patches"] = random[random["recipe"] == "dropped"]
    seeds = set.intersection(*(set(part["seed"]) for part in found.values() if len(part)))
    return _means({label: part[part["seed"].isin(seeds)] for label, part in found.items()})


@styled
def accuracy_keep(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against keep ratio, as published."""
    return _lines(published(frame, dataset), frame, dataset, "keep_ratio", "accuracy", "keep ratio", INTERVAL)


@styled
def accuracy_throughput(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against throughput, as published."""
    note = f"along a line the keep ratio falls from left to right; {INTERVAL.partition(';')[0]}"
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
            places,
            times,
            0.36,
            yerr=[cell["latency_iqr_ms"].mean() / 2 for cell in cells],
            color=[STYLES[label]["color"] for label in found],
            alpha=(0.45, 1.0)[number],
            ecolor="#333333",
            hatch=("//", "")[number],
            edgecolor="white",
            error_kw={"elinewidth": 0.8},
        )
        axes.bar_label(bars, [f"{time:.1f}" for time in times], fontsize=7, padding=3)
    axes.set_xticks(range(len(found)), list(found))
    sizes = "/".join(f"{size:g}" for size in sorted(frame.loc[frame["dataset"] == dataset, "batch_size"].unique()))
    axes.set(ylabel=f"latency of {sizes} images (ms)", title=f"{dataset}: left all patches, right half of them")
    axes.margins(y=0.15)
    footer(figure, _drawn(frame, dataset, False), dataset, "bars: half the interquartile range")
    return figure


@styled
def equal_setting(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against keep ratio: the same backbone, start, optimiser and epochs."""
    note = f"{INTERVAL}; trained at keep ratios: AgentViT about half, the others 0.05 to 1 (paper: masked)"
    return _lines(equal(frame, dataset), frame, dataset, "keep_ratio", "accuracy", "keep ratio", note, equally=True)


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


def training_cost(records: Sequence[dict]) -> pd.DataFrame:
    """What training cost until the best validation accuracy: a row a (data set, setting, method, profile, start), means
    over seeds.

    records: of checkpoints; those for one keep ratio alone are left out. A warm-up counts towards the transfers that
    start from it, until its own best. `seconds` is the wall time that the training itself recorded, on its machine.
    """
    warmups = {(one["dataset"], one["recipe"], one["seed"]): one for one in records if one["stage"] == "warmup"}
    rows = []
    for record in records:
        one_ratio = record["settings"]["ratio_low"] == record["settings"]["ratio_high"]
        selector, ablation = record["model"]["selector"], (record.get("anytime") or {}).get("variant")
        if record["stage"] == "warmup" or one_ratio or ablation:
            continue
        if selector not in ("learned", "agent", "random", "glance") or (
            record["recipe"] == "anytime" and selector != "glance"
        ):
            continue
        chain, start = [record], str(record["start"]).partition(" from ")[0]
        if start.endswith("_warmup"):
            warmup = warmups.get((start.removesuffix("_warmup"), record["recipe"], record["seed"]))
            if warmup is None:
                continue  # a cost without its warm-up would be too low
            chain = [warmup, record]
        best = [one["history"][: one["metrics"]["best_epoch"]] for one in chain]
        rows.append(
            {
                "data set": record["dataset"],
                "setting": "equal" if record["method"] == "line_guided" else "as published",
                "method": _label(record),
                "profile": record["profile"],
                "start": record["start"],
                "seed": record["seed"],
                "epochs": sum(len(one["history"]) for one in chain),
                "epochs to best": sum(len(epochs) for epochs in best),
                "images seen": sum(len(e) * one["split"]["train"] for e, one in zip(best, chain, strict=True)),
                "seconds": sum(epoch["seconds"] for epochs in best for epoch in epochs),
                "val accuracy": record["metrics"]["val_accuracy"],
            }
        )
    if not rows:
        return pd.DataFrame()
    groups = pd.DataFrame(rows).groupby(["data set", "setting", "method", "profile", "start"], sort=True)
    means = groups[["epochs", "epochs to best", "images seen", "seconds", "val accuracy"]].mean()
    return means.assign(seeds=groups["seed"].nunique()).reset_index()


def _label(record: dict) -> str:
    selector = record["model"]["selector"]
    if selector == "random":
        return "random patches"
    named = {"agent": "AgentViT", "glance": "anytime"}
    return named.get(selector, f"ASEL, {record['recipe']}")


def alike(rows: pd.DataFrame, like: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows that have in `columns` what the last of `like` has."""
    last = like.sort_values("timestamp", kind="stable").iloc[-1]
    return rows[(rows[list(columns)] == last[list(columns)]).all(axis=1)]


def telling(rows: pd.DataFrame, common: bool = False) -> pd.DataFrame:
    """Of rows of one model, or of each policy's own: those measured alike in the setting that is nearest to the paper's
    (its own profile, else the next smaller one), there the last; means over seeds, with columns that say what they are
    of. common: policies are compared, so only over the seeds that all of them have; seeds_left_out is how many that
    are not, of the policy that has most. Maybe empty."""
    if rows.empty:
        return rows
    rank = rows["profile"].map(lambda name: NEAREST.index(name) if name in NEAREST else len(NEAREST))
    rows = rows[rank == rank.min()]
    rows = latest(alike(rows, rows, (*MEASURED, "start")))
    most = rows.groupby("policy")["seed"].nunique().max()
    if common:
        rows = rows[rows["seed"].isin(set.intersection(*rows.groupby("policy")["seed"].agg(set)))]
        if rows.empty:
            return rows
    about = {name: ", ".join(dict.fromkeys(rows[name])) for name in ("checkpoint", "commit")}
    about |= {name: rows[name].iloc[-1] for name in ("start", "recipe", "profile", "device", "dtype", "dataset")}
    return tables.over_seeds(rows).assign(**about, seeds_left_out=most - rows["seed"].nunique() if common else 0)


def _means(found: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    return {label: tables.over_seeds(latest(rows)) for label, rows in found.items() if len(rows)}


def latest(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a measurement made twice, the last."""
    return pd.concat([group for _, group in tables.runs(rows)])


def _missing(dataset: str) -> Figure:
    return nothing(f"no results of AgentViT for {dataset}")


def _lines(
    found: dict[str, pd.DataFrame],
    frame: pd.DataFrame,
    dataset: str,
    x: str,
    y: str,
    xlabel: str,
    note: str,
    equally: bool = False,
) -> Figure:
    if not found:
        return _missing(dataset)
    figure, (axes,) = axes_grid(1, footer=True)
    figure.set_size_inches(COLUMN * 1.25, 3.1)
    for label, rows in found.items():
        _line(axes, label, rows, x, y)
    axes.set(xlabel=xlabel, ylabel="top-1 accuracy (%)" if y == "accuracy" else "cost of an image (GMACs)")
    if x == "keep_ratio":
        axes.set(xlim=(0, 1.03), xticks=np.arange(0, 1.01, 0.2))
    if y == "gmacs":
        axes.set_ylim(bottom=0)
    seeds = ", ".join(f"{label}: {int(rows['seeds'].max())}" for label, rows in found.items())
    axes.set_title(
        f"{dataset}: " + ("same backbone, start, epochs" if equally else "ASEL warmed up, AgentViT from scratch")
    )
    figure.legend(loc="outside upper center", ncols=2)  # the lines fill the panel
    footer(figure, _drawn(frame, dataset, equally), dataset, f"seeds: {seeds}. {note}")
    return figure


def _line(axes: Axes, label: str, rows: pd.DataFrame, x: str, y: str) -> None:
    style, scale = STYLES[label], 100 if y == "accuracy" else 1
    axes.plot(rows[x], rows[y] * scale, label=label, **style)
    if y == "accuracy":
        low, high = rows["accuracy_low"] * 100, rows["accuracy_high"] * 100
        axes.fill_between(rows[x], low, high, color=style["color"], alpha=0.12, linewidth=0)
        if x == "keep_ratio" and rows["seeds"].max() > 1:
            axes.vlines(rows[x], rows["seed_low"] * 100, rows["seed_high"] * 100, color=style["color"], linewidth=0.8)


def _drawn(frame: pd.DataFrame, dataset: str, equally: bool) -> pd.DataFrame:
    """The rows behind a figure, for its footer."""
    methods = ("line_guided",) if equally else ("asel", "agentvit")
    rows = frame[(frame["dataset"] == dataset) & frame["method"].isin(methods)]
    return alike(rows, rows[rows["policy"] == "agent"], MEASURED)
