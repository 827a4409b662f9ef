"""Which checkpoints stand for their data set where not all can be shown: confusion matrices, sheets of patches."""

import pandas as pd

from asel_lib.identity import selector_name
from asel_lib.methods import LINE_GUIDED


def confused(pairs: pd.DataFrame) -> list[str]:
    """Of each data set one line-guided checkpoint (the published variant first) and one of recipe `anytime`; where
    there is neither, the first.

    Args:
        pairs: as of `tables.confusions`.
    """
    shown = []
    for _, rows in pairs.groupby("dataset", sort=True):
        guided = rows[rows["selector"].map(selector_name) == selector_name(LINE_GUIDED)]
        guided = guided.iloc[(guided["selector"] != LINE_GUIDED).argsort(kind="stable")]
        ours = rows[rows["recipe"] == "anytime"]
        shown += [part["checkpoint"].iloc[0] for part in (guided, ours) if len(part)] or [rows["checkpoint"].iloc[0]]
    return shown


def patch_sheets(chosen: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Of each data set two sheets of kept patches: one by line drawings (of a model trained with them, the published
    variant first, else of recipe `dropped` as those are), and one of what a model of recipe `anytime` chooses.

    Args:
        chosen: as of `tables.patches`.

    Returns:
        (file name, rows) of each sheet.
    """
    shown = []
    for _, rows in chosen.groupby("dataset", sort=True):
        by_lines = rows["policy"].map(selector_name) == selector_name(LINE_GUIDED)
        order = pd.DataFrame({"other": rows["selector"] != LINE_GUIDED, "schedule": rows["schedule"] != "direct"})
        order = order.assign(recipe=rows["recipe"] != "dropped", name=rows["checkpoint"])[by_lines]
        if len(order):
            name = order.sort_values(["other", "schedule", "recipe", "name"])["name"].iloc[0]
            shown.append((f"{name}_selection", rows[by_lines & (rows["checkpoint"] == name)]))
        own = rows[~by_lines & (rows["recipe"] == "anytime")]
        if len(own):
            name = own["checkpoint"].iloc[0]
            shown.append((f"{name}_own_selection", own[own["checkpoint"] == name]))
    return shown
