"""Make a run's checkpoints and what was measured of them the committed ones. Run it when a measured run is to replace
the committed results:

    python -m tools.ship PROFILE NAME ... [--without-weights | --only-answers]

Weights are rounded to half precision, and the rounded model is compared with the measured one on the test images at
three keep ratios: what is shipped is what the results table says, or nothing is written. The rows of the run's
benchmark take the place of the checkpoint's rows in benchmarks_results/results.csv, and its answers go to
benchmarks_results/answers/; rows without times (05_benchmark's `timed`) keep those of the rows that they replace, where
machine and operations are the same. --without-weights: rows and answers alone, of a seed that is not shipped;
--only-answers: of an ablation, which is compared without a benchmark.
Then `python -m tools.documents` brings the tables of README and docs up to date.
"""

import argparse
import sys

import pandas as pd
import torch

from asel_lib import checkpoints, paths, tables
from asel_lib.data.sets import open_recorded, recorded_batches
from asel_lib.devices import default_device, resolve_precision
from asel_lib.errors import AselError
from asel_lib.evaluation import answers
from asel_lib.evaluation.accuracy import evaluate
from asel_lib.files import replace_file
from asel_lib.reporting.rows import COSTS, MACHINE
from asel_lib.tables.files import joined

RATIOS = (1.0, 0.5, 0.2)
MOST = 0.005  # difference in accuracy


def weights(profile: str, name: str) -> None:
    """Ship a checkpoint, rounded to half precision.

    Args:
        profile: whose run it is of.
        name: of the checkpoint.

    Raises:
        AselError: where rounding costs it more than MOST.
    """
    device = default_device()
    precision = resolve_precision("auto", device)
    measured = checkpoints.load(name, device, profile)
    record = measured.record
    rounded = checkpoints.load(name, device, profile)
    rounded.load_state_dict({k: v.half().float() for k, v in measured.state_dict().items()})
    images, split = open_recorded(record)
    batches = recorded_batches(images, split.test, record, 256, device)
    own = [record["selector"]]
    before, after = (evaluate(m, batches, RATIOS, own, precision=precision) for m in (measured, rounded))
    difference = (before["accuracy"] - after["accuracy"]).abs().max()
    print(f"{name}: rounding to half precision moves accuracy by at most {difference:.4f} of {len(split.test)} images")
    if difference > MOST:
        raise AselError(f"{name} loses too much to half precision ({difference:.4f} > {MOST}): not shipped")
    with torch.inference_mode():
        file = checkpoints.save(measured, paths.saved_models() / name, record, half=True)
    print(f"{file.name}: {file.stat().st_size / 2**20:.1f} MiB")


def measurements(profile: str, name: str, only_answers: bool = False) -> None:
    """Ship the rows of a checkpoint's benchmark and its answers.

    Args:
        profile: whose run they are of.
        name: of the checkpoint.
        only_answers: leave the rows out.

    Raises:
        AselError: where the run has none, or answers of two trainings.
    """
    file = paths.run(profile) / "results" / f"{name}.csv"
    rows = None if only_answers else tables.read(file)
    every = [answers.file_of(name, profile, kind) for kind in answers.KINDS]
    kept = [file for file in every if file.is_file()]
    if only_answers and not kept:
        raise AselError(f"no answers of {name} in {every[0].parent}: run 05_benchmark or 07_anytime with it first")
    if len({answers.training(file) for file in kept}) > 1:
        raise AselError(
            f"{' and '.join(file.name for file in kept)} are not of one training: run 05_benchmark again, and after it "
            "what made the others"
        )
    if rows is not None:
        table = paths.results() / "results.csv"
        if table.is_file():
            there = tables.read(table)
            before = there["checkpoint"] == name
            rows = joined([there[~before], _with_times(rows, there[before])])
        tables.write(rows, table)
        print(f"{name}: in {table.name}")
    for file in every:
        committed = paths.results() / "answers" / file.name
        if file in kept:
            replace_file(committed, lambda out, file=file: out.write(file.read_bytes()))
            print(f"{name}: answers/{file.name}")
        elif kept and committed.is_file() and answers.training(committed) != answers.training(kept[0]):
            committed.unlink()
            print(f"{name}: answers/{file.name} was of another training: removed")


def _with_times(rows: pd.DataFrame, before: pd.DataFrame) -> pd.DataFrame:
    """Rows that were not timed keep the times that stood there, of as many operations on such a machine: other weights
    of the same network do not change them."""
    same, costs = ["policy", "keep_ratio", "gmacs", *MACHINE], list(COSTS)
    if rows[costs].notna().any(axis=None):
        return rows
    return rows.drop(columns=costs).merge(before[same + costs], on=same, how="left")


def main(arguments: list[str]) -> int:
    """The command line.

    Args:
        arguments: without the program's name.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.ship", description=__doc__.split("\n\n")[0])
    parser.add_argument("profile")
    parser.add_argument("names", nargs="+", metavar="NAME", help="of checkpoints in that profile's run")
    parser.add_argument("--without-weights", action="store_true", help="rows of results and answers alone")
    parser.add_argument("--only-answers", action="store_true", help="answers alone, as of an ablation")
    options = parser.parse_args(arguments)
    try:
        for name in options.names:
            if not (options.without_weights or options.only_answers):
                tables.read(paths.run(options.profile) / "results" / f"{name}.csv")  # or nothing is written
                weights(options.profile, name)
            measurements(options.profile, name, options.only_answers)
    except AselError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
