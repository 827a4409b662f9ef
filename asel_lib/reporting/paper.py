"""The figures of the ASEL paper and of the line-guided README, under their numbers: by recipe `paper` and by `anytime`
side by side, what was published as faint hollow markers. A panel without results says so, in its place."""

import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from asel_lib.reporting import published_values, tables
from asel_lib.reporting.comparison import MEASURED, alike, latest, telling
from asel_lib.reporting.figures import DRAWN, XDOG, policy_label
from asel_lib.reporting.style import FAINT, LINES, PAGE, drawn_from, save, say_below, styled

RECIPES = ("paper", "anytime")
POLICIES = ("learned", "glance", "random", "central")
OWN = {"paper": "learned", "anytime": "glance"}  # the selector that a recipe trains


@styled
def architecture() -> Figure:
    """Figure 1: what ASEL's model does with an image, drawn by code."""
    figure = Figure(figsize=(PAGE, 2.0), layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(0, 14.1), ylim=(-0.1, 3.6), aspect="equal")
    axes.set_axis_off()
    kept = {1, 4, 6, 9, 10}
    for patch in range(16):
        row, column = divmod(patch, 4)
        for left, shown in ((0.1, True), (8.65, patch in kept)):
            face = LINES["learned"]["color"] if patch in kept and left > 1 else "#cfe3f2" if shown else "#eeeeee"
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
        "In training (recipe paper) all $N$ tokens stay and are multiplied by the straight-through mask; at test time "
        "only the $K$ kept ones enter the blocks."
    )
    axes.text(7.05, 0.15, note, ha="center", va="center", fontsize=6.5)
    figure.set_label(
        "Architecture of ASEL: an image is cut into N patches and embedded; a small MLP scores each patch from its "
        "embedding and the mean of all; the K patches with the highest scores and the class token enter the "
        "transformer's blocks, and the head reads the class token."
    )
    return figure


@styled
def dataset_figure(frame: pd.DataFrame, dataset: str) -> Figure:
    """Figures 2, 3, 4: (a) accuracy against throughput, (b) the strategies' accuracy against keep ratio."""
    figure, panels = _grid(2)
    used = []
    for column, recipe in enumerate(RECIPES):
        rows = chain(frame, dataset, recipe)
        used.append(rows)
        old = published_values.asel(dataset)
        for row, x in enumerate(("throughput", "keep_ratio")):
            axes = panels[row][column]
            for policy in POLICIES if x == "keep_ratio" else (OWN[recipe],):
                _line(axes, x, rows[rows["policy"] == policy], policy, policy_label(policy))
            for policy in ("learned", "random", "central") if x == "keep_ratio" else ("learned",):
                _faint(axes, x, old[old["policy"] == policy], policy, f"{policy}, published")
            _titled(axes, "ab"[row], dataset, recipe, rows)
            axes.set_xlabel("throughput (img/s)" if row == 0 else "keep ratio")
            if row == 0:
                axes.set_xscale("log")
    return _finished(
        figure, panels, used, dataset, "published: ImageNet weights, 224 px; its throughput is of an RTX 5090"
    )


@styled
def costs(frame: pd.DataFrame, dataset: str) -> Figure:
    """Figure 5: (a) latency of a batch, (b) GMACs against keep ratio, both on a logarithmic axis: what was published,
    of larger images on a faster machine, stands beside ours without pressing it flat."""
    figure, panels = _grid(2)
    used = []
    for column, recipe in enumerate(RECIPES):
        rows = chain(frame, dataset, recipe)
        used.append(rows)
        for row, y in enumerate(("latency_ms", "gmacs")):
            axes = panels[row][column]
            for policy in POLICIES:
                _line(axes, "keep_ratio", rows[rows["policy"] == policy], policy, policy_label(policy), y)
            _in_proportion(axes, rows, y)
            _faint(axes, "keep_ratio", _published_costs(dataset, "ASEL"), "learned", "learned, published", y)
            _titled(axes, "ab"[row], dataset, recipe, rows)
            batch = f" of {rows['batch_size'].iloc[0]:g} images" if len(rows) else ""
            _logarithmic(axes, f"latency{batch} (ms)" if row == 0 else "cost of an image (GMACs)")
    note = "published: 224 px; latency: 64 images over the logged throughput of an RTX 5090; GMACs at 1: attention not "
    return _finished(figure, panels, used, dataset, f"{note}counted; axes are logarithmic")


@styled
def against_agentvit(frame: pd.DataFrame, dataset: str) -> Figure:
    """Figure 6: ASEL against AgentViT: (a) accuracy against keep ratio, (b) against throughput (Pareto), (c) latency,
    (d) GMACs; recipe `paper` and `anytime` left and right. (b) to (d) on logarithmic axes, as in `costs`."""
    figure, panels = _grid(4)
    used = []
    for column, recipe in enumerate(RECIPES):
        rows = chain(frame, dataset, recipe)
        agent = frame[(frame["dataset"] == dataset) & (frame["method"] == "agentvit") & (frame["policy"] == "agent")]
        if len(rows) and len(agent):  # measured as ours was, or not beside it
            agent = agent[
                (agent[["profile", "device", "dtype"]] == rows[["profile", "device", "dtype"]].iloc[0]).all(axis=1)
            ]
        agent = telling(agent)
        ours = rows[rows["policy"] == OWN[recipe]]
        used += [ours, agent]
        shown = [
            ("keep_ratio", "accuracy"),
            ("throughput", "accuracy"),
            ("keep_ratio", "latency_ms"),
            ("keep_ratio", "gmacs"),
        ]
        names = {"latency_ms": "latency of a batch (ms)", "gmacs": "cost of an image (GMACs)"}
        for row, (x, y) in enumerate(shown):
            axes = panels[row][column]
            _line(axes, x, ours, OWN[recipe], f"ASEL, {recipe}" if recipe == "paper" else "anytime", y)
            _line(axes, x, agent, "agent", "AgentViT", y)
            for name, policy in (("ASEL", "learned"), ("AgentViT", "agent")):
                _faint(axes, x, _published_costs(dataset, name), policy, f"{name}, published", y)
            _titled(axes, "abcd"[row], dataset, recipe, ours)
            if y in names:
                _logarithmic(axes, names[y])
            elif x == "throughput":
                axes.set(xscale="log", xlabel="throughput (img/s)")
            else:
                axes.set_xlabel("keep ratio")
    note = (
        "published: 224 px; its test images were mostly trained on, and AgentViT was told the labels (08_claims); "
        "throughput and latency: ASEL's own log, RTX 5090 (no numbers of AgentViT's); GMACs: ASEL's without attention, "
        "AgentViT's by the formula 1.1 x keep ratio; (b) to (d) have logarithmic axes"
    )
    return _finished(figure, panels, used, dataset, note)


def _published_costs(dataset: str, method: str) -> pd.DataFrame:
    """keep_ratio, accuracy (of the published comparison), throughput, latency_ms (of 64 images), gmacs of "ASEL" or
    "AgentViT", NaN where it was not published."""
    rows = published_values.comparison(dataset).query("method == @method")[["keep_ratio", "accuracy"]]
    if method == "ASEL":
        log = published_values.asel(dataset).query("policy == 'learned'")[["keep_ratio", "throughput"]]
        rows = rows.merge(log.assign(latency_ms=64e3 / log["throughput"]), on="keep_ratio", how="outer")
    counted = published_values.costs().query("method == @method")[["keep_ratio", "gmacs"]]
    wanted = ["keep_ratio", "accuracy", "throughput", "latency_ms", "gmacs"]
    return rows.merge(counted, on="keep_ratio", how="outer").reindex(columns=wanted)


@styled
def line_guided(frame: pd.DataFrame, dataset: str) -> Figure:
    """The line-guided README's trade-off: accuracy against keep ratio and against cost, line-guided and random, with
    `anytime` beside them."""
    figure = Figure(figsize=(PAGE, 2.9), layout="constrained")
    panels = figure.subplots(1, 2, squeeze=False)
    rows = frame[(frame["dataset"] == dataset) & (frame["method"] == "line_guided")]
    wanted = {
        (XDOG, "dropped"): "line-guided (xdog, sample)",
        ("random", "dropped"): "random",
        ("glance", "anytime"): "anytime",
    }
    rows = tables.own(rows) if len(rows) else rows
    guided = rows[rows["policy"].str.startswith("line_guided")]
    rows = alike(rows, guided, (*MEASURED, "start")) if len(guided) else rows[:0]
    used, old = [], published_values.line_guided()
    old = old[old["dataset"] == dataset]
    for (policy, recipe), label in wanted.items():
        part = rows[(rows["policy"] == policy) & (rows["recipe"] == recipe)]
        used.append(part)
        for axes, x in zip(panels[0], ("keep_ratio", "gmacs"), strict=True):
            look = policy if policy in LINES else "central"
            _line(axes, x, tables.over_seeds(latest(part)) if len(part) else part, look, label)
    for axes, x in zip(panels[0], ("keep_ratio", "gflops"), strict=True):
        _faint(axes, x, old.dropna(subset=[x]), "central", "line-guided, published")
        _missing(axes, used[0], f"line-guided selection on {dataset}")
        axes.set_xlabel("keep ratio" if x == "keep_ratio" else "cost of an image (GMACs)")
        axes.set_title(f"{dataset}, each by the model trained with it")
    return _finished(figure, panels, used, dataset, "published: ImageNet weights, 256 px, a model for each keep ratio")


def confused(pairs: pd.DataFrame) -> list[str]:
    """Of the checkpoints in a table of `tables.confusions`, those to show: of each data set the line-guided one (the
    published way of choosing first) and one of recipe `anytime`; where there is neither, the first."""
    shown = []
    for _, rows in pairs.groupby("dataset", sort=True):
        names = list(dict.fromkeys(rows["checkpoint"]))
        guided = sorted(
            (name for name in names if "_sample" in name or "_top" in name), key=lambda n: "xdog_sample" not in n
        )
        ours = [name for name in names if "anytime" in name]
        shown += (guided[:1] + ours[:1]) or names[:1]
    return shown


def patch_sheets(chosen: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Of a table of `tables.patches`, the sheets to show, (file name, rows) each: of each data set one of a line-guided
    policy (by a model trained with it, the published way of choosing first, else of recipe `dropped` as those are) and
    one of the selector that recipe `anytime` trains."""
    shown = []
    for _, rows in chosen.groupby("dataset", sort=True):
        guided = rows["policy"].str.startswith("line_guided")
        names = sorted(
            rows.loc[guided, "checkpoint"].unique(),
            key=lambda n: ("_xdog_sample" not in n, "_line_guided_" not in n, "_dropped" not in n, n),
        )
        shown += [(f"{name}_selection", rows[guided & (rows["checkpoint"] == name)]) for name in names[:1]]
        own = rows[~guided & rows["recipe"].str.startswith("anytime")]
        shown += [(f"{name}_own_selection", own[own["checkpoint"] == name]) for name in own["checkpoint"].unique()[:1]]
    return shown


def chain(frame: pd.DataFrame, dataset: str, recipe: str) -> pd.DataFrame:
    """Means over seeds of the model that was warmed up and transferred (as the paper has it) by a recipe, all policies;
    of the warm-up's own data set, the warm-up. Where it was measured in several ways, see `telling`. Maybe empty."""
    rows = frame[(frame["dataset"] == dataset) & (frame["method"] == "asel") & (frame["recipe"] == recipe)]
    return telling(rows[rows["policy"].isin(POLICIES)])


def _grid(rows: int) -> tuple[Figure, np.ndarray]:
    figure = Figure(figsize=(PAGE, 2.25 * rows + 0.4), layout="constrained")
    return figure, figure.subplots(rows, len(RECIPES), squeeze=False, sharey="row")


def _line(axes: Axes, x: str, rows: pd.DataFrame, policy: str, label: str, y: str = "accuracy") -> None:
    if rows.empty:
        return
    scale, style = (100 if y == "accuracy" else 1), LINES[policy]
    rows = rows.sort_values(x)
    axes.plot(rows[x], rows[y] * scale, label=label, **style)
    if y == "accuracy":
        low, high = rows["accuracy_low"] * 100, rows["accuracy_high"] * 100
        axes.fill_between(rows[x], low, high, color=style["color"], alpha=0.13, linewidth=0)


def _faint(axes: Axes, x: str, rows: pd.DataFrame, policy: str, label: str, y: str = "accuracy") -> None:
    """What was published of (x, y), as hollow markers; nothing where it was not."""
    rows = rows.dropna(subset=[x, y])
    if len(rows):
        look = {key: LINES[policy][key] for key in ("color", "marker")}
        axes.plot(rows[x], rows[y] * (100 if y == "accuracy" else 1), label=label, **look | FAINT)


def _in_proportion(axes: Axes, rows: pd.DataFrame, y: str) -> None:
    """What ours would cost in proportion to the keep ratio: on a logarithmic axis the eye needs it."""
    whole = rows.loc[rows["keep_ratio"] == 1, y]
    if len(whole):
        ratios = np.linspace(rows["keep_ratio"].min(), 1, 50)
        axes.plot(ratios, ratios * whole.iloc[0], color="#777777", linewidth=0.8, label="in proportion to ours at 1")


def _logarithmic(axes: Axes, ylabel: str) -> None:
    axes.set(yscale="log", xlabel="keep ratio", ylabel=ylabel)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _titled(axes: Axes, letter: str, dataset: str, recipe: str, rows: pd.DataFrame) -> None:
    """The panel's letter, what it is of and from which start; where that was not measured, it says so."""
    _missing(axes, rows, f"recipe {recipe} on {dataset}")
    axes.set_title(f"({letter}) {dataset}, recipe {recipe}{_start(rows)}")


def _missing(axes: Axes, rows: pd.DataFrame, what: str) -> None:
    axes.set_ylabel("top-1 accuracy (%)")
    if rows.empty:
        text = "\n".join(textwrap.wrap(f"no results of {what} in this table", 30))
        axes.text(
            0.5,
            0.2,
            text,
            ha="center",
            va="center",
            transform=axes.transAxes,
            color="#9a3b00",
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "#9a3b00", "linewidth": 0.6, "pad": 4},
        )


def _start(rows: pd.DataFrame) -> str:
    return f"\n({rows['profile'].iloc[0]}, {rows['start'].iloc[0].replace('_', ' ')} weights)" if len(rows) else ""


def _finished(figure: Figure, panels: np.ndarray, used: list[pd.DataFrame], dataset: str, note: str) -> Figure:
    named: dict[str, object] = {}
    for axes in panels.ravel():
        if axes.get_xlabel() == "keep ratio":
            axes.set(xlim=(0, 1.03), xticks=np.arange(0, 1.01, 0.2))
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            named.setdefault(label, handle)
        axes.tick_params(labelleft=True)
    if named:
        figure.legend(named.values(), named.keys(), loc="outside upper center", ncols=3)
    rows = pd.concat([part for part in used if len(part)] or [pd.DataFrame(columns=list(DRAWN))], ignore_index=True)
    about = f"{dataset} test"
    if len(rows):
        each = {
            name: ", ".join(dict.fromkeys(map(str, rows[name])))
            for name in ("device", "dtype", "commit")
            if name in rows
        }
        about += "; " + "; ".join(f"commit {text}" if name == "commit" else text for name, text in each.items())
    say_below(figure, about, f"band: 95 % interval (Wilson). {note}")
    return drawn_from(figure, rows.drop_duplicates())


# Numbers of the ASEL paper; the line-guided README's figures have none.
FIGURES: dict[str, Callable[[pd.DataFrame], Figure]] = {
    "paper_1_architecture": lambda frame: architecture(),
    "paper_2_eurosat": lambda frame: dataset_figure(frame, "eurosat"),
    "paper_3_aid": lambda frame: dataset_figure(frame, "aid"),
    "paper_4_rsscn7": lambda frame: dataset_figure(frame, "rsscn7"),
    "paper_5_cost_aid": lambda frame: costs(frame, "aid"),
    "paper_6_agentvit_aid": lambda frame: against_agentvit(frame, "aid"),
    "line_guided_1_tradeoff_imagenet10": lambda frame: line_guided(frame, "imagenet10"),
    "line_guided_1_tradeoff_rsscn7": lambda frame: line_guided(frame, "rsscn7"),
}


def all_figures(frame: pd.DataFrame, folder: str | os.PathLike) -> list[Path]:
    """Draw and save FIGURES. -> the files: PNG, PDF, and CSV of what is drawn."""
    return [path for name, draw in FIGURES.items() for path in save(draw(frame), folder, name)]
