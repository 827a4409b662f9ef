"""The paper's chain by the published recipe, in one call for a machine that is lent for some minutes: the warm-up, then
for each data set the transfer and its benchmark. Run it when a GPU is there for a short time:

    python -m tools.gpu_run --minutes 12
    python -m tools.gpu_run --profile smoke --datasets synthetic --minutes 5      # the rehearsal, on a CPU

It ends by itself before the minutes are over, and does not begin a training that could not end in time. Called again on
the same machine it goes on where it was. What is finished lies in --out ($OUT where that is set) as <checkpoint>.tar:
weights in half precision, record, rows and answers. Unpacked into benchmarks_results/runs/<profile>/ (`tar -xf`) on
another machine, it is not trained again there, and `python -m tools.ship` can ship it.
"""

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from asel_lib import checkpoints, configs, paths, tables
from asel_lib.configs import Profile
from asel_lib.data import catalog
from asel_lib.data.sets import open_recorded, open_set, recorded_batches
from asel_lib.devices import default_device, resolve_precision
from asel_lib.errors import AselError
from asel_lib.evaluation import answers
from asel_lib.evaluation.benchmark import benchmark, object_fractions, own_policies
from asel_lib.identity import ModelKey

DATASETS = ("rsscn7", "aid", "eurosat")  # the quickest first: something is finished, whatever happens
RESERVE = 20  # seconds to pack what is finished


class Chain:
    """One seed of the chain, and how much time is left for it.

    Args:
        profile: its settings.
        recipe: by which it is trained.
        seed: of the trainings.
        out: where finished checkpoints go.
        minutes: until all has to be over.
    """

    def __init__(self, profile: Profile, recipe: str, seed: int, out: Path, minutes: float):
        self.profile, self.recipe, self.seed, self.out = profile, recipe, seed, out
        self.end = time.monotonic() + 60 * minutes - RESERVE
        self.rate: float | None = None  # images a second of the last training

    @property
    def left(self) -> float:
        """Seconds."""
        return self.end - time.monotonic()

    def name(self, dataset: str) -> str:
        """Of the checkpoint on that data set."""
        schedule = "warmup" if dataset == self.profile.warmup_dataset else "published"
        return ModelKey(dataset, schedule, self.profile.selector_for(self.recipe), self.recipe, seed=self.seed).name

    def train(self, dataset: str) -> bool:
        """Train on a data set, or go on with it -> whether it is finished."""
        warming = dataset == self.profile.warmup_dataset
        file = paths.run(self.profile.name) / "checkpoints" / f"{self.name(dataset)}.safetensors"
        if not file.is_file() and not warming and self.rate:
            settings = self.profile.transfer_for(dataset)
            seconds = settings.epochs * len(open_set(self.profile, dataset)[1].train) / self.rate
            if seconds > self.left:
                print(f"{self.name(dataset)}: not begun, it takes {seconds:.0f} s and {self.left:.0f} s are left")
                return False
        stage = "warm_up" if warming else "transfer"
        command = [sys.executable, "-m", "asel_lib.training", stage, "--profile", self.profile.name]
        command += ["--dataset", dataset, "--recipe", self.recipe, "--seed", str(self.seed)]
        try:
            done = subprocess.run(command, timeout=max(1.0, self.left)).returncode == 0
        except subprocess.TimeoutExpired:
            print(f"{self.name(dataset)}: out of time; called again here it goes on from its last minute")
            return False
        if done:
            history = checkpoints.read_record(file)["history"]
            self.rate = min(epoch["images_per_second"] for epoch in history)
            print(f"{file.stem}: {self.rate:.0f} images a second, {self.left:.0f} s are left", flush=True)
        return done

    def measure(self, dataset: str) -> None:
        """Rows and answers of a checkpoint, as 05_benchmark makes them."""
        name, device = self.name(dataset), default_device()
        run = paths.run(self.profile.name)
        if (run / "results" / f"{name}.csv").is_file():
            return
        model, settings = checkpoints.load(name, device, self.profile.name), self.profile.evaluation
        record = model.record
        images, split = open_recorded(record)
        rows = benchmark(
            model,
            recorded_batches(images, split.test, record, settings.batch_size, device),
            record=record | {"split": split.tested},
            profile=self.profile.name,
            ratios=settings.ratios,
            policies=own_policies(record, settings.policies),
            draws=settings.draws,
            precision=resolve_precision(self.profile.precision, device),
            timing_seconds=settings.timing_seconds,
            batch_size=settings.batch_size,
            object_fraction=object_fractions(images, split.test, model),
            answers_file=answers.file_of(name, self.profile.name),
            names=[images.names[index] for index in split.test],
            progress=False,
        )
        tables.write(rows, run / "results" / f"{name}.csv")
        print((100 * rows.pivot(index="policy", columns="keep_ratio", values="accuracy")).round(1).to_string())

    def pack(self, dataset: str) -> None:
        """What there is of a finished checkpoint, as one file in `out`."""
        name, run = self.name(dataset), paths.run(self.profile.name)
        model = checkpoints.load(name, profile=self.profile.name)
        self.out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            weights = checkpoints.save(model, Path(folder) / name, model.record, half=True)
            packed = {f"checkpoints/{file.name}": file for file in (weights, weights.with_suffix(".json"))}
            for part in (f"results/{name}.csv", f"answers/{name}.csv.gz"):
                packed |= {part: run / part} if (run / part).is_file() else {}
            part_file = self.out / f".{name}.part"
            with tarfile.open(part_file, "w") as tar:
                for inside, file in packed.items():
                    tar.add(file, inside)
            part_file.replace(self.out / f"{name}.tar")


def run(chain: Chain, datasets: list[str]) -> list[str]:
    """Train, measure and pack the whole chain, as far as time allows.

    Args:
        chain: what is trained, and until when.
        datasets: names.

    Returns:
        Those that are not finished.
    """
    warmup, unfinished = chain.profile.warmup_dataset, []
    if not chain.train(warmup):
        return [warmup, *datasets]
    chain.pack(warmup)
    for dataset in datasets:
        if not catalog.is_available(dataset):
            print(catalog.missing_message(dataset))
            unfinished.append(dataset)
        elif chain.train(dataset):
            chain.pack(dataset)
            chain.measure(dataset)
            chain.pack(dataset)
        else:
            unfinished.append(dataset)
    return unfinished


def main(arguments: list[str] | None = None) -> int:
    """-> the exit status: 0 where all is finished, 1 where it has to be called again; the last line says for what."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu_run", description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, required=True, help="after which it has to be over")
    parser.add_argument("--profile", default="paper", choices=configs.names(), help="default: paper")
    parser.add_argument("--datasets", nargs="+", default=list(DATASETS), help=f"default: {' '.join(DATASETS)}")
    parser.add_argument("--recipe", default="masked", help="default: masked, the published one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="default: $OUT, else benchmarks_results/runs/<profile>/packed")
    options = parser.parse_args(arguments)
    out = options.out or Path(os.environ.get("OUT") or paths.run(options.profile) / "packed")
    chain = Chain(configs.load(options.profile), options.recipe, options.seed, out, options.minutes)
    try:
        unfinished = run(chain, options.datasets)
    except AselError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"finished: {', '.join(sorted(file.stem for file in out.glob('*.tar'))) or 'nothing yet'}, in {out}")
    if unfinished:
        print(f"not finished: {', '.join(unfinished)}; call it again")
    return int(bool(unfinished))


if __name__ == "__main__":
    sys.exit(main())
