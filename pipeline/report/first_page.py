"""The first page: does the paper hold, how far can I cut, what should I use; tables come after the answers."""

import pandas as pd

from asel_lib import methods
from asel_lib.data import catalog
from asel_lib.registry import FIGURES
from asel_lib.reporting import claims, method_tables, summaries
from asel_lib.reproducibility import environment
from pipeline.report.claims_page import anchor, chips
from pipeline.report.collect import Found
from pipeline.report.markup import render

DATASETS = ("rsscn7", "aid", "eurosat", "ucmerced", "cifar10")  # the first that has a comparison is shown
PICTURES = ("7_methods", "1_strategies")  # of FIGURES, those that can show how far one can cut, the best first
POINT = 0.01  # accuracy that a cut may cost
STEPS = (0.5, 0.2, 0.1)  # keep ratios that are named besides


def page(found: Found) -> str:
    """index.md."""
    every = found.every
    states = [row["state"] for rows in found.notebooks.values() for row in rows]
    datasets = sorted(set(every["dataset"]))
    order = _order(found, datasets)
    tables = {dataset: method_tables.table(every, dataset) for dataset in datasets}
    compared = [dataset for dataset in datasets if len(tables[dataset])]
    shown = next((dataset for dataset in order if dataset in compared), order[0] if order else None)
    names = [FIGURES[name].stem(dataset) for dataset in dict.fromkeys([shown, *order]) for name in PICTURES]
    picture = next((found.figures[name] for name in names if name in found.figures), None)
    return render(
        "index.md",
        measurements=len(every),
        models=every["checkpoint"].nunique(),
        datasets=len(datasets),
        done=states.count("done"),
        asked=len(states),
        failed=bool({"failed", "unreadable"} & set(states)),
        about=environment(),
        groups=[
            {"name": name, "link": f"claims.html#{anchor(name)}", "chips": chips(counts)}
            for name, counts in claims.groups(found.judged).iterrows()
        ],
        picture=picture,
        cut=reach(every, shown),
        advice=[recommended(every, shown, by) for by in method_tables.BUDGETS],
        shown=shown,
        own=[_own(found, dataset) for dataset in found.own],
        compared=[_compared(every, dataset, tables[dataset]) for dataset in compared],
    )


def reach(frame: pd.DataFrame, dataset: str | None) -> dict | None:
    """How far our recipe's keep ratio can go down.

    Args:
        frame: results.
        dataset: the data set's name, None where nothing was measured.

    Returns:
        Accuracy with all patches (whole), the lowest ratio down to which it loses no more than POINT, its share of the
        operations, and the same of the STEPS below; None where it was not measured.
    """
    ours = methods.parse(method_tables.OURS)
    rows = method_tables.found(frame, dataset).get(ours) if dataset else None
    if rows is None or not (rows["keep_ratio"] == 1).any():
        return None
    rows = rows.sort_values("keep_ratio", ascending=False)
    whole = rows.iloc[0]
    fine = (whole["accuracy"] - rows["accuracy"] <= POINT).cummin()
    last = rows[fine].iloc[-1]

    def said(row: pd.Series) -> dict:
        share = f"{row['gmacs'] / whole['gmacs'] * 100:.0f} %"
        return {"ratio": f"{row['keep_ratio']:g}", "at": _percent(row["accuracy"]), "share": share}

    steps = [said(row) for _, row in rows[rows["keep_ratio"].isin(STEPS) & ~fine].iterrows()]
    return {"method": ours.label, "whole": _percent(whole["accuracy"]), "steps": steps} | said(last)


def recommended(frame: pd.DataFrame, dataset: str | None, by: str) -> list[dict]:
    """Which method to use within which budget.

    Args:
        frame: results.
        dataset: the data set's name, None where nothing was measured.
        by: what the budget is of, one of `method_tables.BUDGETS`.

    Returns:
        budget, best, ratio, accuracy, and what random patches reach.
    """
    found = method_tables.advice(frame, dataset, by) if dataset else pd.DataFrame()
    lines = []
    for row in found.to_dict("records"):
        budget = f"{row[by]} of the operations".replace("%", " %") if by == "operations" else f"{row[by]} as fast"
        line = {"budget": budget, "best": row["best"], "ratio": row["keep ratio"], "accuracy": row["accuracy"]}
        lines.append(line | {"random": row["random"].strip("-")})
    return lines


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _order(found: Found, datasets: list[str]) -> list[str]:
    """The measured data sets, those first that a reader asks about: the reader's own, photographs, synthetic scenes."""
    photographs = [name for name in datasets if not catalog.is_generated(name)]
    return [name for name in dict.fromkeys((*found.own, *DATASETS, *photographs, *datasets)) if name in datasets]


def _own(found: Found, dataset: str) -> dict:
    name = FIGURES["1_strategies"].stem(dataset)
    rows = found.every[found.every["dataset"] == dataset]
    return {"dataset": dataset, "picture": found.figures.get(name), "table": summaries.summary(rows)}


def _compared(every: pd.DataFrame, dataset: str, table: pd.DataFrame) -> dict:
    advice = [method_tables.advice(every, dataset, by) for by in method_tables.BUDGETS]
    return {
        "dataset": dataset,
        "table": table.drop(columns="data set"),
        "advice": [part.drop(columns="data set") for part in advice if len(part)],
    }
