"""The results in short: tables for README, documents and notebooks."""

from collections.abc import Sequence

import pandas as pd
from tabulate import DataRow, TableFormat, tabulate

from asel_lib.reporting.rows import over_seeds, own_choice, runs

# Cells are not padded, as tabulate's own formats have them: a new number changes one line of a page, not its column.
_ROW = DataRow("| ", " | ", " |")
_MARKDOWN = TableFormat(None, lambda widths, _: f"|{' --- |' * len(widths)}", None, None, _ROW, _ROW, 0, None)


def summary(
    frame: pd.DataFrame, ratios: Sequence[float] = (1.0, 0.5, 0.2), policies: Sequence[str] = ("learned", "glance")
) -> pd.DataFrame:
    """A row a data set and run with one of the policies: test images, accuracy with its interval (%), GMACs, and the
    speed-up latency(1.0) / latency(ratio), at each of the ratios. "-" where it was not measured.

    Args:
        frame: results.
        ratios: keep ratios.
        policies: those that are trained along.

    Raises:
        ValueError: without 1.0 among the ratios.
    """
    if 1.0 not in ratios:
        raise ValueError(f"ratios is {tuple(ratios)!r}: expected 1.0 among them, the base of the speed-up")
    table = []
    for dataset, rows in frame[frame["policy"].isin(policies)].groupby("dataset", sort=True):
        for run in runs(rows):
            found = _by_ratio(over_seeds(run.rows))
            line = {"data set": dataset, "test images": images_cell(run.rows), "recipe": run.recipe}
            line |= {"setting": run.note, "seeds": run.rows["seed"].nunique()}
            cells = [found.get(round(ratio, 6)) for ratio in ratios]
            line |= {
                f"accuracy at {ratio:g}, %": accuracy_cell(cell) for ratio, cell in zip(ratios, cells, strict=True)
            }
            line["GMACs"] = " / ".join("-" if cell is None else f"{cell['gmacs']:.3g}" for cell in cells)
            base = found.get(1.0)
            line["speed-up"] = " / ".join(
                f"{times:.2f}x" if base and cell and (times := base["latency_ms"] / cell["latency_ms"]) > 0 else "-"
                for cell in cells
            )
            table.append(line)
    return _without_empty(pd.DataFrame(table))


def selectors(frame: pd.DataFrame, ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05)) -> pd.DataFrame:
    """Every selector by the models trained with it on the direct schedule: a row a data set and selector; accuracy (%)
    as mean over seeds, lowest and highest seed, and half the interval that the number of test images leaves.

    Args:
        frame: results.
        ratios: keep ratios.
    """
    table = []
    chosen = own_choice(frame[frame["schedule"] == "direct"])
    for dataset, rows in chosen.groupby("dataset", sort=True):
        for run in runs(rows):
            for policy, line in over_seeds(run.rows).groupby("policy", sort=True):
                found = _by_ratio(line)
                cells = {f"at {ratio:g}": seeds_cell(found.get(round(ratio, 6))) for ratio in ratios}
                about = {"data set": dataset, "test images": images_cell(run.rows), "selector": policy}
                about |= {"recipe": run.recipe, "setting": run.note, "seeds": int(line["seeds"].max())}
                table.append(about | cells)
    return _without_empty(pd.DataFrame(table))


def objects_kept(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a policy: the share (%) of the deciding object that lies in kept patches / accuracy (%), at each ratio;
    only where the object is known (synthetic scenes).

    Args:
        frame: results.
    """
    table = []
    for dataset, rows in frame[frame["object_area_kept"].notna()].groupby("dataset", sort=True):
        for run in runs(rows):
            for policy, line in over_seeds(run.rows).groupby("policy", sort=True):
                cells = {
                    f"at {row['keep_ratio']:g}": f"{row['object_area_kept'] * 100:.1f} / {row['accuracy'] * 100:.1f}"
                    for row in line.to_dict("records")
                }
                about = {"data set": dataset, "recipe": run.recipe, "setting": run.note, "policy": policy}
                table.append(about | cells)
    return _without_empty(pd.DataFrame(table).fillna("-"))


def to_markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, one line a row.

    Args:
        frame: cells of any kind; the index is left out.
    """
    cells = [[str(value).replace("|", "\\|") for value in row] for row in frame.itertuples(index=False)]
    plain = {"disable_numparse": True, "preserve_whitespace": True, "stralign": None}
    return tabulate(cells, headers=[str(name).replace("|", "\\|") for name in frame], tablefmt=_MARKDOWN, **plain)


def images_cell(rows: pd.DataFrame) -> int | str:
    """How many test images rows are of; where they are of another copy of the data set than that of the training, with
    the word for those that it never saw ("794 unseen")."""
    count, split = int(rows["n_images"].max()), rows["split"].iloc[-1]
    return count if split == "test" else f"{count} {split}"


def seeds_cell(cell: dict | None) -> str:
    """Accuracy (%) of a row of `over_seeds`: mean, lowest and highest seed, half the interval over images."""
    if cell is None:
        return "-"
    mean, low, high = (f"{cell[name] * 100:.1f}" for name in ("accuracy", "seed_low", "seed_high"))
    half = (cell["accuracy_high"] - cell["accuracy_low"]) * 50
    return (f"{mean} ({low}-{high})" if cell["seeds"] > 1 else mean) + f" ± {half:.1f}"


def accuracy_cell(cell: dict | None) -> str:
    """Accuracy (%) of a row with its interval over images."""
    if cell is None:
        return "-"
    return f"{cell['accuracy'] * 100:.1f} ({cell['accuracy_low'] * 100:.1f}-{cell['accuracy_high'] * 100:.1f})"


def _by_ratio(means: pd.DataFrame) -> dict[float, dict]:
    return {round(row["keep_ratio"], 6): row for row in means.to_dict("records")}


def _without_empty(table: pd.DataFrame) -> pd.DataFrame:
    """Without the column `setting`, where nothing but the recipe tells the rows apart."""
    empty = "setting" in table and (table["setting"] == "").all()
    return table.drop(columns="setting") if empty else table
