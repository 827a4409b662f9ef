"""What a dry run prints: each notebook that would run, why, and what becomes of its checkpoint."""

import json
import re
import subprocess
import sys
from pathlib import Path

from asel_lib import paths
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

    Only its record is read here: whether the images match is known once these have been read.

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
        by_name = ", by their content or by their names" if record.get("seen") else ""
        return file, f"its settings, classes and images match{by_name}"
    return None, why


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
