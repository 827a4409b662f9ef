"""What a dry run prints: each notebook that would run, why, and what becomes of its checkpoint."""

import json
import re
import subprocess
import sys
from pathlib import Path

from asel_lib import paths
from asel_lib.data import catalog
from asel_lib.errors import AselError, CheckpointError
from pipeline.outcome import shown
from pipeline.plan import Plan, Training


def dry_run(command: list[str], plan: Plan, profile: str) -> int:
    """Print it.

    Args:
        command: Snakemake's, with --dry-run.
        plan: the run's.
        profile: its name.

    Returns:
        The exit status of run_all.sh.
    """
    answer = subprocess.run(command, capture_output=True, text=True)
    text = answer.stdout + answer.stderr
    if answer.returncode:
        print(text, file=sys.stderr)
        return 1
    jobs = re.findall(r"^Job \d+: (.+)\n(?:Reason: (.+)\n)?", text, re.M)
    made = {f"{training.notebook} {training.name}": training for training in plan.trainings}
    counts = {"trained": 0, "reused where they match": 0, "measured": 0}
    for what, why in jobs:
        told = []
        if what in made:
            file, reason = at_hand(made[what], profile)
            counts["reused where they match" if file else "trained"] += 1
            told = [f"{shown(file)} is reused where {reason}, else trained anew" if file else f"is trained: {reason}"]
        counts["measured"] += what.startswith("05_benchmark ")
        print("\n           ".join([f"would run  {what}", *told, shortened(why)]))
    if not jobs:
        print("Nothing would run: all is up to date.")
        return 0
    checkpoints = ", ".join(f"{number} {how}" for how, number in counts.items() if number)
    print(
        f"{len(jobs)} would run" + (f" (checkpoints: {checkpoints})" if checkpoints else "") + "; nothing was started."
    )
    return 0


def at_hand(training: Training, profile: str) -> tuple[Path | None, str]:
    """The checkpoint that a training would reuse, and what has to match for that.

    Only its record is read here, and names of images: whether their content matches is known once it has been read.

    Args:
        training: of the plan.
        profile: its name.

    Returns:
        The file and a condition; None and why, where there is none.
    """
    folders = (paths.run(profile) / "checkpoints", paths.saved_models())
    why = "there is no such checkpoint yet"
    for file in (folder / f"{training.name}.safetensors" for folder in folders):
        try:
            record = json.loads(file.with_suffix(".json").read_text())
        except (OSError, ValueError):
            continue
        if not file.is_file():
            continue
        if record.get("profile") != profile:
            why = f"{shown(file)} is of profile {record.get('profile')!r}"
            continue
        try:
            return file, _what_matches(training, record)
        except CheckpointError as error:
            why = f"{shown(file)}: {error}"
    return None, why


def _what_matches(training: Training, record: dict) -> str:
    """What is left to match for a checkpoint to be reused: of a catalogue set that is there, names tell already. As
    `find_seen` where they do not match."""
    from asel_lib.data.by_name import find_seen

    public = [name for name in catalog.names() if not catalog.is_generated(name)]
    if not record.get("seen") or record.get("dataset") not in public:
        return "its settings, classes and images match"
    try:
        found = catalog.find(training.source)
    except AselError:
        return "its settings, classes and images match, these by their names"
    train, val = find_seen(found.names, found.classes, record)
    unseen = len(found.names) - len(train) - len(val)
    return f"its settings match (of the {len(found.names)} images here it saw {len(train) + len(val)}, {unseen} not)"


def shortened(reason: str, most: int = 2) -> str:
    """Snakemake's reason with few files in each of its lists.

    Args:
        reason: Snakemake's.
        most: files in a list.
    """
    parts = []
    for part in reason.split("; "):
        kind, _, files = part.partition(": ")
        named = [file.removeprefix("../../../") for file in sorted(files.split(", "))]
        more = f" and {len(named) - most} more" if len(named) > most else ""
        parts.append(f"{kind}: {', '.join(named[:most])}{more}" if files else kind)
    return "; ".join(parts)
