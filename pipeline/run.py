"""What run_all.sh starts: checks what is asked, then lets Snakemake run the notebooks that need it."""

import sys
import time

from asel_lib import configs, paths
from asel_lib.errors import AselError
from pipeline import workflow
from pipeline.folder import clear_scratch, exclusive, settle_times
from pipeline.options import parse, present_datasets, split_at_dashes
from pipeline.outcome import report, shown
from pipeline.plan import make_plan
from pipeline.preview import dry_run
from pipeline.steps import executed_notebooks, make_steps


def main(arguments: list[str]) -> int:
    """Run the workflow, or say what it would do.

    Args:
        arguments: of the command line.

    Returns:
        The exit status.
    """
    own, extra = split_at_dashes(arguments)
    options = parse(own)
    profile = configs.load(options.profile)
    folder = paths.run(profile.name)
    try:
        datasets, complete = present_datasets(profile, options)
    except AselError as error:
        return refuse(str(error))
    plan = make_plan(profile, datasets, options.recipes, options.seeds, options.agentvit)
    executed = executed_notebooks(make_steps(profile, plan, options.seeds), options.only)
    command = workflow.command(profile.name, datasets, options, extra)
    if options.dry_run:
        return dry_run(command, plan, profile.name)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = exclusive(folder / ".lock")
    except BlockingIOError:
        return refuse(f"another run of profile {profile.name!r} is at work in {folder}: wait, or stop it")
    except OSError as error:
        return refuse(f"cannot write into {folder}: {error.strerror}; make it writable, or free the disk")
    if settled := settle_times(folder, lock.name):
        print(f"{settled} files of this run were from the future (the clock went back): they count as made just now")
    clear_scratch(folder)
    begun = time.monotonic()
    print(f"Profile {profile.name}: {profile.purpose}. Log: {shown(folder / 'run.log')}", flush=True)
    try:
        with workflow.warm_kernels(here=not options.cluster):
            status = workflow.follow(command, folder / "run.log", lock, jobs=bool(options.cluster))
    except workflow.Stopped:
        print("\nStopped. The same command goes on from here.")
        return 130
    files = [folder / file for file in executed]
    return report(files, folder, status, complete, time.monotonic() - begun, options.only)


def refuse(why: str) -> int:
    """End with status 2 and one line.

    Args:
        why: the line.
    """
    print(f"run_all.sh: error: {why}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
