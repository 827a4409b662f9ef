"""How fast each training is: a few steps of each, in turn, in one process."""

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from tqdm.auto import tqdm

from asel_lib import checks, reproducibility
from asel_lib.configs import ModelSettings, Profile, StageSettings
from asel_lib.data import catalog
from asel_lib.data.batches import Batches
from asel_lib.data.decode import ImageArray
from asel_lib.data.sets import open_set
from asel_lib.devices import default_device, resolve_precision
from asel_lib.models import build
from asel_lib.registry import RECIPES
from asel_lib.training.author_loop import AuthorLoop, Files
from asel_lib.training.supervised import train

AUTHORS = "author_loop"


@dataclass(frozen=True)
class _Training:
    run_class: Callable
    model: ModelSettings
    settings: StageSettings


def in_turn(
    profile: Profile,
    dataset: str = "",
    images: int = 512,
    rounds: int = 5,
    device: str | torch.device | None = None,
    base: str = "masked",
    only: tuple[str, ...] = (),
    workers: int | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Train each model on the same few images, round after round -> a row a training: img/s, median and quartiles over
    the rounds, and `times_<base>`, median and quartiles of the rounds' ratios to the base.

    Trainings: each registered recipe by its name, on the direct schedule with the selector that it trains, at the
    schedule's mean keep ratio ("anytime": at the ratios of its settings); "agentvit" (AgentViT's own network and
    schedule); "author_loop" (the authors' loop, `training.author_loop`). The agent's own learning is not timed: a small
    step in 50 batches.

    Args:
        profile: models, schedules and precision.
        dataset: "": the profile's first.
        images: how many of the training part.
        rounds: that are counted; one before them is a warm-up.
        device: None: a GPU if there is one.
        base: the training that the others are compared with.
        only: these trainings and the base; (): all, "author_loop" only where it is the base.
        workers: of the authors' loop, None: one for each core that this process may use.
        progress: whether to show a bar.

    Raises:
        ValueError: for an unknown training.
    """
    device = torch.device(device) if device else default_device()
    trainings = _trainings(profile.for_direct(), dataset or profile.datasets[0])
    known = [*trainings, AUTHORS]
    for name in (base, *only):
        checks.one_of("training", name, known)
    chosen = [name for name in known if name in (base, *only) or (not only and name != AUTHORS)]
    speeds = {name: [] for name in chosen}
    with _published(profile, dataset, images, workers, device) if AUTHORS in chosen else _nothing() as loop:
        for number in tqdm(range(rounds + 1), desc="rounds of training", leave=False, disable=not progress):
            for name in chosen:
                rate = (
                    loop.epoch()
                    if name == AUTHORS
                    else _rate(profile, trainings[name], dataset, images, number, name, device)
                )
                speeds[name].append(rate)
    measured = {name: np.array(values[1:]) for name, values in speeds.items()}
    rows = []
    for name, values in measured.items():
        low, middle, high = np.percentile(values, [25, 50, 75])
        times = dict(zip(("_low", "", "_high"), np.percentile(values / measured[base], [25, 50, 75]), strict=True))
        rows.append(
            {"training": name, "images_per_second": middle, "low": low, "high": high}
            | {f"times_{base}{end}": times[end] for end in ("", "_low", "_high")}
        )
    return pd.DataFrame(rows)


def _trainings(profile: Profile, dataset: str) -> dict[str, _Training]:
    schedule = profile.direct
    mean = (schedule.ratio_low + schedule.ratio_high) / 2
    schedule = replace(schedule, ratio_low=mean, ratio_high=mean)
    found = {}
    for recipe in RECIPES:
        own = profile.settings_of(recipe.name, dataset)
        model = replace(profile.model, selector=profile.selector_for(recipe.name))
        found[recipe.name] = _Training(recipe.run_class(own), model, schedule)
    return found | {"agentvit": replace(found["agent"], model=profile.agentvit_model, settings=profile.agentvit)}


def _rate(
    profile: Profile, training: _Training, dataset: str, images: int, number: int, name: str, device: torch.device
) -> float:
    """Images a second of one short epoch."""
    profile = replace(profile.for_direct(), model=training.model)
    found, split = open_set(profile, dataset or profile.datasets[0])
    made = _made(training.model, found, number, name).to(device)
    settings = replace(training.settings, epochs=1, full_epochs=0, warmup_epochs=0)
    batches = Batches(
        found, split.train[:images], image_size=training.model.image_size, batch_size=settings.batch_size, device=device
    )
    trained = train(
        made,
        batches,
        None,
        settings,
        run_class=training.run_class,
        seed=number,
        precision=resolve_precision(profile.precision, device),
        progress=False,
    )
    return trained.history["images_per_second"].iloc[0]


@contextlib.contextmanager
def _published(
    profile: Profile, dataset: str, images: int, workers: int | None, device: torch.device
) -> Iterator[AuthorLoop]:
    """The authors' loop on the files of the same images; where these are made by the computer, on files of them."""
    profile = profile.for_direct()
    training = _trainings(profile, dataset or profile.datasets[0])["masked"]
    found, split = open_set(profile, dataset or profile.datasets[0])
    with tempfile.TemporaryDirectory() as folder:
        chosen = split.train[:images]
        files = Files(
            _files(found, chosen, dataset or profile.datasets[0], Path(folder)),
            found.labels[chosen],
            training.model.image_size,
        )
        made = _made(training.model, found, 0, AUTHORS).to(device)
        workers = reproducibility.cores() if workers is None else workers
        yield AuthorLoop(made, files, replace(training.settings, full_epochs=0), workers, device)


@contextlib.contextmanager
def _nothing() -> Iterator[None]:
    yield None


def _made(model: ModelSettings, found: ImageArray, number: int, name: str):
    with reproducibility.seeded(number, name):
        return build(model.architecture, len(found.classes), model.selector, img_size=model.image_size, **model.timm)


def _files(found: ImageArray, chosen: np.ndarray, dataset: str, folder: Path) -> list[Path]:
    if not catalog.is_generated(dataset):
        images = catalog.find(dataset)
        files = dict(zip(images.names, images.files, strict=True))
        return [files[found.names[index]] for index in chosen]
    files = [folder / f"{index}.jpg" for index in chosen]
    for index, file in zip(chosen, files, strict=True):
        Image.fromarray(np.asarray(found.pixels[index])).save(file, quality=95)
    return files
