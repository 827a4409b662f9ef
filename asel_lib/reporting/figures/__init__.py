"""The figures that are drawn from tables alone: a figure or a family of them a module, which registers itself.

A module here that adds a `registry.FigureEntry` to FIGURES is drawn by every run whose models it is meant for, and the
workflow knows its files beforehand; nobody else lists it. Modules whose names begin with "_" hold what others share.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from asel_lib.identity import ModelKey
from asel_lib.registry import FIGURES
from asel_lib.reporting.style import save

__all__ = ["draw", "files", "keys_of", "save", "save_all"]


def files(
    datasets: Sequence[str] | None = None, keys: Sequence[ModelKey] = (), table: str = "results"
) -> tuple[str, ...]:
    """The names of the files that a run will make, before there are results.

    Args:
        datasets: only figures of these; None: of all that the keys have. Figures of no data set are made anyway.
        keys: the models that the run measures.
        table: which table the figures are drawn from: "results", "speed" or "deployed".

    Returns:
        Names without a folder: PNG, PDF and, where the figure saves what it draws, CSV.
    """
    if datasets is not None:
        keys = [key for key in keys if key.dataset in datasets]
    names = []
    for entry in FIGURES:
        if entry.table == table:
            endings = ("png", "pdf", "csv") if entry.rows else ("png", "pdf")
            names += [f"{entry.stem(subject)}.{ending}" for subject in entry.subjects(keys) for ending in endings]
    return tuple(names)


def save_all(
    frame: pd.DataFrame, folder: str | os.PathLike, table: str = "results", everything: pd.DataFrame | None = None
) -> list[Path]:
    """Draw and save all figures of a table.

    Args:
        frame: its rows.
        folder: where to.
        table: which one it is: "results", "speed" or "deployed".
        everything: of results, these rows and those of other data sets, for figures of papers; None: `frame`.

    Returns:
        The files: those that `files` says of the models in the rows.
    """
    keys, paths = keys_of(frame), []
    for entry in FIGURES:
        if entry.table == table:
            rows = everything if entry.everything and everything is not None else frame
            for subject in entry.subjects(keys):
                paths += save(entry.draw(rows, subject), folder, entry.stem(subject))
    return paths


def draw(name: str, frame: pd.DataFrame, subject: str = "") -> Figure:
    """One registered figure.

    Args:
        name: it is registered under: "1_strategies".
        frame: rows of its table.
        subject: the data set or checkpoint that it is of, "" where it is of neither.
    """
    return FIGURES[name].draw(frame, subject)


def keys_of(frame: pd.DataFrame) -> list[ModelKey]:
    """The models in the rows of a table; none where it says of none."""
    columns = ["dataset", "schedule", "selector", "recipe", "variant", "trained_ratio", "seed"]
    if frame.empty or not set(columns) <= set(frame):
        return []
    rows = frame[columns].drop_duplicates().rename(columns={"trained_ratio": "keep_ratio"})
    return [ModelKey.of(row) for row in rows.to_dict("records")]
