"""In which setting a claim was made, and which rows of the results were measured in it.

This is the one place in which claims and report read how the results table says how a model was trained.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from asel_lib.reporting import tables
from asel_lib.reporting.comparison import telling

PATCHES = {224: 196, 256: 256}  # side of an image in pixels -> patches of 16 x 16
COLUMN = "method"  # says on which schedule a model was trained, as one of:
SCHEDULES = {"published": "asel", "direct": "line_guided", "agentvit": "agentvit"}
RECIPES = {"masked": "paper"}  # a recipe, where the table has another word for it
ONE_RATIO = r", keep ([\d.]+)$"  # ends the recipe of a model that was trained for one keep ratio


@dataclass(frozen=True)
class Setting:
    """How the models of a claim were trained, and on what.

    Args:
        datasets: the claim's own; the first that was measured is judged.
        schedule: "published" (warm-up, transfer), "direct" or "agentvit".
        recipe: how it was trained: "masked", "dropped", "agent".
        policies: those that the claim speaks of.
        start: the weights that the first stage began from.
        patches: of an image, all of them.
        own: each policy is asked of the models that were trained with it, not of one model.
        common: policies are compared, so over the seeds alone that all of them have.
        elsewhere: further data sets whose rows stand beside the claim's own.
    """

    datasets: tuple[str, ...]
    schedule: str = "published"
    recipe: str = "masked"
    policies: tuple[str, ...] = ("learned", "random", "central")
    start: str = "imagenet"
    patches: int = PATCHES[224]
    own: bool = False
    common: bool = False
    elsewhere: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The recipe in the table's words."""
        return RECIPES.get(self.recipe, self.recipe)

    def by(self, recipe: str, *policies: str) -> "Setting":
        """The same with another recipe and its policies."""
        return replace(self, recipe=recipe, policies=policies)


def found(frame: pd.DataFrame, setting: Setting) -> Iterator[tuple[str, bool, pd.DataFrame]]:
    """What was measured for a claim.

    Args:
        frame: results, as of `tables.read`.
        setting: the claim's.

    Returns:
        (data set, whether in the claim's own setting, means over seeds of `comparison.telling`) of each data set and
        setting that was measured.
    """
    for dataset in (*setting.datasets, *setting.elsewhere):
        rows = _trained(frame, setting, dataset)
        if rows.empty:
            continue
        inside = _inside(rows, setting) & (dataset in setting.datasets)
        for its_own, part in ((True, rows[inside]), (False, rows[~inside])):
            if len(means := telling(part, setting.common)):
                yield dataset, its_own, means


def _trained(frame: pd.DataFrame, setting: Setting, dataset: str) -> pd.DataFrame:
    """The rows of a data set, schedule and recipe, of the policies in question. Where models were trained for one keep
    ratio each, those alone."""
    rows = frame[(frame["dataset"] == dataset) & (frame[COLUMN] == SCHEDULES[setting.schedule])]
    rows = rows[rows["policy"].isin(setting.policies)]
    if rows.empty:
        return rows
    rows = rows[rows["recipe"].str.replace(ONE_RATIO, "", regex=True) == setting.word]
    asked = rows["recipe"].str.extract(ONE_RATIO, expand=False).astype(float)
    fixed = rows[np.isclose(asked, rows["keep_ratio"])]
    if len(fixed):
        return fixed.assign(recipe=setting.word)
    rows = rows[asked.isna()]
    return tables.own(rows) if setting.own and len(rows) else rows


def _inside(rows: pd.DataFrame, setting: Setting) -> pd.Series:
    began = (rows["start"] == setting.start) | rows["start"].str.endswith(f" from {setting.start}")
    kept = np.maximum(1, np.floor(setting.patches * rows["keep_ratio"].astype(float)))
    return began & np.isclose(rows["kept_patches"].astype(float), kept)
