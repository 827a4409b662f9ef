"""What there is to report: the committed results and every run's, their figures, their executed notebooks."""

import re
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import nbformat
import pandas as pd

from asel_lib import paths, tables
from asel_lib.errors import AselError
from asel_lib.reporting import claims, rows
from pipeline.report.executed import readable


@dataclass
class Found:
    """What the pages are made of.

    Args:
        frames: where from ("committed", or a run's name) -> the rows that no earlier place has.
        pictures: where from -> figures as PNG, below the pages' sources, each with its PDF and CSV beside it.
        notebooks: run -> a row a notebook: stem, state, seconds, reason, page (its place below the sources).
        runs: the runs' folders.
        written: the files that were put below the sources.
    """

    frames: dict[str, pd.DataFrame]
    pictures: dict[str, list[Path]]
    notebooks: dict[str, list[dict]]
    runs: list[Path]
    written: set[Path] = field(default_factory=set)

    @cached_property
    def every(self) -> pd.DataFrame:
        """All rows, seeds of other machines pooled (`rows.pooled`)."""
        if not self.frames:
            return tables.RESULTS.empty()
        return rows.pooled(pd.concat(self.frames.values(), ignore_index=True))

    @cached_property
    def judged(self) -> pd.DataFrame:
        """The papers' claims, as `claims.table` judges them by all rows."""
        return claims.table(self.every)

    @property
    def own(self) -> list[str]:
        """Data sets that only this checkout's runs have, such as a reader's folder."""
        committed = self.frames.get("committed")
        return sorted(set(self.every["dataset"]) - (set() if committed is None else set(committed["dataset"])))

    @property
    def figures(self) -> dict[str, Path]:
        """Figure's name -> its file."""
        return {file.stem: file for files in self.pictures.values() for file in files}


def collect(source: Path, asked: dict[str, list[str]]) -> Found:
    """Look through the checkout, and copy figures and notebooks below the pages' sources.

    Args:
        source: the folder of the pages' sources.
        asked: run -> the notebooks that were asked for.
    """
    runs = [run for run in sorted((paths.results() / "runs").glob("[!.]*")) if (run / "notebooks").is_dir()]
    written: set[Path] = set()
    notebooks = {run.name: _notebooks(source, run, asked.get(run.name, []), written) for run in runs}
    return Found(_results(runs), _pictures(source, runs, written), notebooks, runs, written)


def put(path: Path, content: bytes) -> None:
    """Write a file, unless it says that already: then its time stays.

    Args:
        path: of the file.
        content: its bytes.
    """
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _results(runs: list[Path]) -> dict[str, pd.DataFrame]:
    places = {"committed": paths.results() / "results.csv"} | {run.name: run / "results.csv" for run in runs}
    found, seen = {}, tables.RESULTS.empty()
    for name, file in places.items():
        try:
            frame = tables.read(file) if file.is_file() else None
        except AselError as error:  # the report shows what there is
            print(f"left out of the report: {error}", file=sys.stderr)
            continue
        if frame is not None:  # a run's table may hold what was committed
            together = tables.with_reference(seen, file) if len(seen) else frame
            found[name], seen = together.iloc[len(seen) :], together
    return {name: frame for name, frame in found.items() if len(frame)}


def _pictures(source: Path, runs: list[Path], written: set[Path]) -> dict[str, list[Path]]:
    places = {"committed": paths.results() / "figures"} | {run.name: run / "figures" for run in runs}
    found = {}
    for name, folder in places.items():
        for file in sorted(folder.glob("*.*")):
            if file.suffix in (".png", ".pdf", ".csv"):
                copy = source / "figures" / _safe(name) / f"{_safe(file.stem)}{file.suffix}"
                put(copy, file.read_bytes())
                written.add(copy)
                if file.suffix == ".png":
                    found.setdefault(name, []).append(copy)
    return found


def _notebooks(source: Path, run: Path, asked: list[str], written: set[Path]) -> list[dict]:
    """Those asked for and those that are there, whole or as far as they came."""
    folder = run / "notebooks"
    files = (file.stem.removesuffix(".failed") for file in sorted(folder.glob("[!.]*.ipynb")))
    listed = []
    for stem in dict.fromkeys([*asked, *files]):
        row = {"stem": stem, "state": "did not run", "seconds": None, "reason": "", "page": ""}
        listed.append(row)
        done, failed = folder / f"{stem}.ipynb", folder / f"{stem}.failed.ipynb"
        file = done if done.is_file() else failed if failed.is_file() else None
        if file is None:
            continue
        reason = failed.with_suffix(".txt")
        row["state"] = "done" if file == done else "failed"
        row["reason"] = "" if file == done else _text(reason) or "It was interrupted, or is still at work."
        try:
            content = nbformat.read(file, as_version=4)
        except Exception as error:  # torn, or being written by another run; nbformat has no one class for it
            row |= {"state": "unreadable", "reason": f"{file.name}: {type(error).__name__}"}
            continue
        row["page"] = f"notebooks/{_safe(run.name)}/{_safe(stem)}"
        row["seconds"] = content.metadata.get("papermill", {}).get("duration")
        copy = source / f"{row['page']}.ipynb"
        put(copy, nbformat.writes(readable(content, stem)).encode())
        written.add(copy)
    return listed


def _safe(name: str) -> str:
    """As a file's name and in a link."""
    return re.sub(r"[^\w.+-]", "_", name)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""
