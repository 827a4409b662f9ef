"""The first page: does the paper hold, how far can I cut, what should I use; tables come after the answers."""

import pandas as pd

from asel_lib import methods
from asel_lib.data import catalog
from asel_lib.registry import FIGURES
from asel_lib.reporting import claims, method_tables, rows, summaries, verdicts
from asel_lib.reproducibility import environment
from pipeline.report.claims_page import WORDS, anchor, chips
from pipeline.report.collect import Found
from pipeline.report.markup import render

DATASETS = ("rsscn7", "aid", "eurosat", "ucmerced", "cifar10")  # the first that has a comparison is shown
PICTURES = ("7_methods", "1_strategies")  # of FIGURES, those that can show how far one can cut, the best first
POINT = 0.01  # accuracy that a cut may cost
STEPS = (0.5, 0.2, 0.1)  # keep ratios that are named besides
PUBLISHED = "learned/masked"  # ASEL as its paper has it
# A verdict in a sentence, where it is not its word on the claims' page.
SAID = {
    verdicts.CONTRADICTED: "contradicted by the authors\u2019 own record",
    verdicts.ELSEWHERE: "measured only in another setting",
    verdicts.UNTESTABLE: "not measured yet",
}


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
        verdict=verdict(found.judged),
        groups=[
            {"name": name, "link": f"claims.html#{anchor(name)}", "chips": chips(counts)}
            for name, counts in claims.groups(found.judged).iterrows()
        ],
        picture=picture,
        cuts=cuts(every, order, shown),
        advice=[recommended(every, shown, by) for by in method_tables.BUDGETS],
        shown=shown,
        own=[_own(found, dataset) for dataset in found.own],
        compared=[_compared(every, dataset, tables[dataset]) for dataset in compared],
    )


def verdict(judged: pd.DataFrame) -> str:
    """How many claims have which verdict, as a sentence."""
    counts = claims.overall(judged)["verdict"].value_counts()
    there = [(counts[name], SAID.get(name, WORDS[name][0])) for name in verdicts.ALL if name in counts]
    *parts, last = (f"{count} {'is' if count == 1 else 'are'} {word}" for count, word in there)
    return f"Of the papers\u2019 {counts.sum()} claims, {', '.join([*parts, 'and ' * bool(parts) + last])}."


def cuts(frame: pd.DataFrame, datasets: list[str], shown: str | None) -> list[dict]:
    """How far one can cut: the published model on each data set of photographs, then our recipe.

    Args:
        frame: results.
        datasets: names of those that were measured.
        shown: the data set whose methods are compared, None: none.
    """
    answers = []
    for dataset in datasets:
        if not catalog.is_generated(dataset):
            published = methods.parse(PUBLISHED)
            its = rows.chain(frame, dataset, published.recipe)
            answers.append(
                reach(its[its["policy"] == published.selector], dataset, f"{published.label}, as published,")
            )
    ours = methods.parse(method_tables.OURS)
    its = method_tables.found(frame, shown).get(ours) if shown else None
    answers.append(reach(its, shown, ours.label))
    return [answer for answer in answers if answer]


def reach(measured: pd.DataFrame | None, dataset: str, method: str) -> dict | None:
    """How far a model's keep ratio can go down.

    Args:
        measured: its rows, one a keep ratio.
        dataset: what they are of.
        method: what it is called.

    Returns:
        Accuracy with all patches (whole), the lowest ratio down to which it loses no more than POINT, its share of the
        operations, and the same of the STEPS below. None without a row of all patches.
    """
    if measured is None or not (measured["keep_ratio"] == 1).any():
        return None
    measured = measured.sort_values("keep_ratio", ascending=False)
    whole = measured.iloc[0]
    fine = (whole["accuracy"] - measured["accuracy"] <= POINT).cummin()

    def said(row: pd.Series) -> dict:
        share = f"{row['gmacs'] / whole['gmacs'] * 100:.0f} %"
        return {"ratio": f"{row['keep_ratio']:g}", "at": _percent(row["accuracy"]), "share": share}

    steps = [said(row) for _, row in measured[measured["keep_ratio"].isin(STEPS) & ~fine].iterrows()]
    about = {"dataset": dataset, "generated": catalog.is_generated(dataset), "method": method}
    return about | {"whole": _percent(whole["accuracy"]), "steps": steps} | said(measured[fine].iloc[-1])


def recommended(frame: pd.DataFrame, dataset: str | None, by: str) -> list[dict]:
    """Which method to use within which budget. Budgets that have the same answer are one line.

    Args:
        frame: results.
        dataset: the data set's name, None where nothing was measured.
        by: what the budget is of, one of `method_tables.BUDGETS`.

    Returns:
        budget, best, ratio, accuracy, what random patches reach, and `until`, the most generous of a line's budgets.
    """
    found = method_tables.advice(frame, dataset, by) if dataset else pd.DataFrame()
    lines = []
    for row in found.to_dict("records"):
        budget = f"{row[by]} of the operations".replace("%", " %") if by == "operations" else f"{row[by]} as fast"
        line = {"best": row["best"], "ratio": row["keep ratio"], "accuracy": row["accuracy"]}
        if lines and line.items() <= lines[-1].items():
            lines[-1]["until"] = row[by].split()[-1].replace("%", " %")
        else:
            itself = row["random"] == row["accuracy"].split()[0]  # the best are random patches
            random = "" if itself else row["random"].strip("-")
            lines.append(line | {"budget": budget, "random": random, "until": ""})
    return lines


def _percent(share: float) -> str:
    return f"{share * 100:.1f} %"


def _order(found: Found, datasets: list[str]) -> list[str]:
    """The measured data sets, those first that a reader asks about: the reader's own, photographs, synthetic scenes."""
    photographs = [name for name in datasets if not catalog.is_generated(name)]
    return [name for name in dict.fromkeys((*found.own, *DATASETS, *photographs, *datasets)) if name in datasets]


def _own(found: Found, dataset: str) -> dict:
    name = FIGURES["1_strategies"].stem(dataset)
    its = found.every[found.every["dataset"] == dataset]
    return {"dataset": dataset, "picture": found.figures.get(name), "table": summaries.summary(its)}


def _compared(every: pd.DataFrame, dataset: str, table: pd.DataFrame) -> dict:
    advice = [method_tables.advice(every, dataset, by) for by in method_tables.BUDGETS]
    return {
        "dataset": dataset,
        "table": table.drop(columns="data set"),
        "advice": [part.drop(columns="data set") for part in advice if len(part)],
    }
