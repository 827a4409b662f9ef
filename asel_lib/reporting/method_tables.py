"""Every method on one backbone, start and schedule: how accurate it is, and which to use when."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from asel_lib import checks
from asel_lib.identity import selector_name
from asel_lib.methods import LINE_GUIDED, Method, method, parse
from asel_lib.reporting.rows import MEASURED, alike, latest, over_seeds, own_choice
from asel_lib.reporting.summaries import accuracy_cell, seeds_cell

OURS = "glance/anytime"
BUDGETS = {"operations": (0.1, 0.2, 0.35, 0.5, 0.75), "speed": (6.0, 5.0, 4.0, 3.0, 2.0, 1.3)}  # of `advice`


def found(frame: pd.DataFrame, dataset: str) -> dict[Method, pd.DataFrame]:
    """Every method that was trained on the direct schedule, each by the models trained with it.

    Args:
        frame: results.
        dataset: the data set's name.

    Returns:
        Method -> rows (means over seeds): `anytime`, what it is compared with, the others; and models of random patches
        that were asked with the even layout. Of line guidance the published variant stands for all. Where methods were
        measured in several ways (profile, device ...), those that were as `anytime` last was, or, where there is no
        `anytime`, as the last of all was.
    """
    ours = parse(OURS)
    direct = frame[(frame["dataset"] == dataset) & (frame["schedule"] == "direct")]
    rows = own_choice(direct)
    if rows.empty:
        return {}
    mine = rows[(rows["selector"] == ours.selector) & (rows["recipe"] == ours.recipe)]
    like = rows if mine.empty else mine
    rows = alike(rows, like, (*MEASURED, "start"))
    rows = rows[(rows["selector"].map(selector_name) != selector_name(LINE_GUIDED)) | (rows["selector"] == LINE_GUIDED)]
    groups = {method(*pair): group for pair, group in rows.groupby(["selector", "recipe"], sort=True)}
    order = [one for one in (ours, *ours.compared_with) if one in groups]
    order += [one for one in groups if one not in order]
    asked = alike(direct[(direct["selector"] == "random") & (direct["policy"] == "even")], like, (*MEASURED, "start"))
    for recipe, group in asked.groupby("recipe", sort=True):
        trained, even = method("random", recipe), method("even")
        shown = replace(even, recipe=recipe, label=f"{trained.label}, asked with the {even.label}", linestyle=":")
        groups[shown] = group
        order.append(shown)
    return {one: over_seeds(latest(groups[one])) for one in order}


def table(frame: pd.DataFrame, dataset: str, ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.2, 0.1)) -> pd.DataFrame:
    """A row a method: accuracy (%) as mean over seeds, lowest and highest seed, half its interval; GMACs at 0.2.

    Args:
        frame: results.
        dataset: the data set's name.
        ratios: keep ratios.
    """
    lines = []
    for one, rows in found(frame, dataset).items():
        cells = {round(row["keep_ratio"], 6): row for row in rows.to_dict("records")}
        line = {"data set": dataset, "method": one.label, "seeds": int(rows["seeds"].max())}
        line |= {f"at {ratio:g}": seeds_cell(cells.get(round(ratio, 6))) for ratio in ratios}
        lines.append(line | {"GMACs at 0.2": f"{cells[0.2]['gmacs']:.3g}" if 0.2 in cells else "-"})
    return pd.DataFrame(lines)


def advice(
    frame: pd.DataFrame, dataset: str, by: str = "operations", budgets: Sequence[float] | None = None
) -> pd.DataFrame:
    """Which method to use when: a row a budget, the most accurate method within it, what the best of the trainings with
    random patches reaches within it, and whether that lies within the best one's own 95 % interval (unpaired;
    `evaluation.paired` tells two methods apart more sharply).

    Between two measured keep ratios a method is taken to lie on the straight line, so that all spend the same. It
    describes what was measured on the test images; the best of many is a little too good.

    Args:
        frame: results.
        dataset: the data set's name.
        by: "operations": budgets are shares of the plain model's GMACs that may be spent at most; "speed": how many
            times as fast as itself with all patches a method must at least be, as measured, choosing included.
        budgets: None: BUDGETS.

    Returns:
        The table, empty where nothing is within any budget.
    """
    share = checks.one_of("budget", by, BUDGETS) == "operations"
    methods, rows = found(frame, dataset), []
    whole = max((part.loc[part["keep_ratio"] == 1, "gmacs"].max() for part in methods.values()), default=0.0)
    for budget in BUDGETS[by] if budgets is None else budgets:
        most = budget if share else 1 / budget
        costs = {one: part["gmacs"] / whole if share else _share_of_time(part) for one, part in methods.items()}
        within = {one: point for one in methods if (point := _within(methods[one], costs[one], most))}
        if not within:
            continue
        best = max(within, key=lambda one: within[one]["accuracy"])
        top, plain = within[best], [within[one]["accuracy"] for one in within if one.selector == "random"]
        row = {"data set": dataset, by: f"up to {budget:.0%}" if share else f"at least {budget:g}x"}
        row |= {
            "best": best.label,
            "seeds": int(methods[best]["seeds"].max()),
            "keep ratio": round(top["keep_ratio"], 2),
        }
        row |= {"accuracy": accuracy_cell(top), "random": "-", "random in its interval": "-"}
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
