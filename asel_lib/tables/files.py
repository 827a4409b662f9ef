"""Tables of several files, and of a run beside the committed ones."""

import os
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from asel_lib.errors import AselError
from asel_lib.tables.kinds import CONFUSION, PATCHES, RESULTS
from asel_lib.tables.schema import Schema


def read(paths: str | os.PathLike | Sequence[str | os.PathLike], schema: Schema = RESULTS) -> pd.DataFrame:
    """The rows of one file, or of several in their order.

    Args:
        paths: the files.
        schema: which kind of table they are.

    Raises:
        AselError: naming file, column and row where one is missing or damaged.
    """
    paths = [paths] if isinstance(paths, str | os.PathLike) else paths
    if not paths:
        raise AselError("no results file given: run the benchmark first, or name the files to read")
    return joined([schema.read(path) for path in paths])


def read_all(source: str | os.PathLike, schema: Schema = RESULTS) -> pd.DataFrame:
    """The rows of one file, or of every CSV file in a folder; arguments and errors as `read`'s."""
    source = Path(source)
    return read(sorted(source.glob("*.csv")) if source.is_dir() else source, schema)


def write(frame: pd.DataFrame, path: str | os.PathLike, schema: Schema = RESULTS) -> Path:
    """Write a table; errors as `Schema.write`'s.

    Args:
        frame: the rows.
        path: of the CSV file.
        schema: which kind of table it is.

    Returns:
        The file.
    """
    return schema.write(frame, path)


def with_reference(frame: pd.DataFrame, reference: str | os.PathLike) -> pd.DataFrame:
    """Results, and the measurements of another table that they have not.

    Args:
        frame: the results.
        reference: the other table's file; where there is none the results stay as they are.
    """
    if not Path(reference).is_file():
        return frame
    keys, others = ["checkpoint", "policy", "keep_ratio", "timestamp"], read(reference)
    new = ~pd.MultiIndex.from_frame(others[keys]).isin(pd.MultiIndex.from_frame(frame[keys]))
    return joined([frame, others[new]])


def confusions(folder: str | os.PathLike, reference: str | os.PathLike) -> pd.DataFrame:
    """Tables of `accuracy.confusion` of a run's checkpoints, and of other data sets the committed ones.

    Args:
        folder: of the run's CSV files.
        reference: the committed table.

    Returns:
        The rows; none where there is neither.

    Raises:
        AselError: naming the file that is no such table.
    """
    return _with_other_sets(folder, reference, CONFUSION)


def patches(folder: str | os.PathLike, reference: str | os.PathLike) -> pd.DataFrame:
    """Tables of `evaluation.patches.kept_patches`; arguments and errors as `confusions`'."""
    return _with_other_sets(folder, reference, PATCHES)


def joined(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The rows of tables of one kind; those without rows leave the types of the others alone."""
    filled = [frame for frame in frames if len(frame)]
    return pd.concat(filled, ignore_index=True) if filled else frames[0]


def _with_other_sets(folder: str | os.PathLike, reference: str | os.PathLike, schema: Schema) -> pd.DataFrame:
    mine = joined([schema.empty(), *(schema.read(file) for file in sorted(Path(folder).glob("*.csv")))])
    if not Path(reference).is_file():
        return mine
    others = schema.read(reference)
    return joined([mine, others[~others["dataset"].isin(mine["dataset"])]])
