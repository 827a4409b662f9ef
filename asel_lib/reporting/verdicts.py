"""How a claim is judged: each function here takes what is claimed and gives a check of measured rows (means over seeds
of one model's policies, `rows.over_seeds`) that finds a verdict. The interval of a difference is that of two
independent sets of images, which is on the wide side for the same images; times are judged by their quartiles."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from asel_lib.reporting.summaries import accuracy_cell

REPRODUCED, NOT, UNTESTABLE = "reproduced", "not reproduced", "not testable here"
UNDECIDED = "undecided"  # measured, but the interval holds both answers
CONTRADICTED = "contradicted by its own record"  # the authors' own log or figure says the contrary
ELSEWHERE = "here, in another setting"  # measured, but not in the setting of the claim: it decides nothing
ALL = (REPRODUCED, NOT, CONTRADICTED, UNDECIDED, ELSEWHERE, UNTESTABLE)
PUBLISHED_RATIOS = tuple(k / 10 for k in range(1, 10))  # below 1


@dataclass(frozen=True)
class Finding:
    measured: str
    verdict: str
    why: str


Check = Callable[[pd.DataFrame, str], Finding]  # rows, and the policy that is judged where the claim names none


def levels(values: dict[float, float], policy: str | None = None, least: bool = False):
    """A check: accuracies lie within the interval of what was measured.

    Args:
        values: keep ratio -> share.
        policy: None: each model's own.
        least: whether more is as good.
    """

    def check(rows: pd.DataFrame, own: str) -> Finding:
        cells = {ratio: _cell(rows, policy or own, ratio) for ratio in values}
        measured = ", ".join(f"{_percent(cell)} at {ratio:g}" for ratio, cell in cells.items())
        if None in cells.values():
            return Finding(measured, UNTESTABLE, "not measured at every keep ratio that the claim names")
        low = {ratio for ratio, cell in cells.items() if cell["accuracy_high"] < values[ratio]}
        high = {ratio for ratio, cell in cells.items() if cell["accuracy_low"] > values[ratio]}
        missed = sorted(low if least else low | high)
        fine = "not above the interval of any" if least else "within the interval of each"
        why = f"the claim is {'above' if least else 'outside of'} the interval at {listed(missed)}" if missed else fine
        return Finding(measured, NOT if missed else REPRODUCED, why)

    return check


def loss(ratio: float, points: float, policy: str | None = None):
    """A check: at most so many points are lost from all patches to one keep ratio.

    Args:
        ratio: keep ratio.
        points: per cent of the images.
        policy: None: each model's own.
    """
    return _losses((ratio,), points, policy)


def flat(least: float, points: float, policy: str | None = None):
    """A check: at most so many points are lost from all patches to any keep ratio that was measured.

    Args:
        least: the lowest keep ratio that counts.
        points: per cent of the images.
        policy: None: each model's own.
    """

    def check(rows: pd.DataFrame, own: str) -> Finding:
        asked = sorted(ratio for ratio in rows["keep_ratio"].unique() if least <= ratio < 1)
        return _losses(asked or (least,), points, policy)(rows, own)

    return check


def _losses(ratios: Sequence[float], points: float, policy: str | None) -> Check:
    def check(rows: pd.DataFrame, own: str) -> Finding:
        name = policy or own
        found = {r: _difference(_cell(rows, name, 1.0), _cell(rows, name, r)) for r in ratios}
        if any(lost is None for lost, _ in found.values()):
            return Finding("-", UNTESTABLE, f"not measured at 1 and {listed(ratios)}")
        worst = max(found, key=lambda r: found[r][0])
        lost, half = found[worst]
        measured = f"{lost:+.1f} points lost from 1 to {worst:g} (± {half:.1f})"
        return Finding(measured, *_side(points, lost, half, "points", [lo - h > points for lo, h in found.values()]))

    return check


def _side(points: float, value: float, half: float, unit: str, over: Sequence[bool]) -> tuple[str, str]:
    if any(over):
        return NOT, f"the interval is all above {points:.1f} {unit}"
    if value + half <= points:
        return REPRODUCED, f"the interval is all below {points:.1f} {unit}"
    return UNDECIDED, f"the interval is on both sides of {points:.1f} {unit}"


def ahead(first: str | None, second: str, ratios: Sequence[float] = PUBLISHED_RATIOS, points: float = 0.0):
    """A check: one policy is ahead of another at every one of the keep ratios.

    Args:
        first: None: each model's own.
        second: the other policy.
        ratios: keep ratios.
        points: by which it is ahead, or more.
    """

    def check(rows: pd.DataFrame, own: str) -> Finding:
        gaps = _gaps(rows, first or own, second, ratios)
        if gaps is None:
            return Finding("-", UNTESTABLE, f"not both measured at {listed(ratios)}")
        short = [ratio for ratio, (gap, half) in gaps.items() if gap + half < points]
        if short:
            return Finding(_ends(gaps), NOT, f"less{_more(points)}, beyond the interval, at {listed(short)}")
        if all(gap - half >= points and gap > half for gap, half in gaps.values()):
            return Finding(_ends(gaps), REPRODUCED, f"ahead{_more(points)}, beyond the interval, at all of {len(gaps)}")
        count = sum(gap > points for gap, _ in gaps.values())
        why = f"ahead{_more(points)} at {count} of {len(gaps)} keep ratios, not beyond the interval at all of them"
        return Finding(_ends(gaps), UNDECIDED, why)

    return check


def close(first: str, second: str, ratios: Sequence[float], points: float):
    """A check: two policies are close to each other at every one of the keep ratios.

    Args:
        first: a policy.
        second: the other policy.
        ratios: keep ratios.
        points: that they are apart at most.
    """

    def check(rows: pd.DataFrame, own: str) -> Finding:
        gaps = _gaps(rows, first, second, ratios)
        if gaps is None:
            return Finding("-", UNTESTABLE, f"not both measured at {listed(ratios)}")
        apart = [ratio for ratio, (gap, half) in gaps.items() if abs(gap) - half > points]
        if apart:
            return Finding(_ends(gaps), NOT, f"further apart, beyond the interval, at {listed(apart)}")
        if all(abs(gap) + half <= points for gap, half in gaps.values()):
            return Finding(_ends(gaps), REPRODUCED, f"within {points:g} points at all of {len(gaps)} keep ratios")
        count = sum(abs(gap) <= points for gap, _ in gaps.values())
        return Finding(_ends(gaps), UNDECIDED, f"within {points:g} points at {count} of {len(gaps)}, intervals wider")

    return check


def faster(ratio: float, times: float, policy: str | None = None):
    """A check: latency(1) / latency(ratio) is at least so many times.

    Args:
        ratio: keep ratio.
        times: claimed.
        policy: None: each model's own.
    """

    def check(rows: pd.DataFrame, own: str) -> Finding:
        name = policy or own
        whole, part = _cell(rows, name, 1.0), _cell(rows, name, ratio)
        if whole is None or part is None or math.isnan(whole["latency_ms"] + part["latency_ms"]):
            return Finding("-", UNTESTABLE, f"not timed at {ratio:g} and 1")
        gain = whole["latency_ms"] / part["latency_ms"]
        low, high = _quartiles(whole, part)
        share = part["gmacs"] / whole["gmacs"]
        spent = "" if math.isnan(share) else f"; {share:.0%} of the MACs"
        device = f" on {part['device']}" if "device" in part else ""
        measured = f"{gain:.2f}x at {ratio:g}{device} (quartiles {low:.2f}-{high:.2f}{spent})"
        verdict = REPRODUCED if low >= times else NOT if high < times else UNDECIDED
        side = {REPRODUCED: "at least", NOT: "less than", UNDECIDED: "quartiles on both sides of"}[verdict]
        return Finding(measured, verdict, f"{side} {times:g}x")

    return check


def cost_in_proportion(slack: float = 0.02):
    """A check: GMACs(ratio) / GMACs(1) = ratio.

    Args:
        slack: by which they may differ.
    """

    def check(rows: pd.DataFrame, own: str) -> Finding:
        line = rows[rows["policy"] == own].sort_values("keep_ratio")
        if 1.0 not in set(line["keep_ratio"]) or len(line) < 2:
            return Finding("-", UNTESTABLE, "not counted at 1 and below")
        share = line["gmacs"] / line.loc[line["keep_ratio"] == 1, "gmacs"].iloc[0]
        off = (share - line["keep_ratio"]).abs().max()
        half = _cell(rows, own, 0.5)
        at = f"{half['gmacs'] / line['gmacs'].max():.2f} of the whole at 0.5; " if half is not None else ""
        fine = off <= slack
        why = f"counted cost is {'' if fine else 'not '}in proportion to the keep ratio (to {slack:g})"
        return Finding(f"{at}off by up to {off:.2f}", REPRODUCED if fine else NOT, why)

    return check


def cost_share(ratio: float, share: float, policy: str, slack: float = 0.02):
    """A check: GMACs(ratio) / GMACs(1) is at most a share.

    Args:
        ratio: keep ratio.
        share: claimed.
        policy: whose cost.
        slack: by which it may be more.
    """

    def check(rows: pd.DataFrame, own: str) -> Finding:
        whole, part = _cell(rows, policy, 1.0), _cell(rows, policy, ratio)
        if whole is None or part is None:
            return Finding("-", UNTESTABLE, f"not counted at {ratio:g} and 1")
        found = part["gmacs"] / whole["gmacs"]
        fine = found <= share + slack
        why = f"{'at most' if fine else 'more than'} {share:.2f} (to {slack:g}); choosing and attention included"
        measured = f"{part['gmacs']:.3f} / {whole['gmacs']:.3f} GMACs = {found:.2f}"
        return Finding(measured, REPRODUCED if fine else NOT, why)

    return check


def quadratic(least: float = 0.01, patches: int = 196):
    """A check: counted GMACs against the share of kept patches are no straight line.

    The best line is off somewhere by more than a share of the cost at 1. Attention grows with the image: fewer patches
    than the paper's cannot refute it.

    Args:
        least: that share.
        patches: the paper's.
    """

    def check(rows: pd.DataFrame, own: str) -> Finding:
        line = rows[rows["policy"] == own]
        line = line[line["keep_ratio"] < 1]
        if line["keep_ratio"].nunique() < 4 or not (rows["keep_ratio"] == 1).any():
            return Finding("-", UNTESTABLE, "fewer than four keep ratios below 1")
        whole = rows.loc[rows["keep_ratio"] == 1].iloc[0]
        kept, cost = line["kept_patches"] / whole["kept_patches"], line["gmacs"] / whole["gmacs"]
        off = np.abs(np.polyval(np.polyfit(kept, cost, 1), kept) - cost).max()
        square = np.polyfit(kept, cost, 2)[0]
        fine = off > least
        measured = f"{max(square, 0):.1%} of the cost at 1 grows with the square ({whole['kept_patches']:g} patches)"
        why = f"a straight line is off by up to {off:.1%} of it, {'more' if fine else 'less'} than {least:.0%}"
        fewer = whole["kept_patches"] < patches
        return Finding(measured, REPRODUCED if fine else UNTESTABLE if fewer else NOT, why)

    return check


def listed(ratios) -> str:
    """Keep ratios in words.

    Args:
        ratios: in their order.
    """
    return ", ".join(f"{ratio:g}" for ratio in ratios)


def _cell(rows: pd.DataFrame, policy: str, ratio: float) -> dict | None:
    found = rows[(rows["policy"] == policy) & np.isclose(rows["keep_ratio"], ratio)]
    return None if found.empty else found.iloc[0].to_dict()


def _gaps(rows: pd.DataFrame, first: str, second: str, ratios) -> dict[float, tuple[float, float]] | None:
    gaps = {ratio: _difference(_cell(rows, first, ratio), _cell(rows, second, ratio)) for ratio in ratios}
    return None if any(gap is None for gap, _ in gaps.values()) else gaps


def _ends(gaps: dict[float, tuple[float, float]]) -> str:
    return ", ".join(f"{gaps[r][0]:+.1f} ± {gaps[r][1]:.1f} at {r:g}" for r in dict.fromkeys((min(gaps), max(gaps))))


def _more(points: float) -> str:
    return f" by {points:g} points" if points else ""


def _difference(first: dict | None, second: dict | None) -> tuple[float | None, float]:
    """In points, and half its 95 % interval, from the two's own."""
    if first is None or second is None:
        return None, math.nan
    halves = [(cell["accuracy_high"] - cell["accuracy_low"]) / 2 for cell in (first, second)]
    return (first["accuracy"] - second["accuracy"]) * 100, math.hypot(*halves) * 100


def _quartiles(whole: dict, part: dict) -> tuple[float, float]:
    """Of the ratio of two times: that of their far and of their near quartiles."""
    low = (whole["latency_ms"] - whole["latency_iqr_ms"] / 2) / (part["latency_ms"] + part["latency_iqr_ms"] / 2)
    near = max(part["latency_ms"] - part["latency_iqr_ms"] / 2, 1e-9)
    return low, (whole["latency_ms"] + whole["latency_iqr_ms"] / 2) / near


def _percent(cell: dict | None) -> str:
    return "-" if cell is None else f"{accuracy_cell(cell)} %"
