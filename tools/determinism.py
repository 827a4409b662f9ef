"""Does the same command give the same numbers? Run it after a change to training, resuming, the workflow or the random
generators. Three runs from nothing, the third killed again and again:

    python -m tools.determinism [--profile demo] [--interruptions 5] [--seed 0] [--library] [-- ARGUMENTS]

Weights (every checkpoint, byte for byte), budgets, histories and the accuracy columns of the results must be identical.
Without --library a run is pipeline/run.py, with ARGUMENTS; with it, the notebooks' calls in one process: warm-up,
transfer and benchmark of the profile's last recipe. An interruption is a SIGKILL of all processes of the run at once,
at a moment drawn from --seed. Exit status 0 where all agree. Writes below a temporary folder only.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.options import REPOSITORY, split_at_dashes

READY = "ready"  # printed by a run by the library once everything is imported
ACCURACY = ["accuracy", "accuracy_low", "accuracy_high", "top5", "object_area_kept", "kept_patches", "n_images"]
WHICH = ["checkpoint", "policy", "keep_ratio"]
TIMES = {"seconds", "images_per_second", "waiting_share"}  # columns of a history


def numbers(root: Path, profile: str) -> dict[str, object]:
    """What must not differ between two runs.

    Args:
        root: the checkout that was run.
        profile: its name.

    Returns:
        Name -> something that compares.
    """
    import hashlib

    import pandas as pd

    run, found = root / "benchmarks_results/runs" / profile, {}
    for file in sorted(run.glob("checkpoints/*.safetensors")):
        record = json.loads(file.with_suffix(".json").read_text())
        found[f"weights {file.stem}"] = hashlib.sha256(file.read_bytes()).hexdigest()
        found[f"budgets {file.stem}"] = record["budgets"]
        history = [{k: v for k, v in row.items() if k not in TIMES} for row in record["history"]]
        found[f"history {file.stem}"] = json.dumps(history)
    for file in sorted(run.glob("results/*.csv")):
        rows = pd.read_csv(file, dtype=str)
        for row in rows.to_dict("records"):
            found[f"accuracy {[row[name] for name in WHICH]}"] = {name: row.get(name, "") for name in ACCURACY}
    return found


def differences(first: dict[str, object], second: dict[str, object]) -> list[str]:
    """A line for each thing in which two runs differ.

    Args:
        first: of `numbers`.
        second: of `numbers`.
    """
    names = dict.fromkeys((*first, *second))
    return [f"{n}: {first.get(n)} and {second.get(n)}" for n in names if str(first.get(n)) != str(second.get(n))]


def whole_run(command: list[str], root: Path) -> float:
    """Run a command to its end.

    Args:
        command: and its arguments.
        root: its checkout.

    Returns:
        Seconds since it was ready.

    Raises:
        RuntimeError: with its last lines where it fails.
    """
    with started(command, root) as (process, begun, log):
        process.wait()
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{tail(log)}")
        return time.monotonic() - begun


def killed_runs(command: list[str], root: Path, moments: list[float]) -> int:
    """Start a command once for each moment, and kill it so many seconds after it is ready.

    Args:
        command: and its arguments.
        root: its checkout.
        moments: seconds.

    Returns:
        How often it was at work.
    """
    count = 0
    for moment in moments:
        with started(command, root) as (process, _, _):
            try:
                process.wait(moment)
            except subprocess.TimeoutExpired:
                kill_all(root)
                count += 1
            process.wait()
    return count


@contextlib.contextmanager
def started(command: list[str], root: Path):
    """A command that runs while the block does.

    Args:
        command: and its arguments.
        root: its checkout.

    Returns:
        The process, when it was ready, its log.
    """
    root.mkdir(parents=True, exist_ok=True)
    log = root / "determinism.log"
    places = {"ASEL_ROOT": str(root), "ASEL_DATA": str(root / "data"), "ASEL_CACHE": str(root / "cache")}
    environment = os.environ | places | {"PYTHONPATH": str(REPOSITORY)}
    with log.open("w") as file:
        process = subprocess.Popen(command, env=environment, cwd=REPOSITORY, stdout=file, stderr=file)
    try:
        while READY in command and READY not in log.read_text() and process.poll() is None:
            time.sleep(0.02)
        yield process, time.monotonic(), log
    finally:
        if process.poll() is None:
            kill_all(root)
            process.wait()


def kill_all(root: Path) -> None:
    """SIGKILL to every process that works in `root`, as a power cut would; again until none is left."""
    import psutil

    while True:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                mine = process.environ().get("ASEL_ROOT") == str(root) and process.pid != os.getpid()
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process.pid)
        if not found:
            return
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def tail(log: Path, lines: int = 15) -> str:
    """The last lines of a log.

    Args:
        log: the file.
        lines: how many.
    """
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def by_the_library(profile_name: str) -> None:
    """Warm-up, transfer, benchmark: what 01, 02 and 05 call."""
    from asel_lib import configs
    from asel_lib.training import stages
    from tools.measure import measure

    print(READY, flush=True)
    profile = configs.load(profile_name)
    recipe = profile.recipes[-1]
    stages.warm_up(profile, recipe=recipe, progress=False)
    measure(stages.transfer(profile, recipe=recipe, progress=False), profile)


def main(arguments: list[str]) -> int:
    """The command line.

    Args:
        arguments: without the program's name.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.determinism", description=__doc__.split("\n\n")[0])
    parser.add_argument("--profile", default="demo")
    parser.add_argument("--interruptions", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--library", action="store_true", help="one process in place of the notebooks")
    parser.add_argument(READY, nargs="?", choices=[READY], help=argparse.SUPPRESS)
    own, more = split_at_dashes(arguments)
    options = parser.parse_args(own)
    if options.ready:
        by_the_library(options.profile)
        return 0
    command = [sys.executable, str(REPOSITORY / "pipeline/run.py"), "--profile", options.profile, *more]
    if options.library:
        command = [sys.executable, "-m", "tools.determinism", "--profile", options.profile, READY]
    with tempfile.TemporaryDirectory(prefix="asel-same-") as place:
        first, second, third = (Path(place, name) for name in ("first", "second", "interrupted"))
        seconds = whole_run(command, first)
        print(f"first run: {seconds:.0f} s", flush=True)
        again = whole_run(command, second)
        print(f"second run: {again:.0f} s", flush=True)
        chance = random.Random(options.seed)
        # Together less than a run, so that each finds it at work.
        seconds = min(seconds, again)
        moments = [seconds * chance.uniform(0.1, 0.9) / options.interruptions for _ in range(options.interruptions)]
        count = killed_runs(command, third, moments)
        whole_run(command, third)
        print(f"third run: killed {count} times, after {', '.join(f'{m:.1f}' for m in moments)} s", flush=True)
        found = [numbers(root, options.profile) for root in (first, second, third)]
    kinds = {kind: sum(name.startswith(kind) for name in found[0]) for kind in ("weights", "accuracy")}
    print(f"compared: {kinds['weights']} checkpoints, {kinds['accuracy']} rows of results")
    if not all(kinds.values()):
        print("nothing to compare: the first run left no checkpoints or no results")
        return 1
    status = 0
    for what, other in (("the second run", found[1]), ("the interrupted run", found[2])):
        wrong = differences(found[0], other)
        print(f"{what}: {'identical' if not wrong else f'{len(wrong)} differ'}")
        print("\n".join(wrong[:20]), end="\n" if wrong else "")
        status |= bool(wrong)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
