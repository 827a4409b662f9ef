"""What a sweep costs on paper: from the rates in the records of committed checkpoints to hours on any number of GPUs.

The rates were measured on two CPU cores. For a GPU they are scaled by one number, which is an assumption and is shown
as one. python -m asel_lib.reporting.costs prints the tables of docs/cluster.md.
"""

import heapq
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from asel_lib import configs, paths
from asel_lib.configs import Profile
from asel_lib.data import catalog
from asel_lib.reporting import tables

# Label -> the selector and the recipe in a record, all of the line-guided schedule: one backbone, start and schedule.
METHODS = {
    "ASEL, paper": ("learned", "paper"),
    "ASEL, dropped": ("learned", "dropped"),
    "anytime": ("glance", "anytime"),
    "AgentViT's agent": ("agent", "agent"),
    "random patches": ("random", "dropped"),
}
DATASETS = ("cifar10", "eurosat", "rsscn7", "aid", "ucmerced", "imagenette")
SEEDS = 5
# Image counts as published, of the sets that the catalogue cannot download and so does not count.
PUBLISHED = {"aid": 10_000, "ucmerced": 2_100}
TRAIN_SHARE = 0.7  # of all images, as our split takes it; of a set with a test part of its own:
OWN_SHARE, OWN_PARTS = 0.9, {"cifar10": 50_000, "imagenette": 9_469}  # images of its training part
START = 30.0  # assumed seconds of each training before its first step: imports, cached images to the GPU


@dataclass(frozen=True)
class Gpu:
    """A data-sheet rate, dense bfloat16 matrix products, operations a second, and which share of it a training is
    assumed to reach: of a ViT this small, with 64 images a batch, a GPU spends most of its time between kernels."""

    name: str = "NVIDIA A100"
    peak: float = 312e12
    low: float = 0.005
    utilisation: float = 0.02
    high: float = 0.1


@dataclass(frozen=True)
class Rate:
    """Images a second in training: the median over the epochs of all records of a method, and its quartiles."""

    low: float
    median: float
    high: float


def measured(folder: Path | None = None, profile: str = "compact") -> dict[str, Rate]:
    """Of each method, from the records in saved_models/ (or that folder) of that profile.
    ValueError where a method has none."""
    found: dict[str, list[float]] = {label: [] for label in METHODS}
    for file in sorted((folder or paths.saved_models()).glob("*.json")):
        record = json.loads(file.read_text())
        if record["profile"] != profile or record["stage"] != "line_guided":
            continue
        for label, kind in METHODS.items():
            if kind == (record["model"]["selector"], record["recipe"]):
                found[label] += [epoch["images_per_second"] for epoch in record["history"]]
    if missing := [label for label, values in found.items() if len(values) < 2]:
        raise ValueError(f"no record of profile {profile!r} says how fast {', '.join(missing)} trains: train one")
    return {label: Rate(*statistics.quantiles(values, n=4)) for label, values in found.items()}


def images_seen(dataset: str, profile: Profile) -> int:
    """Images that one training goes through, all epochs together. ValueError for a set of unknown size."""
    count = catalog.spec(dataset).images or PUBLISHED.get(dataset)
    if not count:
        raise ValueError(f"how many images {dataset} has is not known here: add it to PUBLISHED")
    trained = OWN_SHARE * OWN_PARTS[dataset] if dataset in OWN_PARTS else TRAIN_SHARE * count
    return round(trained) * profile.line_guided_for(dataset).epochs


def sweep(
    rates: dict[str, float], profile: Profile, datasets: Sequence[str] = DATASETS, seeds: int = SEEDS
) -> list[float]:
    """Seconds of each training of a sweep. rates: images a second of each method."""
    return [
        images_seen(dataset, profile) / rate for rate in rates.values() for dataset in datasets for _ in range(seeds)
    ]


def makespan(seconds: Iterable[float], workers: int) -> float:
    """When the last of these trainings is done, each whole on one of `workers`, the longest first, each to the one that
    is free first (LPT: Graham 1969; at most 4/3 - 1/(3 workers) of the best packing)."""
    if workers < 1:
        raise ValueError(f"workers is {workers}: expected at least 1")
    free = [0.0] * workers
    for one in sorted(seconds, reverse=True):
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def times_faster(paper: float, gmacs: float, share: float, gpu: Gpu = Gpu()) -> float:  # noqa: B008
    """How many times as fast as the measured CPU a GPU is taken to be: share * peak / (operations a second that the CPU
    reached), for recipe `paper` at `paper` images a second: 2 operations a multiply-accumulate, three passes (one
    forward, two backward) of `gmacs` an image."""
    return share * gpu.peak / (paper * 6 * gmacs * 1e9)


def gmacs_whole(checkpoint: str = "rsscn7_line_guided_learned_paper") -> float:
    """Of one image with all its patches, from the committed results."""
    frame = tables.read(paths.results() / "results.csv")
    rows = frame[(frame["checkpoint"] == checkpoint) & (frame["keep_ratio"] == 1)]
    return float(rows["gmacs"].iloc[0])


def rates_table(rates: dict[str, Rate], profile: Profile) -> pd.DataFrame:
    """One row a method: its rate as measured, and hours of its trainings on that CPU."""
    rows = []
    for label, rate in rates.items():
        hours = {dataset: images_seen(dataset, profile) / rate.median / 3600 for dataset in DATASETS}
        cell = f"{rate.median:.0f} ({rate.low:.0f}-{rate.high:.0f})"
        rows.append({"method": label, "img/s, 2 CPU cores": cell} | {name: f"{h:.1f} h" for name, h in hours.items()})
    return pd.DataFrame(rows)


def sweep_table(rates: dict[str, Rate], profile: Profile, gmacs: float, gpu: Gpu = Gpu()) -> pd.DataFrame:  # noqa: B008
    """One row for the CPU, and one for each number of GPUs: how long the sweep takes, and at the ends of the assumed
    share of the GPU's rate."""
    cpu = sweep({label: rate.median for label, rate in rates.items()}, profile)
    paper = rates["ASEL, paper"].median
    faster = {share: times_faster(paper, gmacs, share, gpu) for share in (gpu.high, gpu.utilisation, gpu.low)}
    rows = [
        {"on": "2 CPU cores (measured rates)", "hours": f"{sum(cpu) / 3600:.0f}", "divided evenly": "", "between": ""}
    ]
    for workers in (1, 8, 64):
        hours = [makespan([one / times + START for one in cpu], workers) / 3600 for times in faster.values()]
        even = (sum(cpu) / faster[gpu.utilisation] + START * len(cpu)) / workers / 3600
        rows.append(
            {
                "on": f"{workers} GPU{'s' if workers > 1 else ''} (estimated)",
                "hours": f"{hours[1]:.2g}",
                "divided evenly": f"{even:.2g}",
                "between": f"{hours[0]:.2g} and {hours[2]:.2g}",
            }
        )
    return pd.DataFrame(rows)


def text(gpu: Gpu = Gpu()) -> str:  # noqa: B008
    """Both tables in Markdown, and the assumption between them."""
    profile, rates, gmacs = configs.load("compact"), measured(), gmacs_whole()
    paper = rates["ASEL, paper"].median
    reached, taken = paper * 6 * gmacs / 1e3, times_faster(paper, gmacs, gpu.utilisation, gpu)
    jobs = len(METHODS) * len(DATASETS) * SEEDS
    assumed = (
        f"{jobs} trainings ({len(METHODS)} methods x {len(DATASETS)} data sets x {SEEDS} seeds). On an {gpu.name} a "
        f"training is taken to be {taken:.0f} times as fast: {gpu.utilisation:.0%} of its data-sheet rate "
        f"({gpu.peak / 1e12:.0f} TFLOP/s, bfloat16) over the {reached:.2f} TFLOP/s that recipe `paper` reached on the "
        f"CPU ({paper:.0f} img/s x 6 x {gmacs:.3f} GMACs), and {START:.0f} s until it has started. The last column: "
        f"with {gpu.high:.0%} and {gpu.low:.1%} instead of {gpu.utilisation:.0%}."
    )
    parts = (rates_table(rates, profile), assumed, sweep_table(rates, profile, gmacs, gpu))
    return "\n\n".join(part if isinstance(part, str) else tables.to_markdown(part) for part in parts) + "\n"


if __name__ == "__main__":
    print(text(), end="")
