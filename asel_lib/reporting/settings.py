"""In which setting a claim was made, and which rows of the results were measured in it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from asel_lib.reporting.rows import telling

PATCHES = {224: 196, 256: 256}  # side of an image in pixels -> patches of 16 x 16


@dataclass(frozen=True)
class Setting:
    """How the models of a claim were trained, and on what.

    Args:
        datasets: the claim's own; the first that was measured is judged.
        schedule: "published" (warm-up, transfer), "direct" or "agentvit".
        recipe: how it was trained: "masked", "dropped", "agent".
        policies: those that the claim speaks of; the first is the one that the model was trained with.
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

    def by(self, recipe: str, *policies: str) -> "Setting":
        """The same with another recipe and its policies.

        Args:
            recipe: its name.
            policies: of its rows; the first is its models' own.
        """
        return replace(self, recipe=recipe, policies=policies)


def found(frame: pd.DataFrame, setting: Setting) -> Iterator[tuple[str, bool, pd.DataFrame]]:
    """What was measured for a claim.

    Args:
        frame: results.
        setting: the claim's.

    Returns:
        (data set, whether in the claim's own setting, means over seeds of `rows.telling`) of each data set and
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
    """The rows of a data set, schedule and recipe, of the policies in question; no ablations. Where models were trained
    for one keep ratio each, those alone."""
    alike = {"dataset": dataset, "schedule": setting.schedule, "recipe": setting.recipe, "variant": ""}
    rows = frame[(frame[list(alike)] == pd.Series(alike)).all(axis=1) & frame["policy"].isin(setting.policies)]
    rows = rows[rows["selector"] == (rows["policy"] if setting.own else setting.policies[0])]
    fixed = rows[np.isclose(rows["trained_ratio"].astype(float), rows["keep_ratio"].astype(float))]
    return fixed if len(fixed) else rows[rows["trained_ratio"].isna()]


def _inside(rows: pd.DataFrame, setting: Setting) -> pd.Series:
    began = (rows["start"] == setting.start) | rows["start"].str.endswith(f" from {setting.start}")
    kept = np.maximum(1, np.floor(setting.patches * rows["keep_ratio"].astype(float)))
    return began & np.isclose(rows["kept_patches"].astype(float), kept)
