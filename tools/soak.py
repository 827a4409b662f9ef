"""Train and benchmark again and again in one process, and see whether memory or open files grow. Run it before a
release and after a change to what a process keeps (caches, loaders, compiled functions):

    python -m tools.soak [--runs 200] [--profile smoke] [--table FILE.csv]

Exit status 0 where both are flat, 1 where one grows. Writes below a temporary folder only.
"""

import argparse
import contextlib
import gc
import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SETTLED = 0.25  # of the runs are left out at the beginning: caches fill, the allocator takes what it needs
# MiB a run that may come from the allocator alone; a leaked model of profile smoke is five times that.
MOST_MEMORY = 0.1


@dataclass(frozen=True)
class Growth:
    """What a run adds, by least squares over the settled runs, and the half width of its 95 % interval."""

    slope: float
    half: float
    first: float
    last: float

    def grows(self, most: float) -> bool:
        """Whether it is surely more than nothing, and more than `most` a run."""
        return self.slope - self.half > 0 and self.slope > most

    def __str__(self) -> str:
        return f"{self.first:.1f} -> {self.last:.1f}, {self.slope:+.4f} a run (+-{self.half:.4f})"


def soak(runs: int, once: Callable[[int], object], tell: Callable[[str], object] = print) -> list[dict]:
    """Make a call again and again.

    Args:
        runs: how often.
        once: the call, given its number.
        tell: prints a line.

    Returns:
        A row a run: memory (resident, MiB), open files, threads.
    """
    import psutil

    process, rows = psutil.Process(), []
    for number in range(runs):
        once(number)
        gc.collect()
        row = {
            "run": number,
            "memory_mib": process.memory_info().rss / 2**20,
            "open_files": process.num_fds(),
            "threads": process.num_threads(),
        }
        rows.append(row)
        if number % max(1, runs // 20) == 0 or number == runs - 1:
            tell(
                f"run {number + 1}/{runs}: {row['memory_mib']:.1f} MiB, {row['open_files']} open files, "
                f"{row['threads']} threads"
            )
    return rows


def growth(rows: list[dict], column: str) -> Growth:
    """What a run adds to a column.

    Args:
        rows: of `soak`.
        column: its name.

    Raises:
        ValueError: for fewer than six runs, which say nothing.
    """
    if len(rows) < 6:
        raise ValueError(f"{len(rows)} runs: expected at least 6 to see whether {column} grows")
    values = np.array([row[column] for row in rows[int(len(rows) * SETTLED) :]])
    from scipy.stats import linregress, t

    fit = linregress(np.arange(len(values)), values)
    half = float(np.nan_to_num(fit.stderr) * t.ppf(0.975, len(values) - 2))  # nan: all the same
    return Growth(float(fit.slope), half, float(values[0]), float(values[-1]))


def train_and_benchmark(profile_name: str, number: int = 0) -> None:
    """A direct training on the profile's first data set, from its beginning, and its benchmark: what the notebooks 03
    and 05 call. The selectors take turns.

    Args:
        profile_name: of the profile.
        number: of the run.
    """
    from asel_lib import configs, methods
    from asel_lib.training import stages
    from tools.measure import measure

    profile = configs.load(profile_name)
    method = methods.parse((methods.LINE_GUIDED, "glance/anytime")[number % 2])
    stage = stages.direct(profile, selector=method.selector, recipe=method.recipe, retrain=True, progress=False)
    measure(stage, profile)


@contextlib.contextmanager
def own_place():
    """A temporary checkout for what the runs write."""
    with tempfile.TemporaryDirectory(prefix="asel-soak-") as place:
        before = dict(os.environ)
        os.environ |= {"ASEL_ROOT": place, "ASEL_CACHE": str(Path(place, "cache"))}
        try:
            yield place
        finally:
            os.environ.clear()
            os.environ.update(before)


def main(arguments: list[str]) -> int:
    """The command line.

    Args:
        arguments: without the program's name.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--profile", default="smoke")
    parser.add_argument("--table", type=Path, help="CSV, a row a run")
    options = parser.parse_args(arguments)
    with own_place():
        rows = soak(options.runs, lambda number: train_and_benchmark(options.profile, number))
    if options.table:
        import pandas as pd

        pd.DataFrame(rows).to_csv(options.table, index=False)
    failed = []
    for column, most in {"memory_mib": MOST_MEMORY, "open_files": 0.0, "threads": 0.0}.items():
        found = growth(rows, column)
        print(f"{column}: {found}")
        failed += [column] if found.grows(most) else []
    print(f"it grows: {', '.join(failed)}" if failed else f"flat over {options.runs} runs")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
