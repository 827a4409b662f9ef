"""Every method on one backbone, start and schedule: accuracy against what it costs, and which to use when."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from asel_lib import checks
from asel_lib.reporting import tables
from asel_lib.reporting.comparison import MEASURED, alike, latest
from asel_lib.reporting.figures import footer
from asel_lib.reporting.style import PAGE, axes_grid, drawn_from, nothing, save, say_below, styled

# (selector, recipe) -> label and look. Okabe and Ito's colours; marker and dash tell them apart in grey.
METHODS = {
    ("glance", "anytime"): ("anytime", "#0072B2", "o", "-"),
    ("random", "anytime"): ("anytime, random patches", "#56B4E9", "x", ":"),
    ("random", "dropped"): ("random (PatchDropout)", "#555555", "s", ":"),
    ("central", "dropped"): ("central", "#999933", "v", ":"),
    ("learned", "paper"): ("ASEL, paper", "#D55E00", "D", "--"),
    ("learned", "dropped"): ("ASEL, dropped", "#E69F00", "^", "--"),
    ("line_guided", "dropped"): ("line-guided", "#CC79A7", "P", "-."),
    ("agent", "agent"): ("AgentViT's agent", "#882255", "X", "-."),
    ("edge_energy", "dropped"): ("edge energy", "#117733", "<", "-."),
    ("evit", "dropped"): ("EViT", "#009E73", "h", "-"),
    ("tome", "dropped"): ("ToMe", "#000000", "*", "-"),
    ("dynamicvit", "dropped"): ("DynamicViT", "#AA4499", "p", "-"),
}
RANDOM = tuple(METHODS["random", recipe][0] for recipe in ("dropped", "anytime"))
BUDGETS = {"operations": (0.1, 0.2, 0.35, 0.5, 0.75), "speed": (6.0, 5.0, 4.0, 3.0, 2.0, 1.3)}  # of `advice`
LINE_GUIDED = "line_guided:lines=xdog,choice=sample"  # the one of its variants that stands in the comparison


def found(frame: pd.DataFrame, dataset: str) -> dict[str, pd.DataFrame]:
    """label -> rows (means over seeds) of the models trained on the line-guided schedule, each by its own selector.
    Empty without results of `anytime`; where it was measured in several ways (profile, device ...), the last."""
    rows = frame[(frame["dataset"] == dataset) & (frame["method"] == "line_guided")]
    ours = rows[(rows["recipe"] == "anytime") & (rows["policy"] == "glance")]
    if ours.empty:
        return {}
    rows = alike(rows, ours, (*MEASURED, "start"))
    own = tables.own(rows)
    named = {}
    for (selector, recipe), (label, *_) in METHODS.items():
        policy = LINE_GUIDED if selector == "line_guided" else selector
        its = own[(own["policy"] == policy) & (own["recipe"] == recipe)]
        if len(its):
            named[label] = tables.over_seeds(latest(its))
    return named


@styled
def tradeoffs(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against counted GMACs and against measured throughput, a line a method, with the 95 % interval."""
    lines = found(frame, dataset)
    if not lines:
        return nothing(f"no results of anytime for {dataset}")
    figure, axes = axes_grid(2, footer=True)
    figure.set_figheight(4.2)
    looks = {label: dict(color=color, marker=marker, linestyle=dash) for label, color, marker, dash in METHODS.values()}
    for cell, x in zip(axes, ("gmacs", "throughput"), strict=True):
        for label, rows in lines.items():
            cell.plot(rows[x], rows["accuracy"] * 100, label=label, **looks[label])
            low, high = rows["accuracy_low"] * 100, rows["accuracy_high"] * 100
            cell.fill_between(rows[x], low, high, color=looks[label]["color"], alpha=0.07, linewidth=0)
        cell.set_ylabel("top-1 accuracy (%)")
        cell.set_xlabel("cost of an image (GMACs)" if x == "gmacs" else "throughput (img/s)")
    axes[0].set_title(f"{dataset}: one backbone, start and schedule", loc="left")
    axes[1].set_title("every method by its own model", loc="left")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=4)
    drawn = frame[(frame["dataset"] == dataset) & (frame["method"] == "line_guided")]
    ours = drawn[drawn["recipe"] == "anytime"]
    seeds = ", ".join(f"{label}: {int(rows['seeds'].max())}" for label, rows in lines.items())
    footer(figure, tables.own(alike(drawn, ours, MEASURED)), dataset, f"seeds: {seeds}. band: 95 % interval (Wilson)")
    return figure


@styled
def ablation(gaps: pd.DataFrame, dataset: str, ratios: Sequence[float] = (0.1, 0.2, 0.5, 1.0)) -> Figure:
    """What each change does to accuracy: a panel a keep ratio, a row a variant, points above or below the recipe as it
    is with their 95 % interval. gaps: `evaluation.paired.against`'s rows."""
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


def all_figures(frame: pd.DataFrame, dataset: str, folder: str | os.PathLike) -> list[Path]:
    """Draw and save the comparison, where the data set has one. -> the files, PNG and PDF."""
    return save(tradeoffs(frame, dataset), folder, f"{dataset}_7_methods") if found(frame, dataset) else []


def table(frame: pd.DataFrame, dataset: str, ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.2, 0.1)) -> pd.DataFrame:
    """A row a method: accuracy (%) as mean over seeds, lowest and highest seed, half its interval; GMACs at 0.2."""
    lines = []
    for label, rows in found(frame, dataset).items():
        cells = {round(row["keep_ratio"], 6): row for row in rows.to_dict("records")}
        line = {"data set": dataset, "method": label, "seeds": int(rows["seeds"].max())}
        line |= {f"at {ratio:g}": tables.seeds_cell(cells.get(round(ratio, 6))) for ratio in ratios}
        lines.append(line | {"GMACs at 0.2": f"{cells[0.2]['gmacs']:.3g}" if 0.2 in cells else "-"})
    return pd.DataFrame(lines)


def advice(
    frame: pd.DataFrame, dataset: str, by: str = "operations", budgets: Sequence[float] | None = None
) -> pd.DataFrame:
    """Which method to use when: a row a budget, the most accurate method within it, what the better of the two
    trainings with random patches reaches within it, and whether that lies within the best one's own 95 % interval
    (unpaired; `evaluation.paired` tells two methods apart more sharply). Between two measured keep ratios a method is
    taken to lie on the straight line, so that all spend the same. It describes what was measured on the test images;
    the best of many is a little too good. Empty where nothing is within any budget.

    by "operations": budgets are shares of the plain model's GMACs that may be spent at most; "speed": how many times
    as fast as itself with all patches a method must at least be, as measured, choosing included."""
    share = checks.one_of("budget", by, BUDGETS) == "operations"
    methods, rows = found(frame, dataset), []
    whole = max((part.loc[part["keep_ratio"] == 1, "gmacs"].max() for part in methods.values()), default=0.0)
    for budget in BUDGETS[by] if budgets is None else budgets:
        most = budget if share else 1 / budget
        costs = {label: part["gmacs"] / whole if share else _share_of_time(part) for label, part in methods.items()}
        within = {label: point for label in methods if (point := _within(methods[label], costs[label], most))}
        if not within:
            continue
        best = max(within, key=lambda label: within[label]["accuracy"])
        top, plain = within[best], [within[label]["accuracy"] for label in RANDOM if label in within]
        row = {"data set": dataset, by: f"up to {budget:.0%}" if share else f"at least {budget:g}x"}
        row |= {"best": best, "seeds": int(methods[best]["seeds"].max()), "keep ratio": round(top["keep_ratio"], 2)}
        row |= {"accuracy": tables.accuracy_cell(top), "random": "-", "random in its interval": "-"}
        if plain:
            inside = max(plain) >= top["accuracy_low"]
            row |= {"random": f"{max(plain) * 100:.1f}", "random in its interval": "yes" if inside else "no"}
        rows.append(row)
    return pd.DataFrame(rows)


def _within(rows: pd.DataFrame, cost: pd.Series, most: float) -> dict[str, float] | None:
    """The most accurate point that costs at most so much, of the rows and of the straight lines between neighbours by
    cost; None where all cost more."""
    there = rows.assign(cost=cost)[["cost", "keep_ratio", "accuracy", "accuracy_low", "accuracy_high"]]
    there = there.dropna().sort_values("cost")
    points = there[there["cost"] <= most].to_dict("records")
    if points and len(points) < len(there):
        points.append({name: float(np.interp(most, there["cost"], there[name])) for name in there})
    return max(points, key=lambda point: point["accuracy"], default=None)


def _share_of_time(rows: pd.DataFrame) -> pd.Series:
    """Of each row, of what the same model takes with all patches, which was measured in turn with it. NaN where it was
    not."""
    return rows.loc[rows["keep_ratio"] == 1, "throughput"].max() / rows["throughput"]
