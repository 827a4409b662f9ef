"""What the papers' authors published, as tables; `published/README.md` says where each number is from."""

from functools import cache
from pathlib import Path

import pandas as pd

FOLDER = Path(__file__).parent / "published"  # a folder without __init__.py: data


@cache
def _read(name: str) -> pd.DataFrame:
    return pd.read_csv(FOLDER / name)


def asel(dataset: str) -> pd.DataFrame:
    """ASEL's published numbers on a data set.

    Args:
        dataset: the data set's name.

    Returns:
        Columns policy, keep_ratio, accuracy (in [0, 1]), throughput (img/s, of "learned"; NaN else), source ("log" or
        "figure"); no rows of a data set that was not published.
    """
    log = _read("asel_log.csv").query("dataset == @dataset")
    rows = [
        log.assign(policy=policy, accuracy=log[f"accuracy_{policy}_pct"] / 100, source="log").assign(
            throughput=log["throughput_img_s"] if policy == "learned" else float("nan")
        )
        for policy in ("learned", "random")
    ]
    read_off = _read("asel_figures.csv").query("dataset == @dataset and figure == 'strategies_figure'")
    rows.append(read_off.assign(policy=read_off["series"], accuracy=read_off["accuracy_pct"] / 100, source="figure"))
    every = pd.concat(rows, ignore_index=True)
    return every.reindex(columns=["dataset", "policy", "keep_ratio", "accuracy", "throughput", "source"])


def comparison(dataset: str) -> pd.DataFrame:
    """The published comparison's numbers, read from its picture.

    Args:
        dataset: the data set's name.

    Returns:
        Columns policy ("learned": ASEL's, "agent": AgentViT's), keep_ratio, accuracy.
    """
    rows = _read("asel_figures.csv").query("dataset == @dataset and figure == 'comparison_figure'")
    rows = rows.assign(policy=rows["series"], accuracy=rows["accuracy_pct"] / 100)
    return rows[["dataset", "policy", "keep_ratio", "accuracy"]].reset_index(drop=True)


def line_guided() -> pd.DataFrame:
    """dataset, keep_ratio, accuracy, top5 (NaN where not given), gflops, source of the line-guided README."""
    rows = _read("line_guided.csv")
    return rows.assign(accuracy=rows["accuracy_pct"] / 100, top5=rows["top5_pct"] / 100)[
        ["dataset", "keep_ratio", "accuracy", "top5", "gflops", "source"]
    ]


def costs() -> pd.DataFrame:
    """policy (as of `comparison`), keep_ratio, gmacs, how (it was counted, or that it was not), source."""
    return _read("costs.csv")


def agentvit() -> pd.DataFrame:
    """dataset, policy ("all" patches, "agent", "random"), accuracy, source of the original AgentViT."""
    rows = _read("agentvit.csv")
    return rows.assign(accuracy=rows["accuracy_pct"] / 100)[["dataset", "policy", "accuracy", "source"]]


def value(table: pd.DataFrame, ratio: float, column: str = "accuracy", **where: str) -> float:
    """One published number.

    Args:
        table: of this module.
        ratio: keep ratio.
        column: of the number.
        where: column=value of the row.

    Raises:
        KeyError: where it was not published.
    """
    for name, wanted in where.items():
        table = table[table[name] == wanted]
    found = table.loc[table["keep_ratio"].round(6) == round(ratio, 6), column]
    if len(found) != 1:
        raise KeyError(f"no published {column} at keep ratio {ratio:g} of {where}")
    return float(found.iloc[0])
