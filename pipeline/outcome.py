"""What a run says at its end: where to look, or what failed."""

import os
from pathlib import Path

from asel_lib import paths
from pipeline.notebook import error_file
from pipeline.options import ALONE


def report(
    executed: list[Path], folder: Path, status: int, complete: bool, seconds: float, only: str | None = None
) -> int:
    """Print it.

    Args:
        executed: the executed copies of all notebooks that were asked for, there or not.
        folder: the run's.
        status: Snakemake's exit status.
        complete: whether all data sets that were named are there.
        seconds: that the run took.
        only: the step that was asked for alone; None: a whole run.

    Returns:
        The exit status of run_all.sh.
    """
    missing = [file for file in executed if not file.is_file()]
    if status or missing:
        there = f"{len(executed) - len(missing)} of {len(executed)} notebooks are there"
        print(f"\n{there}: {shown(_reported(executed))}")
        errors = [(file, error_file(file)) for file in missing if error_file(file).is_file()]
        for file, error in errors:
            notebook = file.with_name(f"{file.stem}.failed.ipynb")
            print(f"\n{file.stem} failed ({shown(notebook)}):\n{error.read_text()}")
        if not errors:
            print("".join((folder / "run.log").open().readlines()[-15:]))
        return 1
    page = paths.results() / "report" / "index.html"
    page = _reported(executed) if only or not page.is_file() else page  # a whole run's last step makes it
    figures = len(list((folder / "figures").glob("*.png")))
    print(f"All is there ({seconds:.0f} s). Open {shown(page)}")
    table = folder / (ALONE[only] if only else "results.csv")
    print(f"Figures ({figures}): {shown(folder / 'figures')}   Measurements: {shown(table)}")
    return 0 if complete else 1


def shown(path: Path) -> str:
    """Relative to the working folder where that is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


def _reported(executed: list[Path]) -> Path:
    """The report's page; where it cannot be made, why, and the notebooks' folder: what failed is said all the same."""
    try:
        from pipeline.report import write_report

        return write_report(executed)
    except Exception as error:
        print(f"the report could not be made ({type(error).__name__}: {error})")
        return executed[0].parent
