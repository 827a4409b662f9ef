"""ASEL against AgentViT: as published, with everything else equal, and what training cost."""

from collections.abc import Sequence

import pandas as pd

from asel_lib import methods
from asel_lib.identity import ModelKey
from asel_lib.reporting.rows import MEASURED, alike, latest, over_seeds
from asel_lib.reporting.summaries import images_cell, seeds_cell

AGENT = ("agent", "agent")  # AgentViT's selector and recipe
RANDOM = "{}, random patches"  # a label: patches at random on a model that chooses otherwise


def as_published(frame: pd.DataFrame, dataset: str) -> dict[str, pd.DataFrame]:
    """The comparison as the paper has it: ASEL warmed up and transferred, AgentViT from scratch, each by its own
    schedule and its own selector, and AgentViT's network with random patches.

    Args:
        frame: results.
        dataset: the data set's name.

    Returns:
        label -> rows (means over seeds). Empty without AgentViT's rows; where it was measured in several ways (profile,
        device, precision ...), the last.
    """
    rows = frame[frame["dataset"] == dataset]
    agentvit = rows[rows["schedule"] == "agentvit"]
    if agentvit.empty:
        return {}
    rows = alike(rows, agentvit, MEASURED)
    agentvit = rows[rows["schedule"] == "agentvit"]
    return _means(_asel(rows[rows["schedule"] == "published"]) | _agent(agentvit))


def equal(frame: pd.DataFrame, dataset: str) -> dict[str, pd.DataFrame]:
    """Models of the same backbone, start, optimiser, epochs and seeds: ASEL by its recipes, AgentViT's agent, the
    agent's model with random patches, and one trained with random patches. Only seeds that all of them have.

    Args:
        frame: results.
        dataset: the data set's name.

    Returns:
        label -> rows (means over seeds). Empty without an agent's rows.
    """
    rows = frame[(frame["dataset"] == dataset) & (frame["schedule"] == "direct")]
    rows = rows[(rows["variant"] == "") & rows["trained_ratio"].isna()]
    agent = rows[rows["policy"] == "agent"]
    if agent.empty:
        return {}
    rows = alike(rows, agent, (*MEASURED, "start"))
    random = methods.method("random", "dropped")
    own = rows[(rows["selector"] == "random") & (rows["recipe"] == "dropped")]
    found = _asel(rows) | _agent(rows[rows["selector"] == "agent"]) | {random.label: own}
    seeds = set.intersection(*(set(part["seed"]) for part in found.values() if len(part)))
    return _means({label: part[part["seed"].isin(seeds)] for label, part in found.items()})


def random_label() -> str:
    """The label of random patches on AgentViT's model."""
    return RANDOM.format(methods.method(*AGENT).label)


def looks() -> dict[str, dict[str, str]]:
    """label -> how its line is drawn, of all labels of the two comparisons."""
    made = [methods.method("learned", recipe) for recipe in ("masked", "dropped")]
    made += [methods.method(*AGENT), methods.method("random", "dropped")]
    agent = methods.method(*AGENT)
    return {one.label: one.look for one in made} | {
        random_label(): {"color": agent.color, "marker": "x", "linestyle": ":"}
    }


def _asel(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By ASEL's selector, a label a recipe."""
    rows = rows[(rows["selector"] == "learned") & (rows["policy"] == "learned")]
    return {methods.method("learned", recipe).label: rows[rows["recipe"] == recipe] for recipe in ("masked", "dropped")}


def _agent(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The agent's models by its choice, and by random patches."""
    label = methods.method(*AGENT).label
    return {label: rows[rows["policy"] == "agent"], random_label(): rows[rows["policy"] == "random"]}


def _means(found: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    means = {label: over_seeds(latest(rows)) for label, rows in found.items() if len(rows)}
    return {label: rows.assign(split=found[label]["split"].iloc[-1]) for label, rows in means.items()}


def table(
    frame: pd.DataFrame, dataset: str, ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.2, 0.1), equal_setting: bool = False
) -> pd.DataFrame:
    """A row a method: seeds, test images, accuracy (%) with half its interval at each ratio, GMACs and the latency of a
    batch (ms) with all patches and with half.

    Args:
        frame: results.
        dataset: the data set's name.
        ratios: keep ratios.
        equal_setting: `equal` instead of `as_published`.
    """
    lines = []
    for label, rows in (equal if equal_setting else as_published)(frame, dataset).items():
        found = {round(row["keep_ratio"], 6): row for row in rows.to_dict("records")}
        line = {"data set": dataset, "method": label, "seeds": int(rows["seeds"].max())}
        line["test images"] = images_cell(rows)
        line |= {f"at {ratio:g}": seeds_cell(found.get(round(ratio, 6))) for ratio in ratios}
        for name, column in (("GMACs", "gmacs"), ("ms", "latency_ms")):
            line[f"{name} at 1 / 0.5"] = " / ".join(
                f"{found[r][column]:.3g}" if r in found else "-" for r in (1.0, 0.5)
            )
        lines.append(line)
    return pd.DataFrame(lines)


def training_cost(records: Sequence[dict]) -> pd.DataFrame:
    """What training cost until the best validation accuracy: a row a (data set, setting, method, profile, start), means
    over seeds.

    Ablations and models for one keep ratio are left out. A warm-up counts towards the transfers that start from it,
    until its own best; a transfer whose warm-up is not there is left out. `seconds` is the wall time that the training
    itself recorded, on its machine.

    Args:
        records: of checkpoints.
    """
    keyed = [(ModelKey.of(record), record) for record in records]
    warmups = {_training(key, one): one for key, one in keyed if key.schedule == "warmup"}
    rows = []
    for key, record in keyed:
        if key.schedule == "warmup" or key.variant or key.keep_ratio is not None:
            continue
        chain = [record]
        if key.schedule == "published":
            if (warmup := warmups.get(_training(key, record))) is None:
                continue  # a cost without its warm-up would be too low
            chain = [warmup, record]
        best = [one["history"][: one["metrics"]["best_epoch"]] for one in chain]
        rows.append(
            {
                "data set": key.dataset,
                "setting": "equal" if key.schedule == "direct" else "as published",
                "method": methods.method(key.selector, key.recipe).label,
                "profile": record["profile"],
                "start": record["start"],
                "seed": key.seed,
                "epochs": sum(len(one["history"]) for one in chain),
                "epochs to best": sum(len(epochs) for epochs in best),
                "images seen": sum(len(e) * one["split"]["train"] for e, one in zip(best, chain, strict=True)),
                "seconds": sum(epoch["seconds"] for epochs in best for epoch in epochs),
                "val accuracy": record["metrics"]["val_accuracy"],
            }
        )
    if not rows:
        return pd.DataFrame()
    groups = pd.DataFrame(rows).groupby(["data set", "setting", "method", "profile", "start"], sort=True)
    means = groups[["epochs", "epochs to best", "images seen", "seconds", "val accuracy"]].mean()
    return means.assign(seeds=groups["seed"].nunique()).reset_index()


def _training(key: ModelKey, record: dict) -> tuple:
    """What a transfer and its warm-up have in common."""
    return record["profile"], key.selector, key.recipe, key.seed
