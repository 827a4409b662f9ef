"""What run_all.sh starts: checks what is asked, then lets Snakemake run the notebooks that need it."""

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from asel_lib import configs, paths, reproducibility
from asel_lib.data import catalog
from asel_lib.errors import AselError, DatasetError, DatasetMissing
from pipeline import warm_kernel
from pipeline.notebook import PROGRESS, error_file
from pipeline.plan import executed_notebooks, make_plan

# What Snakemake says of jobs elsewhere, whose notebooks cannot be heard.
ON_CLUSTER = re.compile(r"(Job \d+ has been submitted|Finished jobid: [1-9]|Trying to restart job|Error in rule)")
REPOSITORY = Path(__file__).resolve().parents[1]
EPILOG = """\
A data set that is not there is skipped with a line that says where to put it; a public one is downloaded.
On a cluster: --cluster slurm (docs/cluster.md). What follows -- goes to Snakemake, e.g. -- --jobs 8
Exit status: 0 all that was asked for is there, 1 something is not, 2 the arguments are wrong, 130 stopped."""
# Rules that are not part of a whole run, and their notebooks.
ALONE = {"speed": ["notebooks/09_speed.ipynb"], "export": ["notebooks/10_export.ipynb"]}


def main(arguments: list[str]) -> int:
    own, extra = split_at_dashes(arguments)
    options = parse(own)
    profile = configs.load(options.profile)
    folder = paths.run(profile.name)
    try:
        datasets, complete = present_datasets(profile, options)
    except AselError as error:
        return refuse(str(error))
    plan = make_plan(profile, datasets, options.recipes, options.seeds, options.agentvit)
    command = snakemake_command(profile.name, datasets, options, extra)
    if options.dry_run:
        return dry_run(command)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = exclusive(folder / ".lock")
    except BlockingIOError:
        return refuse(f"another run of profile {profile.name!r} is at work in {folder}: wait, or stop it")
    except OSError as error:
        return refuse(f"cannot write into {folder}: {error.strerror}; make it writable, or free the disk")
    if settled := settle_times(folder, lock.name):
        print(f"{settled} files of this run were from the future (the clock went back): they count as made just now")
    for scratch in folder.glob("notebooks/.kernel-*"):  # of notebooks that were killed
        shutil.rmtree(scratch, ignore_errors=True)
    begun = time.monotonic()
    print(f"Profile {profile.name}: {profile.purpose}. Log: {shown(folder / 'run.log')}", flush=True)
    try:
        with warm_kernels(here=not options.cluster):
            status = follow(command, folder / "run.log", lock, jobs=bool(options.cluster))
    except Stopped:
        print("\nStopped. The same command goes on from here.")
        return 130
    executed = [folder / file for file in (executed_notebooks(plan) if options.only is None else ALONE[options.only])]
    return report(executed, folder, status, complete, time.monotonic() - begun, options.only)


def refuse(why: str) -> int:
    print(f"run_all.sh: error: {why}", file=sys.stderr)
    return 1


# --- what is asked for ---


def split_at_dashes(arguments: list[str]) -> tuple[list[str], list[str]]:
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def parse(arguments: list[str]) -> argparse.Namespace:
    """The options, checked; a wrong one ends the program with status 2 and one line."""
    parser = argparse.ArgumentParser(
        prog="run_all.sh",
        description="Run the notebooks of a profile. What is up to date stays, what was stopped goes on.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--profile", default="demo", help=f"{', '.join(configs.names())} (default: demo)")
    parser.add_argument("--datasets", metavar="A,B", help="names or image folders (default: the profile's)")
    parser.add_argument("--recipes", metavar="A,B", help="training recipes (default: the profile's)")
    parser.add_argument("--seeds", metavar="0,1,2", default="0", help="one training each (default: 0)")
    parser.add_argument(
        "--agentvit", action="store_true", help="also AgentViT and what it is compared with, from scratch"
    )
    parser.add_argument("--only", choices=sorted(ALONE), help="this part alone, which a whole run leaves out")
    parser.add_argument("--cores", metavar="N", help="CPU cores to use (default: all)")
    parser.add_argument(
        "--cluster", metavar="PROFILE", help="slurm, or the folder of a Snakemake profile: each notebook a job there"
    )
    parser.add_argument("--strict", action="store_true", help="a data set that is not there is an error")
    parser.add_argument("--dry-run", action="store_true", help="list what would run and why, then stop")
    options = parser.parse_args(arguments)
    try:
        profile = configs.load(options.profile)
        options.named = options.datasets is not None
        options.datasets = items(options.datasets, "datasets") if options.named else list(profile.datasets)
        usual = profile.recipes  # the comparison with AgentViT is with both of ASEL's
        if options.agentvit:
            usual = dict.fromkeys((*profiles.ASEL_RECIPES, *usual))
        options.recipes = items(options.recipes, "recipes") if options.recipes is not None else list(usual)
        for recipe in options.recipes:
            configs.check_recipe(recipe)
        options.seeds = [whole(seed, "seed", 0) for seed in items(options.seeds, "seeds")]
        options.cores = whole(options.cores, "cores", 1) if options.cores is not None else reproducibility.cores()
        options.cluster = cluster_profile(options.cluster) if options.cluster is not None else None
        for name in [profile.warmup_dataset, *options.datasets]:
            if catalog.is_generated(name) or catalog.is_available(name):
                continue
            catalog.spec(name)  # DatasetError with what is known, if the name is not
    except (ValueError, AselError) as error:
        parser.exit(2, f"run_all.sh: error: {error}\n")
    return options


def items(text: str, what: str) -> list[str]:
    found = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise ValueError(f"--{what} is {text!r}: expected one or more, separated by commas")
    return found


def whole(text: str, what: str, least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        value = None
    if value is None or value < least:
        raise ValueError(f"{what} is {text!r}: expected a whole number, at least {least}")
    return value


def cluster_profile(name: str) -> str:
    """The folder of a Snakemake profile: one that ships, by its name, or any, by its path."""
    for folder in (REPOSITORY / name, Path(name).expanduser().resolve()):
        if (folder / "config.yaml").is_file():
            return str(folder)
    raise ValueError(f"--cluster is {name!r}: expected slurm, or a folder with a config.yaml as in slurm/")


def present_datasets(profile: configs.Profile, options: argparse.Namespace) -> tuple[dict[str, str], bool]:
    """name -> name or folder of the data sets to train on, and whether all that the user named are there.

    DatasetMissing if the warm-up's is not (all else starts from it), or nothing is left, or --strict.
    A dry run lists the plan for all of them.
    """
    found, skipped = {}, []
    for name in dict.fromkeys([profile.warmup_dataset, *options.datasets]):
        needed = options.strict or name == profile.warmup_dataset
        try:
            place = located(name, options.dry_run)
            for label, folder in place.items():
                if label in found and found[label] != folder:
                    raise DatasetError(
                        f"{found[label]} and {folder} would both be called {label!r}, in checkpoints and results: "
                        "rename one of the folders"
                    )
            found |= place
        except DatasetMissing as error:
            if needed and not options.dry_run:
                raise
            print(f"{'not there yet' if options.dry_run else 'skipped'}: {error}", flush=True)
            skipped.append(name)
            if options.dry_run:
                found[name] = name
    if options.dry_run:
        return found, True
    if not set(options.datasets) - set(skipped):
        raise DatasetMissing(f"none of the data sets asked for is there: {', '.join(skipped)}")
    return found, not (options.named and skipped)


def located(name: str, dry_run: bool) -> dict[str, str]:
    """{name: name}, or {name: absolute path} for a folder; downloads a public set unless it is a dry run."""
    if name.strip().lower() in catalog.names():
        name = name.strip().lower()
        if not catalog.is_available(name):
            catalog.find(name, download=not dry_run)
        return {name: name}
    images = catalog.find(name)
    return {images.name: str(images.root)}


# --- Snakemake ---


def snakemake_command(
    profile: str, datasets: dict[str, str], options: argparse.Namespace, extra: list[str]
) -> list[str]:
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


@contextlib.contextmanager
def warm_kernels(here: bool):
    """For the time of a run, a server that forks kernels with torch already imported (pipeline/warm_kernel.py).
    None where the variable is already set: to another server, or to nothing. here: the notebooks run on this machine;
    jobs of a cluster take the environment along, and must not look for a server."""
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


def dry_run(command: list[str]) -> int:
    """Print each notebook that would run, and why."""
    answer = subprocess.run(command, capture_output=True, text=True)
    text = answer.stdout + answer.stderr
    if answer.returncode:
        print(text, file=sys.stderr)
        return 1
    jobs = re.findall(r"^Job \d+: (.+)\n(?:Reason: (.+)\n)?", text, re.M)
    for what, why in jobs:
        print(f"would run  {what}\n           {shortened(why)}")
    print(f"{len(jobs)} would run; nothing was started." if jobs else "Nothing would run: all is up to date.")
    return 0


def shortened(reason: str, most: int = 2) -> str:
    """Snakemake's reason with at most `most` files in each of its lists."""
    parts = []
    for part in reason.split("; "):
        kind, _, files = part.partition(": ")
        named = [file.removeprefix("../../../") for file in sorted(files.split(", "))]
        more = f" and {len(named) - most} more" if len(named) > most else ""
        parts.append(f"{kind}: {', '.join(named[:most])}{more}" if files else kind)
    return "; ".join(parts)


def follow(command: list[str], log: Path, lock, jobs: bool = False) -> int:
    """Snakemake's exit status. All it prints goes to `log`, the notebooks' progress also to the user, and, with `jobs`,
    what becomes of a cluster's jobs, whose notebooks print elsewhere."""

    def stop(*_):
        raise Stopped

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, stop)
    # A session of its own: Ctrl-C reaches this process alone, which then ends the others in order. Snakemake
    # inherits the lock: were this process killed, the folder would stay locked until Snakemake has gone too.
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
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        child.send_signal(signal.SIGINT)  # lets it cancel jobs on a cluster
        try:
            child.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            child.kill()  # its jobs see that and end, see pipeline/parent.py
        raise


class Stopped(Exception):
    """Ctrl-C or a signal that asks to stop."""


def exclusive(file: Path, patience: float = 4.0):
    """The opened lock file. The kernel frees it when its holders are gone; a run that was just killed takes a
    moment for that, hence the patience (seconds). BlockingIOError if somebody else keeps it."""
    opened = file.open("a")
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return opened
        except BlockingIOError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


def settle_times(folder: Path, lock: str | Path) -> int:
    """Give the files of a run that are from the future the time it is now by the clock of their disk, in their order;
    -> how many. Else, until that future comes, what is made now would be older than what it was made of, and made again
    at each start."""
    os.utime(lock)
    now = os.stat(lock).st_mtime_ns
    files = [file for file in folder.rglob("*") if file.is_file() and ".snakemake" not in file.parts]
    ahead = sorted((file.stat().st_mtime_ns, file) for file in files if file.stat().st_mtime_ns > now)
    for place, (_, file) in enumerate(ahead):
        os.utime(file, ns=(now, now + place))
    return len(ahead)


# --- the end ---


def report(
    executed: list[Path], folder: Path, status: int, complete: bool, seconds: float, only: str | None = None
) -> int:
    missing = [file for file in executed if not file.is_file()]
    if status or missing:
        there = f"{len(executed) - len(missing)} of {len(executed)} notebooks are there"
        print(f"\n{there}: {shown(reported(executed))}")
        errors = [(file, error_file(file)) for file in missing if error_file(file).is_file()]
        for file, error in errors:
            notebook = file.with_name(f"{file.stem}.failed.ipynb")
            print(f"\n{file.stem} failed ({shown(notebook)}):\n{error.read_text()}")
        if not errors:
            print("".join((folder / "run.log").open().readlines()[-15:]))
        return 1
    page = paths.results() / "report" / "index.html"
    page = reported(executed) if only or not page.is_file() else page  # a whole run's last step makes it
    figures = len(list((folder / "figures").glob("*.png")))
    print(f"All is there ({seconds:.0f} s). Open {shown(page)}")
    table = folder / (f"{only}.csv" if only else "results.csv")
    print(f"Figures ({figures}): {shown(folder / 'figures')}   Measurements: {shown(table)}")
    return 0 if complete else 1


def reported(executed: list[Path]) -> Path:
    """The report's page; where it cannot be made, why, and the notebooks' folder: what failed is said all the same."""
    try:
        from pipeline.report import write_report

        return write_report(executed)
    except Exception as error:
        print(f"the report could not be made ({type(error).__name__}: {error})")
        return executed[0].parent


def shown(path: Path) -> str:
    """Relative to the working folder where that is shorter."""
    relative = os.path.relpath(path)
    return relative if not relative.startswith("..") else str(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
