"""Snakemake as a process of its own: its command, its output, the kernels that it needs, and its end."""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from asel_lib import paths
from pipeline import warm_kernel
from pipeline.notebook import PROGRESS
from pipeline.options import REPOSITORY

# What Snakemake says of jobs elsewhere, whose notebooks cannot be heard.
ON_CLUSTER = re.compile(r"(Job \d+ has been submitted|Finished jobid: [1-9]|Trying to restart job|Error in rule)")
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(Exception):
    """Ctrl-C or a signal that asks to stop."""


def command(profile: str, datasets: dict[str, str], options: argparse.Namespace, extra: list[str]) -> list[str]:
    """Snakemake's arguments.

    Args:
        profile: its name.
        datasets: name -> name or folder of the data sets.
        options: as `options.parse` makes them.
        extra: the user's own.
    """
    settings = {"profile": profile, "datasets": datasets, "recipes": options.recipes, "seeds": options.seeds}
    settings |= {"agentvit": options.agentvit, "cluster": bool(options.cluster)}
    return [
        sys.executable,
        "-m",
        "snakemake",
        *([options.only] if options.only else []),
        "--snakefile",
        str(REPOSITORY / "Snakefile"),
        "--directory",
        str(paths.run(profile)),
        *(["--workflow-profile", options.cluster] if options.cluster else ["--cores", str(options.cores)]),
        "--keep-going",
        "--rerun-incomplete",
        "--nolock",
        "--quiet",
        "host",
        "--max-checksum-file-size",
        "1000000000",  # checkpoints too: what is newer and the same changes nothing
        "--config",
        *(f"{key}={json.dumps(value)}" for key, value in settings.items()),
        *(["--dry-run"] if options.dry_run else []),
        *extra,
    ]


def follow(command: list[str], log: Path, lock: IO, jobs: bool = False) -> int:
    """Run it to its end.

    Args:
        command: Snakemake's.
        log: where all that it prints goes; the notebooks' progress also goes to the user.
        lock: the run's lock file, which it inherits: were this process killed, the run would stay locked until
            Snakemake has gone too.
        jobs: whether the notebooks are a cluster's jobs and print elsewhere; what becomes of them goes to the user.

    Returns:
        Its exit status.

    Raises:
        Stopped: on a signal that asks to stop.
    """

    def stop(*_):
        raise Stopped

    for number in STOPPING:
        signal.signal(number, stop)
    # A session of its own: Ctrl-C reaches this process alone, which then ends the others in order.
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        text=True,
        errors="replace",
        start_new_session=True,
        pass_fds=[lock.fileno()],
    )
    begun = time.monotonic()
    try:
        with log.open("w") as file:
            for line in child.stdout:
                file.write(line)
                file.flush()
                if line.startswith(PROGRESS) or (jobs and ON_CLUSTER.match(line)):
                    seconds = time.monotonic() - begun
                    print(f"{seconds:6.0f} s  {line.removeprefix(PROGRESS)}", end="", flush=True)
        return child.wait()
    except Stopped:
        for number in STOPPING:
            signal.signal(number, signal.SIG_IGN)
        child.send_signal(signal.SIGINT)  # lets it cancel jobs on a cluster
        try:
            child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()  # its jobs see that and end, see pipeline/parent.py
        raise


@contextlib.contextmanager
def warm_kernels(here: bool) -> Iterator[None]:
    """For the time of a run, a server that forks kernels with torch already imported (pipeline/warm_kernel.py); none
    where the variable is already set: to another server, or to nothing.

    Args:
        here: whether the notebooks run on this machine. Jobs of a cluster take the environment along, and must not look
            for a server.
    """
    if not here:
        os.environ[warm_kernel.VARIABLE] = ""
    if warm_kernel.VARIABLE in os.environ:
        yield
        return
    with tempfile.TemporaryDirectory(prefix="asel-") as place:  # short: a socket's path has about 100 letters
        address = os.environ[warm_kernel.VARIABLE] = str(Path(place, "kernels"))
        server = subprocess.Popen(
            [sys.executable, warm_kernel.__file__, "serve", address],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield
        finally:
            server.kill()
            server.wait()
