"""The results table: one CSV, one row a measurement. Its columns, its file, and the summary a README
shows."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from asel_lib.errors import AselError
from asel_lib.files import replace_text

TEXT = (
    "dataset",
    "checkpoint",
    "method",
    "policy",
    "recipe",
    "profile",
    "start",
    "split",
    "device",
    "dtype",
    "torch",
    "commit",
    "timestamp",
    "task",
    "baseline",
    "runtime",
)
COLUMNS = (
    "dataset",
    "checkpoint",
    "method",
    "policy",
    "recipe",
    "profile",
    "start",
    "keep_ratio",
    "kept_patches",
    "seed",
    "split",
    "n_images",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "top5",
    "object_kept",
    "gmacs",
    "selector_gmacs",
    "latency_ms",
    "latency_iqr_ms",
    "throughput",
    "peak_memory_mb",
    "batch_size",
    "device",
    "dtype",
    "compiled",
    "torch",
    "commit",
    "timestamp",
)
# Of measurements of speed, memory and growth, and of exported models, alone (evaluation.speed, .growth, .deployed);
# `task` says which. agreement: share of images answered as torch does; file_mb: of the exported file.
SPEED = (
    "task",
    "image_size",
    "patches",
    "classes",
    "images",
    "threads",
    "baseline",
    "speed_up",
    "speed_up_low",
    "speed_up_high",
    "ideal",
    "floor_ms",
    "runtime",
    "agreement",
    "file_mb",
)
CONFUSION = ("dataset", "checkpoint", "policy", "recipe", "keep_ratio", "class", "answer", "images")
PATCHES = (
    "dataset",
    "checkpoint",
    "recipe",
    "split",
    "policy",
    "keep_ratio",
    "image",
    "digest",
    "pixels",
    "class",
    "answer",
    "rows",
    "columns",
    "kept",
    "scores",
    "scores_of",
    "centre",
)
PICTURED = (
    "dataset",
    "checkpoint",
    "recipe",
    "split",
    "policy",
    "image",
    "digest",
    "class",
    "answer",
    "kept",
    "scores",
    "scores_of",
    "centre",
)  # text in CONFUSION and PATCHES
ENDINGS = r"(?:_(?:paper|anytime))?(?:_seed\d+)?"  # of a checkpoint's name, behind its selector's
# What makes two rows incomparable: rows that differ in one of these are never averaged.
SETTINGS = ("method", "recipe", "profile", "start", "split", "device", "dtype", "batch_size", "compiled")
# What speed and memory depend on, and accuracy (but for single images) does not.
MACHINE = ("device", "dtype", "batch_size", "compiled")
COSTS = ("latency_ms", "latency_iqr_ms", "throughput", "peak_memory_mb")


def read(paths: str | os.PathLike | Sequence[str | os.PathLike], speed: bool = False) -> pd.DataFrame:
    """Rows of one results file, or of several in their order: the accuracy sweeps with COLUMNS, or, with `speed`, the
    measurements of speed, with SPEED too.

    AselError, naming file and column, where a file is missing, empty, no CSV, or lacks a column.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    if not paths:
        raise AselError("no results file given: run the benchmark first, or name the files to read")
    frame = pd.concat([_read_one(Path(path)) for path in paths], ignore_index=True)
    mine = frame[(frame["task"] != "") == speed].reset_index(drop=True)
    return mine if speed else mine[list(COLUMNS)]


def read_all(source: str | os.PathLike, speed: bool = False) -> pd.DataFrame:
    """Rows of one results file, or of every CSV in a folder."""
    source = Path(source)
    return read(sorted(source.glob("*.csv")) if source.is_dir() else source, speed)


def with_reference(frame: pd.DataFrame, reference: str | os.PathLike) -> pd.DataFrame:
    """`frame`, and of the table `reference` (where it is there) the measurements that `frame` has not."""
    if not Path(reference).is_file():
        return frame
    keys, others = ["checkpoint", "policy", "keep_ratio", "timestamp"], read(reference)
    new = ~pd.MultiIndex.from_frame(others[keys]).isin(pd.MultiIndex.from_frame(frame[keys]))
    return pd.concat([frame, others[new]], ignore_index=True)


def with_speed(frame: pd.DataFrame, measured: pd.DataFrame) -> pd.DataFrame:
    """A table for `write`: the rows of `frame`, and measurements of speed, which lack what only sweeps have."""
    if measured.empty:
        return frame
    return pd.concat([frame, measured.reindex(columns=[*COLUMNS, *SPEED])], ignore_index=True)


def confusions(folder: str | os.PathLike, reference: str | os.PathLike) -> pd.DataFrame:
    """Rows of `accuracy.confusion` of every checkpoint in a folder of CSV files, and of the table `reference` those of
    other data sets. Empty where there are none. AselError names a file that is no such table."""
    return _with_other_sets(folder, reference, CONFUSION)


def patches(folder: str | os.PathLike, reference: str | os.PathLike) -> pd.DataFrame:
    """Rows of `evaluation.patches.kept_patches`, from the same two places."""
    return _with_other_sets(folder, reference, PATCHES)


def _with_other_sets(folder: str | os.PathLike, reference: str | os.PathLike, columns: Sequence[str]) -> pd.DataFrame:
    found = [_read_csv(file, columns, PICTURED) for file in sorted(Path(folder).glob("*.csv"))]
    mine = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=list(columns))
    if not Path(reference).is_file():
        return mine
    others = _read_csv(Path(reference), columns, PICTURED)
    return pd.concat([mine, others[~others["dataset"].isin(mine["dataset"])]], ignore_index=True)


def write(frame: pd.DataFrame, path: str | os.PathLike) -> Path:
    """Write the table, sweeps and measurements of speed alike; what was there stays whole until the new file is.
    AselError where a column is missing."""
    path = Path(path)
    _check_columns(frame, str(path))
    columns = [*COLUMNS, *(SPEED if "task" in frame else ())]
    try:
        replace_text(path, frame.reindex(columns=columns).to_csv(index=False))
    except OSError as error:
        raise AselError(f"{path} could not be written: {error}") from error
    return path


def append(frame: pd.DataFrame, path: str | os.PathLike, patience: float = 60.0) -> Path:
    """Add rows to the table, which need not be there yet. Processes that do so at once take turns (a lock file beside
    it), so that no row is lost or torn; AselError where the lock cannot be had within `patience` seconds."""
    from filelock import FileLock, Timeout

    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=patience):
            return write(_joined(_read_one(path), frame) if path.is_file() else frame, path)
    except Timeout:
        raise AselError(f"{path} is being written by another process for {patience:g} s: wait, or stop it") from None
    except OSError as error:
        raise AselError(f"{path} could not be written: {error}") from error


def _joined(before: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """With the columns of SPEED only where a row needs them."""
    plain = "task" not in frame and before["task"].eq("").all()
    return pd.concat([before[list(COLUMNS)] if plain else before, frame])


def runs(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of one data set in groups that may be compared and averaged over seeds, each with a short
    label: its recipe, and whichever other of SETTINGS differs. Of a measurement made twice, the last
    counts."""
    same = ["dataset", "checkpoint", "seed", "policy", "keep_ratio", *SETTINGS]
    frame = frame.sort_values("timestamp", kind="stable").drop_duplicates(same, keep="last")
    differing = [name for name in SETTINGS if name != "recipe" and frame[name].nunique(dropna=False) > 1]
    groups = []
    for values, rows in frame.groupby(["recipe", *differing], sort=True, dropna=False):
        recipe, *others = values
        notes = [f"{name} {value}" for name, value in zip(differing, others, strict=True)]
        groups.append((", ".join([str(recipe), *notes]), rows))
    return groups


def pooled(frame: pd.DataFrame) -> pd.DataFrame:
    """A whole table in which seeds that were measured on another machine, or in another precision, than most of their
    data set's models count for accuracy and not for cost: where other seeds of the same model were measured with the
    most, their rows get that machine's settings, no time, throughput or memory (nan), and in a further column,
    `elsewhere`, where they were measured ("": there). A checkpoint that was measured in both stays as it is."""
    frame = frame.reset_index(drop=True).astype(dict.fromkeys(COSTS, float)).assign(elsewhere="")
    model = frame["checkpoint"].str.replace(r"_seed\d+$", "", regex=True)
    same = [frame[name] for name in ("dataset", "method", "profile", "start", "split", "task") if name in frame]
    for _, rows in frame.groupby(same, sort=False, dropna=False):
        rows = rows.sort_values("timestamp", kind="stable")
        settings = [group for _, group in rows.groupby(list(MACHINE), sort=False, dropna=False)]
        usual = max(settings, key=lambda group: group["checkpoint"].nunique())  # of equally many the oldest
        known = set(zip(model[usual.index], usual["policy"], usual["recipe"], strict=True))
        here = zip(model[rows.index], rows["policy"], rows["recipe"], strict=True)
        further = np.array([one in known for one in here]) & ~rows["checkpoint"].isin(usual["checkpoint"])
        found = rows.index[further]
        frame.loc[found, "elsewhere"] = rows.loc[found, "device"] + ", " + rows.loc[found, "dtype"]
        frame.loc[found, list(MACHINE)] = usual[list(MACHINE)].iloc[0].tolist()
        frame.loc[found, list(COSTS)] = np.nan
    return frame


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """One run's rows -> one row a (policy, keep ratio), means over seeds, sorted; `seeds` is how many.

    The interval of a mean over seeds is the mean interval: what the number of test images leaves open. How
    far seeds differ is in the columns seed_low and seed_high (lowest and highest accuracy).
    """
    numbers = [name for name in COLUMNS if name not in (*TEXT, "seed", "keep_ratio", "compiled")]
    groups = rows.groupby(["policy", "keep_ratio"], sort=True)
    means = groups[numbers].mean()
    means["seeds"] = groups["seed"].nunique()
    means["seed_low"], means["seed_high"] = groups["accuracy"].min(), groups["accuracy"].max()
    return means.reset_index()


def summary(
    frame: pd.DataFrame, ratios: Sequence[float] = (1.0, 0.5, 0.2), policies: Sequence[str] = ("learned", "glance")
) -> pd.DataFrame:
    """A row a data set and run with one of the policies (those that are trained along): test images, accuracy
    with its interval (%), GMACs, and the speed-up latency(1.0) / latency(ratio), at each of the ratios. "-" where it
    was not measured."""
    if 1.0 not in ratios:
        raise ValueError(f"ratios is {tuple(ratios)!r}: expected 1.0 among them, the base of the speed-up")
    table = []
    for dataset, rows in frame[frame["policy"].isin(policies)].groupby("dataset", sort=True):
        for label, run in runs(rows):
            found = {round(row["keep_ratio"], 6): row for row in over_seeds(run).to_dict("records")}
            line = {"data set": dataset, "test images": int(run["n_images"].max())}
            line |= {"recipe": label, "seeds": run["seed"].nunique()}
            cells = [found.get(round(ratio, 6)) for ratio in ratios]
            line |= {
                f"accuracy at {ratio:g}, %": accuracy_cell(cell) for ratio, cell in zip(ratios, cells, strict=True)
            }
            line["GMACs"] = " / ".join("-" if cell is None else f"{cell['gmacs']:.3g}" for cell in cells)
            base = found.get(1.0)
            line["speed-up"] = " / ".join(
                f"{base['latency_ms'] / cell['latency_ms']:.2f}x" if base and cell else "-" for cell in cells
            )
            table.append(line)
    return pd.DataFrame(table)


def own(frame: pd.DataFrame) -> pd.DataFrame:
    """Of the trainings on the line-guided schedule for all keep ratios, the rows of the selector that each was trained
    with: their checkpoints are named after it. Ablations and models for one keep ratio have longer names."""

    def written(policy: str) -> str:
        name, _, options = policy.partition(":")
        return "_".join(option.partition("=")[2] for option in options.split(",")) if options else name

    mine = [
        re.fullmatch(written(policy) + ENDINGS, name.partition("_line_guided_")[2]) is not None
        for name, policy in zip(frame["checkpoint"], frame["policy"], strict=True)
    ]
    return frame[np.array(mine, dtype=bool)]


def selectors(frame: pd.DataFrame, ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.2, 0.1, 0.05)) -> pd.DataFrame:
    """The line-guided comparison: a row a data set and selector, each by the models trained with it; accuracy (%) as
    mean over seeds, lowest and highest seed, and half the interval that the number of test images leaves."""
    table = []
    chosen = own(frame[frame["method"] == "line_guided"])
    for dataset, rows in chosen.groupby("dataset", sort=True):
        for label, run in runs(rows):
            for policy, line in over_seeds(run).groupby("policy", sort=True):
                found = {round(row["keep_ratio"], 6): row for row in line.to_dict("records")}
                cells = {f"at {ratio:g}": seeds_cell(found.get(round(ratio, 6))) for ratio in ratios}
                about = {
                    "data set": dataset,
                    "test images": int(line["n_images"].max()),
                    "selector": policy,
                    "recipe": label,
                }
                table.append(about | {"seeds": int(line["seeds"].max())} | cells)
    return pd.DataFrame(table)


def objects_kept(frame: pd.DataFrame) -> pd.DataFrame:
    """A row a policy: the share (%) of the deciding object that lies in kept patches / accuracy (%), at each ratio;
    only where the object is known (synthetic scenes)."""
    table = []
    for dataset, rows in frame[frame["object_kept"].notna()].groupby("dataset", sort=True):
        for label, run in runs(rows):
            for policy, line in over_seeds(run).groupby("policy", sort=True):
                cells = {
                    f"at {row['keep_ratio']:g}": f"{row['object_kept'] * 100:.1f} / {row['accuracy'] * 100:.1f}"
                    for row in line.to_dict("records")
                }
                table.append({"data set": dataset, "recipe": label, "policy": policy} | cells)
    return pd.DataFrame(table).fillna("-")


def to_markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, one line a row, its cells not padded: pages stay small."""
    from tabulate import DataRow, TableFormat, tabulate

    def rule(widths: Sequence[int], alignments: Sequence[str]) -> str:
        return f"| {' | '.join(['---'] * len(widths))} |"

    row = DataRow("|", "|", "|")
    unpadded = TableFormat(None, rule, None, None, headerrow=row, datarow=row, padding=1, with_header_hide=None)
    cells = [[str(value).replace("|", "\\|") for value in line] for line in frame.itertuples(index=False)]
    plain = {"stralign": None, "numalign": None, "disable_numparse": True}
    return tabulate(cells, list(map(str, frame.columns)), tablefmt=unpadded, **plain)


def _read_one(path: Path) -> pd.DataFrame:
    if not path.is_file():
        raise AselError(f"{path}: no such results file; run the benchmark first")
    frame = _read_csv(path, COLUMNS, TEXT, SPEED)  # older files, and sweeps, have none of the latter
    return frame.assign(**frame[list(TEXT)].fillna(""))


def _read_csv(path: Path, columns: Sequence[str], text: Sequence[str], optional: Sequence[str] = ()) -> pd.DataFrame:
    """The columns of a CSV file, those of `text` as they stand there, all others but "compiled" numbers; `optional`
    ones may be missing. AselError, naming file and column, where it is empty, no CSV, lacks a column, or holds what is
    no number."""
    again = "run the benchmark again to write it anew"
    try:
        # A commit such as 12e4567 is no number, nor is a list of one patch; a class may be called "null".
        numbers = {name: ["", "nan"] for name in (*columns, *optional) if name not in text}
        frame = pd.read_csv(path, dtype=dict.fromkeys(text, str), keep_default_na=False, na_values=numbers)
    except pd.errors.EmptyDataError:
        raise AselError(f"{path}: the table is empty; {again}") from None
    except (OSError, ValueError, OverflowError, pd.errors.ParserError) as error:
        raise AselError(f"{path}: not a CSV file of results ({error}); {again}") from error
    _check_columns(frame, str(path), columns)
    if frame.empty:
        raise AselError(f"{path}: the table has a header and no rows; {again}")
    frame = frame.reindex(columns=[*columns, *optional])
    for name in (*columns, *optional):
        if name not in (*text, "compiled"):
            try:
                frame[name] = pd.to_numeric(frame[name])
            except (ValueError, TypeError) as error:
                raise AselError(f"{path}: column {name} holds what is not a number ({error}); {again}") from error
    return frame


def _check_columns(frame: pd.DataFrame, path: str, columns: Sequence[str] = COLUMNS) -> None:
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise AselError(f"{path}: not a table of results, it lacks the column(s) {', '.join(missing)}")


def seeds_cell(cell: dict | None) -> str:
    if cell is None:
        return "-"
    mean, low, high = (f"{cell[name] * 100:.1f}" for name in ("accuracy", "seed_low", "seed_high"))
    half = (cell["accuracy_high"] - cell["accuracy_low"]) * 50
    return (f"{mean} ({low}-{high})" if cell["seeds"] > 1 else mean) + f" ± {half:.1f}"


def accuracy_cell(cell: dict | None) -> str:
    if cell is None:
        return "-"
    return f"{cell['accuracy'] * 100:.1f} ({cell['accuracy_low'] * 100:.1f}-{cell['accuracy_high'] * 100:.1f})"
