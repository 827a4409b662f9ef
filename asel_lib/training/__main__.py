"""One training from the command line, in one process or in several that share it:

python -m asel_lib.training warm_up --profile compact --recipe anytime
accelerate launch --multi_gpu --num_processes 2 -m asel_lib.training warm_up --profile compact --recipe anytime
"""

import argparse
import sys

from asel_lib import profiles
from asel_lib.errors import AselError
from asel_lib.training import processes, stages

STAGES = {"warm_up": stages.warm_up, "transfer": stages.transfer, "line_guided": stages.line_guided}
STAGES["agentvit"] = stages.agentvit
SEVERAL = (
    "Several processes, a GPU each or, without GPUs, on the machine's cores, share a training that accelerate starts: "
    "accelerate launch --multi_gpu --num_processes 2 -m asel_lib.training ..."
)


def main(arguments: list[str] | None = None) -> int:
    """-> the exit status: 0, or 1 where training cannot be done or go on, and the last line says why."""
    options = vars(parsed(arguments))
    stage, profile = STAGES[options.pop("stage")], profiles.load(options.pop("profile"))
    try:
        done = stage(profile, **options)
    except (AselError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    metrics = done.record["metrics"]
    with processes.printing(processes.joined(options["device"])):
        print(f"{done.file}: epoch {metrics['best_epoch']} of {metrics['epochs']}, val {metrics['val_accuracy']}")
    return 0


def parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The options of a stage; those that were not given are left to it."""
    absent = argparse.SUPPRESS
    parser = argparse.ArgumentParser(
        prog="python -m asel_lib.training", description=__doc__.splitlines()[0], epilog=SEVERAL
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--profile", default="demo", choices=profiles.names(), help="default: demo")
    parser.add_argument("--dataset", default="", help="default: the profile's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--retrain", action="store_true", help="also where a checkpoint with these settings is there")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    parser.add_argument("--recipe", default=absent, choices=profiles.RECIPES, help="not of agentvit; default: dropped")
    parser.add_argument("--selection", default=absent, help="of line_guided: sample, top, or another selector")
    parser.add_argument("--extractor", default=absent, help="of line_guided: xdog, sobel, informative, or a folder")
    parser.add_argument("--keep_ratio", type=float, default=absent, help="of line_guided: a model for this ratio alone")
    parser.add_argument("--setting", default=absent, choices=profiles.AGENTVIT_SETTINGS, help="of agentvit")
    options = parser.parse_args(arguments)
    if options.stage in ("warm_up", "transfer") and "recipe" not in options:
        options.recipe = "dropped"
    known = {"line_guided": ("recipe", "selection", "extractor", "keep_ratio"), "agentvit": ("setting",)}
    for name in ("recipe", "selection", "extractor", "keep_ratio", "setting"):
        if name in options and name not in known.get(options.stage, ("recipe",)):
            parser.error(f"--{name} is not an option of {options.stage}")
    return options


if __name__ == "__main__":
    sys.exit(main())
