"""How a claim is judged: each function here takes what is claimed and gives a check of measured rows (means over seeds
of one model's policies, `tables.over_seeds`) that finds a verdict."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from asel_lib.reporting import tables
from asel_lib.reporting.figures import policy_label
from asel_lib.reporting.paper import OWN

REPRODUCED, NOT, UNTESTABLE = "reproduced", "not reproduced", "not testable here"
UNDECIDED = "undecided"  # measured, but the interval holds both answers
PAPERS = ("paper", 224)  # the profile in which accuracies as such can be compared, and its pixels


@dataclass(frozen=True)
class Finding:
    measured: str
    verdict: str
    why: str


Check = Callable[[pd.DataFrame, str], Finding]


def levels(values: dict[float, float], policy: str | None = None):
    """Accuracies as such (keep ratio -> share): within the interval of what was measured in the paper's own setting."""

    def check(rows: pd.DataFrame, recipe: str) -> Finding:
        cells = {ratio: _cell(rows, policy or OWN.get(recipe, recipe), ratio) for ratio in values}
        measured = ", ".join(f"{_percent(cell)} at {ratio:g}" for ratio, cell in cells.items())
        here = (rows["profile"].iloc[0], rows["start"].iloc[0])
        if here[0] != PAPERS[0] or "imagenet" not in here[1]:
            why = f"accuracy as such depends on the start and the image size; here: profile {here[0]}, {here[1]}"
            return Finding(measured, UNTESTABLE, f"{why} (the paper: ImageNet weights, {PAPERS[1]} px)")
        missed = [
            ratio
            for ratio, cell in cells.items()
            if cell is None or not cell["accuracy_low"] <= values[ratio] <= cell["accuracy_high"]
        ]
        why = "each within the interval" if not missed else f"outside of the interval at {listed(missed)}"
        return Finding(measured, NOT if missed else REPRODUCED, why)

    return check


SIDES = {REPRODUCED: "all below", NOT: "all above", UNDECIDED: "on both sides of"}


def loss(ratio: float, points: float, policy: str | None = None, base: float = 1.0):
    """At most so many points lost from the model's own accuracy at keep ratio `base`."""

    def check(rows: pd.DataFrame, recipe: str) -> Finding:
        name = policy or OWN.get(recipe, recipe)
        lost, half = _difference(_cell(rows, name, base), _cell(rows, name, ratio))
        if lost is None:
            return Finding("-", UNTESTABLE, f"not measured at {ratio:g} and {base:g}")
        measured = f"{lost:+.1f} points lost from {base:g} to {ratio:g} (± {half:.1f})"
        verdict = REPRODUCED if lost + half <= points else NOT if lost - half > points else UNDECIDED
        return Finding(measured, verdict, f"the interval is {SIDES[verdict]} {points:.1f} points")

    return check


def ahead(first: str | None, second: str, ratios: tuple[float, ...] = (), points: float = 0.0):
    """The first policy ahead of the second, by so many points or more, at every keep ratio below 1 (or at `ratios`)."""

    def check(rows: pd.DataFrame, recipe: str) -> Finding:
        name = first or OWN.get(recipe, recipe)
        asked = ratios or tuple(sorted(ratio for ratio in rows["keep_ratio"].unique() if ratio < 1))
        gaps = {ratio: _difference(_cell(rows, name, ratio), _cell(rows, second, ratio)) for ratio in asked}
        gaps = {ratio: gap for ratio, gap in gaps.items() if gap[0] is not None}
        if not gaps:
            return Finding("-", UNTESTABLE, f"{policy_label(name)} and {second} were not both measured")
        measured = ", ".join(
            f"{gaps[r][0]:+.1f} ± {gaps[r][1]:.1f} at {r:g}" for r in dict.fromkeys((min(gaps), max(gaps)))
        )
        short = [ratio for ratio, (gap, half) in gaps.items() if gap + half < points]
        if short:
            return Finding(measured, NOT, f"less{_more(points)}, beyond the interval, at {listed(short)}")
        if all(gap >= points and gap > half for gap, half in gaps.values()):
            return Finding(measured, REPRODUCED, f"ahead, beyond the interval, at all of {len(gaps)} keep ratios")
        ahead = sum(gap > points for gap, _ in gaps.values())
        return Finding(
            measured,
            UNDECIDED,
            f"ahead{_more(points)} at {ahead} of {len(gaps)} keep ratios, not all beyond the interval",
        )

    return check


def _more(points: float) -> str:
    return f" by {points:g} points" if points else ""


def faster(ratio: float, times: float, policy: str | None = None, slack: float = 0.05):
    """latency(1) / latency(ratio) at least so many times."""

    def check(rows: pd.DataFrame, recipe: str) -> Finding:
        name = policy or OWN.get(recipe, recipe)
        whole, part = _cell(rows, name, 1.0), _cell(rows, name, ratio)
        if whole is None or part is None:
            return Finding("-", UNTESTABLE, f"not timed at {ratio:g} and 1")
        gain = whole["latency_ms"] / part["latency_ms"]
        low, high = _gain_ends(whole, part)
        share = part["gmacs"] / whole["gmacs"]
        measured = f"{gain:.2f}x at {ratio:g} (quartiles {low:.2f}-{high:.2f}; {share:.0%} of the MACs)"
        fine = gain >= times * (1 - slack)
        return Finding(
            measured, REPRODUCED if fine else NOT, f"{'at least' if fine else 'less than'} {times:g}x less {slack:.0%}"
        )

    return check


def cost_in_proportion(slack: float = 0.02):
    """GMACs(ratio) / GMACs(1) = ratio."""

    def check(rows: pd.DataFrame, recipe: str) -> Finding:
        line = rows[rows["policy"] == OWN.get(recipe, recipe)].sort_values("keep_ratio")
        share = line["gmacs"].to_numpy() / line.loc[line["keep_ratio"] == 1, "gmacs"].iloc[0]
        off = np.abs(share - line["keep_ratio"].to_numpy())
        half = _cell(rows, OWN.get(recipe, recipe), 0.5)
        at = f"{half['gmacs'] / line['gmacs'].max():.2f} of the whole at 0.5; " if half is not None else ""
        fine = off.max() <= slack
        why = f"counted cost is {'' if fine else 'not '}in proportion to the keep ratio (to {slack:g})"
        return Finding(f"{at}off by up to {off.max():.2f}", REPRODUCED if fine else NOT, why)

    return check


def cost_share(ratio: float, share: float, policy: str, slack: float = 0.02):
    """GMACs(ratio) / GMACs(1) at most a share."""

    def check(rows: pd.DataFrame, recipe: str) -> Finding:
        whole, part = _cell(rows, policy, 1.0), _cell(rows, policy, ratio)
        if whole is None or part is None:
            return Finding("-", UNTESTABLE, f"not counted at {ratio:g} and 1")
        found, gain = part["gmacs"] / whole["gmacs"], whole["latency_ms"] / part["latency_ms"]
        fine = found <= share + slack
        why = f"{'at most' if fine else 'more than'} {share:.2f} (to {slack:g}); choosing included"
        return Finding(f"{found:.2f} of the GMACs, {gain:.2f}x as fast", REPRODUCED if fine else NOT, why)

    return check


def quadratic(least: float = 0.005):
    """A quadratic part in GMACs against keep ratio, as a share of the cost at 1."""

    def check(rows: pd.DataFrame, recipe: str) -> Finding:
        line = rows[(rows["policy"] == OWN.get(recipe, recipe)) & (rows["keep_ratio"] < 1)]
        if line["keep_ratio"].nunique() < 4:
            return Finding("-", UNTESTABLE, "fewer than four keep ratios below 1")
        square, slope, constant = np.polyfit(line["keep_ratio"], line["gmacs"], 2)
        share = square / (square + slope + constant)
        fine = share > least
        why = f"the quadratic term is {'' if fine else 'not '}above {least:.1%}; the rest is a straight line"
        return Finding(f"{share:.1%} of the cost at 1 grows with the square", REPRODUCED if fine else NOT, why)

    return check


def _cell(rows: pd.DataFrame, policy: str, ratio: float) -> dict | None:
    found = rows[(rows["policy"] == policy) & np.isclose(rows["keep_ratio"], ratio)]
    return None if found.empty else found.iloc[0].to_dict()


def _difference(first: dict | None, second: dict | None) -> tuple[float | None, float]:
    """In points, and half its 95 % interval: of two proportions by the normal approximation from their own intervals,
    as if of different images, which is on the wide side."""
    if first is None or second is None:
        return None, math.nan
    halves = [(cell["accuracy_high"] - cell["accuracy_low"]) / 2 for cell in (first, second)]
    return (first["accuracy"] - second["accuracy"]) * 100, math.hypot(*halves) * 100


def _gain_ends(whole: dict, part: dict) -> tuple[float, float]:
    low = (whole["latency_ms"] - whole["latency_iqr_ms"] / 2) / (part["latency_ms"] + part["latency_iqr_ms"] / 2)
    high = (whole["latency_ms"] + whole["latency_iqr_ms"] / 2) / max(
        part["latency_ms"] - part["latency_iqr_ms"] / 2, 1e-9
    )
    return low, high


def _percent(cell: dict | None) -> str:
    return "-" if cell is None else f"{tables.accuracy_cell(cell)} %"


def listed(ratios) -> str:
    return ", ".join(f"{ratio:g}" for ratio in ratios)
