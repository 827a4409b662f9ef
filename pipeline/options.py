"""What run_all.sh is asked for: its arguments, checked, and the data sets that are there."""

import argparse
from pathlib import Path

from asel_lib import configs, reproducibility
from asel_lib.data import catalog, splits
from asel_lib.errors import AselError, DatasetError, DatasetMissing
from asel_lib.registry import RECIPES

REPOSITORY = Path(__file__).resolve().parents[1]
EPILOG = """\
A data set that is not there is skipped with a line that says where to put it; a public one is downloaded.
On a cluster: --cluster slurm (docs/cluster.md). What follows -- goes to Snakemake, e.g. -- --jobs 8
Exit status: 0 all that was asked for is there, 1 something is not, 2 the arguments are wrong, 130 stopped."""
ALONE = {"speed": "speed.csv", "export": "deployed.csv"}  # rules that are no part of a whole run, and their tables
WITH_AGENTVIT = ("masked", "dropped")  # recipes of ASEL that AgentViT is compared with


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
        usual = list(dict.fromkeys((*(WITH_AGENTVIT if options.agentvit else ()), *profile.recipes)))
        options.recipes = items(options.recipes, "recipes") if options.recipes is not None else usual
        for recipe in options.recipes:
            RECIPES[recipe]  # ValueError with the known ones
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


def split_at_dashes(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments before "--" and those behind it."""
    if "--" not in arguments:
        return arguments, []
    at = arguments.index("--")
    return arguments[:at], arguments[at + 1 :]


def items(text: str, what: str) -> list[str]:
    """The parts of a list with commas, each once.

    Args:
        text: the list.
        what: it is called in an error.
    """
    found = list(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not found:
        raise ValueError(f"--{what} is {text!r}: expected one or more, separated by commas")
    return found


def whole(text: str, what: str, least: int) -> int:
    """A whole number from a text.

    Args:
        text: the number.
        what: it is called in an error.
        least: it may be.
    """
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
    """The data sets to train on, and whether all that the user named are there. A dry run lists all of them.

    Args:
        profile: the run's.
        options: as `parse` makes them.

    Returns:
        name -> name or folder; and whether none is missing.

    Raises:
        DatasetMissing: if the warm-up's is not there (all else starts from it), or nothing is left, or with --strict.
    """
    found, skipped = {}, []
    for name in dict.fromkeys([profile.warmup_dataset, *options.datasets]):
        needed = options.strict or name == profile.warmup_dataset
        try:
            place = _located(name, options.dry_run)
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


def _located(name: str, dry_run: bool) -> dict[str, str]:
    """{name: name}, or {name: absolute path} for a folder; downloads a public set unless it is a dry run. DatasetError
    where a folder has a class with too few images to be split."""
    if name.strip().lower() in catalog.names():
        name = name.strip().lower()
        if not catalog.is_available(name):
            catalog.find(name, download=not dry_run)
        return {name: name}
    images = catalog.find(name)
    splits.check_counts(images.labels, images.classes, images.parts)  # before anything is trained, in a dry run too
    return {images.name: str(images.root)}
