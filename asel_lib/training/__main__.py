"""One training from the command line:

python -m asel_lib.training warm_up --profile compact --recipe anytime
python -m asel_lib.training direct --profile compact --dataset aid --selector glance --recipe anytime
accelerate launch --multi_gpu --num_processes 4 -m asel_lib.training transfer --profile paper --dataset aid --seed 1

Processes that accelerate launches together share the training; its results do not depend on their number.
"""

import argparse
import sys

from asel_lib import configs
from asel_lib.configs.profile import AGENTVIT_SETTINGS
from asel_lib.errors import AselError
from asel_lib.registry import RECIPES
from asel_lib.training import processes, stages

STAGES = {"warm_up": stages.warm_up, "transfer": stages.transfer, "direct": stages.direct, "agentvit": stages.agentvit}
# The options that only some stages have.
OWN = {
    "warm_up": ("recipe",),
    "transfer": ("recipe",),
    "direct": ("recipe", "selector", "drawings", "keep_ratio", "reset_embeddings"),
    "agentvit": ("setting",),
}


def main(arguments: list[str] | None = None) -> int:
    """The command line of the trainings.

    Args:
        arguments: None: those of the process.

    Returns:
        The exit status: 0, or 1 where training cannot be done or go on, and the last line says why.
    """
    options = vars(parsed(arguments))
    stage, profile = STAGES[options.pop("stage")], configs.load(options.pop("profile"))
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
        prog="python -m asel_lib.training",
        description="One training. In several processes: accelerate launch --multi_gpu --num_processes 2 "
        "-m asel_lib.training ...",
    )
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--profile", default="demo", choices=configs.names(), help="default: demo")
    parser.add_argument("--dataset", default="", help="default: the profile's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--retrain", action="store_true", help="also where a checkpoint with these settings is there")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    parser.add_argument("--recipe", default=absent, choices=RECIPES.names(), help="not of agentvit; default: dropped")
    parser.add_argument("--selector", default=absent, help="of direct: a policy; default: line-guided, as published")
    parser.add_argument("--drawings", default=absent, help="of direct: a folder of line drawings")
    parser.add_argument("--keep_ratio", type=float, default=absent, help="of direct: a model for this ratio alone")
    reset = "of direct: new patch and position embeddings, the published line-guided code's slip"
    parser.add_argument("--reset_embeddings", action="store_true", default=absent, help=reset)
    parser.add_argument("--setting", default=absent, choices=AGENTVIT_SETTINGS, help="of agentvit")
    options = parser.parse_args(arguments)
    if options.stage in ("warm_up", "transfer") and "recipe" not in options:
        options.recipe = "dropped"
    for name in sorted({name for names in OWN.values() for name in names}):
        if name in options and name not in OWN[options.stage]:
            parser.error(f"--{name} is not an option of {options.stage}")
    return options


if __name__ == "__main__":
    sys.exit(main())
