"""Which rows of the results belong together: measured alike, of one model or of each policy's own, means over seeds."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

# What makes two rows incomparable: rows that differ in one of these are never averaged.
SETTINGS = (
    "schedule",
    "recipe",
    "variant",
    "trained_ratio",
    "profile",
    "start",
    "split",
    "device",
    "dtype",
    "batch_size",
    "compiled",
)
# What speed and memory depend on, and accuracy (but for single images) does not.
MACHINE = ("device", "dtype", "batch_size", "compiled")
# Rows that differ in one of these were not measured alike, and are not drawn together.
MEASURED = ("profile", "split", *MACHINE)
COSTS = ("latency_ms", "latency_iqr_ms", "throughput", "peak_memory_mb")
NEAREST = ("paper", "compact", "demo", "smoke")  # profiles, from the paper's setting on down
RECIPES = ("masked", "anytime")  # the published recipe and ours, side by side in the papers' figures
OWN = {"masked": "learned", "anytime": "glance"}  # the selector that such a recipe trains
POLICIES = ("learned", "glance", "random", "central")  # of the papers' figures
_MODEL = ("dataset", "schedule", "selector", "recipe", "variant", "trained_ratio")  # but for its seed


class Run(NamedTuple):
    """Rows that may be compared and averaged over seeds.

    Args:
        recipe: of all of them.
        note: what else tells them from the other runs of their data set, "" where nothing does.
        rows: the rows.
    """

    recipe: str
    note: str
    rows: pd.DataFrame

    @property
    def label(self) -> str:
        """The recipe, and the note."""
        return ", ".join(filter(None, (self.recipe, self.note)))


def runs(frame: pd.DataFrame) -> list[Run]:
    """The rows of one data set in groups that may be averaged over seeds.

    Of a measurement made twice, the last counts. Where a group has models that were trained with a policy, other
    models' rows by that policy are left out.

    Args:
        frame: results of one data set.
    """
    same = ["dataset", "checkpoint", "seed", "policy", "keep_ratio", *SETTINGS]
    frame = frame.sort_values("timestamp", kind="stable").drop_duplicates(same, keep="last")
    differing = [name for name in SETTINGS if name != "recipe" and frame[name].nunique(dropna=False) > 1]
    groups = []
    for values, rows in frame.groupby(["recipe", *differing], sort=True, dropna=False):
        recipe, *others = values
        said = [(name, value) for name, value in zip(differing, others, strict=True) if value == value and value != ""]
        own = rows["policy"] == rows["selector"]
        rows = rows[own | ~rows["policy"].isin(rows.loc[own, "policy"])]
        groups.append(Run(str(recipe), ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in said), rows))
    return groups


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """One run's rows -> one row a (policy, keep ratio), means over seeds, sorted; `seeds` is how many.

    The interval of a mean over seeds is the mean interval: what the number of test images leaves open. How far seeds
    differ is in the columns seed_low and seed_high (lowest and highest accuracy).

    Args:
        rows: of one run.
    """
    left_out = {"seed", "keep_ratio", "trained_ratio", "compiled"}
    numbers = [name for name in rows.select_dtypes("number").columns if name not in left_out]
    groups = rows.groupby(["policy", "keep_ratio"], sort=True)
    means = groups[numbers].mean()
    means["seeds"] = groups["seed"].nunique()
    means["seed_low"], means["seed_high"] = groups["accuracy"].min(), groups["accuracy"].max()
    return means.reset_index()


def pooled(frame: pd.DataFrame) -> pd.DataFrame:
    """The results, where seeds that were measured elsewhere than most count for accuracy and not for cost.

    Where the seeds of a data set's models were measured on several machines or in several precisions, and a model has
    seeds among the most and others, the others' rows get the usual machine's settings, and no time, throughput or
    memory (nan). A checkpoint that was measured in both stays as it is.

    Args:
        frame: all results.

    Returns:
        The same rows with a further column, `elsewhere`: where they were measured ("": on the usual machine).
    """
    frame = frame.reset_index(drop=True).astype(dict.fromkeys(COSTS, float)).assign(elsewhere="")
    model = frame.groupby(list(_MODEL), dropna=False, sort=False).ngroup()
    same = ["dataset", "schedule", "profile", "start", "split"]
    for _, rows in frame.groupby(same, sort=False, dropna=False):
        rows = rows.sort_values("timestamp", kind="stable")
        settings = [group for _, group in rows.groupby(list(MACHINE), sort=False, dropna=False)]
        usual = max(settings, key=lambda group: group["checkpoint"].nunique())  # of equally many the oldest
        known = set(zip(model[usual.index], usual["policy"], strict=True))
        here = zip(model[rows.index], rows["policy"], strict=True)
        further = np.array([one in known for one in here]) & ~rows["checkpoint"].isin(usual["checkpoint"])
        found = rows.index[further]
        frame.loc[found, "elsewhere"] = rows.loc[found, "device"] + ", " + rows.loc[found, "dtype"]
        frame.loc[found, list(MACHINE)] = usual[list(MACHINE)].iloc[0].tolist()
        frame.loc[found, list(COSTS)] = np.nan
    return frame


def own_choice(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of models by the selector that each was trained with; without ablations and models for one keep ratio.

    Args:
        frame: results.
    """
    plain = (frame["variant"] == "") & frame["trained_ratio"].isna()
    return frame[(frame["policy"] == frame["selector"]) & plain]


def alike(rows: pd.DataFrame, like: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The rows that have in `columns` what the last of `like` has.

    Args:
        rows: those to choose from.
        like: at least one row.
        columns: names of columns of both.
    """
    last = like.sort_values("timestamp", kind="stable").iloc[-1]
    return rows[(rows[list(columns)] == last[list(columns)]).all(axis=1)]


def latest(rows: pd.DataFrame) -> pd.DataFrame:
    """Of a measurement made twice, the last; none where there are none."""
    return pd.concat([run.rows for run in runs(rows)]) if len(rows) else rows


def telling(rows: pd.DataFrame, common: bool = False) -> pd.DataFrame:
    """Means over seeds of those rows that were measured alike, last, in the setting that is nearest to the paper's: its
    own profile, else the next smaller one.

    Args:
        rows: of one model, or of each policy's own.
        common: policies are compared, so only over the seeds that all of them have.

    Returns:
        As `over_seeds`, with columns that say what they are of; `seeds_left_out` is how many seeds are not counted, of
        the policy that has most. Maybe empty.
    """
    if rows.empty:
        return rows
    rank = rows["profile"].map(lambda name: NEAREST.index(name) if name in NEAREST else len(NEAREST))
    rows = rows[rank == rank.min()]
    rows = latest(alike(rows, rows, (*MEASURED, "start")))
    most = rows.groupby("policy")["seed"].nunique().max()
    if common:
        rows = rows[rows["seed"].isin(set.intersection(*rows.groupby("policy")["seed"].agg(set)))]
        if rows.empty:
            return rows
    about = {name: ", ".join(dict.fromkeys(rows[name])) for name in ("checkpoint", "commit")}
    names = ("start", "schedule", "recipe", "profile", "split", "device", "dtype", "dataset")
    about |= {name: rows[name].iloc[-1] for name in names}
    return over_seeds(rows).assign(**about, seeds_left_out=most - rows["seed"].nunique() if common else 0)


def chain(frame: pd.DataFrame, dataset: str, recipe: str) -> pd.DataFrame:
    """Means over seeds of the model that was warmed up and transferred (as the paper has it), by all of POLICIES; of
    the warm-up's own data set, of the warm-up. Where it was measured in several ways, see `telling`. Maybe empty.

    Args:
        frame: results.
        dataset: the data set's name.
        recipe: name of the recipe.
    """
    rows = frame[(frame["dataset"] == dataset) & frame["schedule"].isin(("warmup", "published"))]
    rows = rows[(rows["recipe"] == recipe) & (rows["variant"] == "")]
    return telling(rows[rows["policy"].isin(POLICIES)])
