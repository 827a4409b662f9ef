"""One training, whole: what is to be trained, where it stands on the disk, and its record."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState

from asel_lib import checkpoints, paths, reproducibility
from asel_lib.configs import ModelSettings, Profile, StageSettings, chosen
from asel_lib.data import lines
from asel_lib.data.batches import Batches
from asel_lib.data.by_name import seen, split_by_name
from asel_lib.data.decode import ImageArray
from asel_lib.data.sets import digest, drawings_of, edited, open_set
from asel_lib.data.splits import Split
from asel_lib.devices import resolve_precision
from asel_lib.errors import CheckpointError
from asel_lib.files import check_writable, replace_text
from asel_lib.identity import ModelKey
from asel_lib.models import SelectiveViT, build
from asel_lib.registry import RECIPES
from asel_lib.selection import parse
from asel_lib.training import processes as together
from asel_lib.training.start import EMBEDDINGS, described_start, load_start
from asel_lib.training.supervised import train
from asel_lib.weights import fill

Data = tuple[ImageArray, Split]


@dataclass(frozen=True)
class Stage:
    """What a training ends with. history: one row an epoch; `reused`: the checkpoint was already there."""

    model: SelectiveViT
    file: Path
    record: dict
    history: pd.DataFrame
    reused: bool


@dataclass(frozen=True)
class Job:
    """What is to be trained.

    Args:
        profile: the run's settings.
        key: the model's identity; its data set is named after `source` once that is open.
        source: a data set's name, or the path of a folder of images.
        model: the network.
        settings: the stage.
        recipe_settings: the recipe's own, None where it has none.
        val_ratios: keep ratios of val accuracy, () for the profile's.
        drawings: a folder of line drawings, "" for none.
        start: the checkpoint that it begins from, None: what the model's settings say.
    """

    profile: Profile
    key: ModelKey
    source: str
    model: ModelSettings
    settings: StageSettings
    recipe_settings: object = None
    val_ratios: tuple[float, ...] = ()
    drawings: str = ""
    start: Path | None = None

    def fingerprint(self, images: ImageArray, split: Split, start: str, drawn: np.ndarray | None = None) -> str:
        """What a checkpoint's reuse depends on.

        Args:
            images, split: the data.
            start: what the weights start from: the warm-up's fingerprint, "imagenet", "random", or a file and its
                digest.
            drawn: line drawings from disk; None: their extractor's version counts.
        """
        data = [images.fingerprint, split.fingerprint]
        return checkpoints.fingerprint(*self._settings(start, drawn), *data, *filter(None, [edited(images, split)]))

    def settings_fingerprint(self, start: str, drawn: np.ndarray | None = None) -> str:
        """The fingerprint without the data, of a training that could be repeated on another copy of the set; arguments
        as of `fingerprint`."""
        return checkpoints.fingerprint(*self._settings(start, drawn))

    def _settings(self, start: str, drawn: np.ndarray | None) -> list:
        parts = [chosen(self.model), chosen(self.settings), self.profile.precision, self.ratios, self.key.recipe]
        parts += [self.key.seed, start]
        if self.recipe_settings is not None:
            parts.append(chosen(self.recipe_settings))
        if "lines" in parse(self.model.selector)[1]:
            parts.append(lines.VERSION if drawn is None else digest(drawn))
        return parts

    @property
    def run_class(self) -> Callable:
        """Makes the training's steps."""
        return RECIPES[self.key.recipe].run_class(self.recipe_settings)

    @property
    def ratios(self) -> tuple[float, ...]:
        return self.val_ratios or self.profile.evaluation.val_ratios


def described(settings: ModelSettings) -> dict:
    """The entry `model` of a record.

    Args:
        settings: of the network.
    """
    return {"architecture": settings.architecture, "timm": settings.timm, "selector": settings.selector}


def run(
    job: Job,
    *,
    data: Data | None = None,
    retrain: bool = False,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> Stage:
    """Train, or load what was trained with these very settings. Processes that were launched together (`accelerate
    launch`) share the training.

    Args:
        job: what is to be trained.
        data: images and split as they were opened, and maybe changed, elsewhere; None: those of `job.source` as the
            profile splits them.
        retrain: train also where a checkpoint with these settings is there.
        device: None: a GPU where there is one; of several processes each has its own.
        progress: show it.
    """
    state = together.joined(device)
    if RECIPES[job.key.recipe].alone:
        together.check_alone(state)
    device = torch.device(device) if device and state.num_processes == 1 else state.device
    with together.printing(state):
        return _run(job, data, retrain, state, device, progress)


def _run(
    job: Job, data: Data | None, retrain: bool, state: PartialState, device: torch.device, progress: bool
) -> Stage:
    profile, settings = replace(job.profile, model=job.model), job.settings
    folder = paths.run(profile.name)
    check_writable(folder / "checkpoints", folder / "state")
    with state.main_process_first():  # it downloads, decodes and copies; the others find that done
        images, split = data or open_set(profile, job.source)
        key = replace(job.key, dataset=images.name)
        weights = described_start(job.model, pretrained=job.start is None)
        start_record = checkpoints.read_record(job.start) if job.start else None
        drawn = drawings_of(images, job.model.selector, profile.model.image_size, job.drawings)
        origin = start_record["fingerprint"] if start_record else weights
        asked = job.fingerprint(images, split, origin, drawn)
        history_file = folder / "checkpoints" / f"{key.name}_history.csv"
        state_file = folder / "state" / f"{key.name}.safetensors"
        namesakes = partial(_same_by_name, job, images, split, job.settings_fingerprint(origin, drawn))
        found = None if retrain else checkpoints.reuse(key.name, asked, folder / "checkpoints", namesakes)
        if retrain:
            state_file.unlink(missing_ok=True)
        if not found:  # else ImageNet weights are not even looked for
            model = new_model(job.model, len(images.classes), key.seed, pretrained=job.start is None)
    if found:
        print(f"{key.name}: already trained with these settings, loaded")
        if state.is_main_process:
            history = pd.DataFrame(checkpoints.read_record(found)["history"])
            replace_text(history_file, history.to_csv(index=False))
        return _loaded(found, device, True)

    if job.start:
        fill(model, checkpoints.read_weights(job.start), job.start, leave=("head.",))
        weights = f"{start_record['dataset']} warm-up from {start_record['start']}"
    model.to(device)
    mean, std = (list(model.pretrained_cfg[name]) for name in ("mean", "std"))
    common = dict(image_size=profile.model.image_size, mean=mean, std=std, device=device, lines=drawn)
    precision = resolve_precision(profile.precision, device)
    val = Batches(images, split.val, batch_size=256, **common) if len(split.val) else None
    trained = train(
        model,
        Batches(images, split.train, batch_size=settings.batch_size, **common),
        val,
        settings,
        run_class=job.run_class,
        seed=key.seed,
        precision=precision,
        val_ratios=job.ratios,
        identity=asked,
        state_file=state_file,
        history_file=history_file,
        progress=progress,
    )
    record = {
        "name": key.name,
        "fingerprint": asked,
        "settings_fingerprint": job.settings_fingerprint(origin, drawn),
        **asdict(key),
        "profile": profile.name,
        "start": weights,
        "start_checkpoint": job.start.stem if job.start else "",
        "source": job.source,
        "edited": edited(images, split),
        "images": len(images),
        "classes": list(images.classes),
        "dataset_fingerprint": images.fingerprint,
        "split": split.record(),
        "seen": seen(images, split),
        "model": described(job.model),
        "transform": {"size": profile.model.image_size, "mean": mean, "std": std, **images.reading.record()},
        "drawings": job.drawings,
        "drawings_fingerprint": digest(drawn),
        "budgets": {f"{average:g}": factor for average, factor in model.budgets.items()},
        "settings": asdict(settings),
        "recipe_settings": None if job.recipe_settings is None else asdict(job.recipe_settings),
        "metrics": {
            "val_accuracy": trained.val_accuracy,
            "val_ratios": job.ratios,
            "best_epoch": trained.best_epoch + 1,
            "epochs": len(trained.history),
            "training_seconds": round(float(trained.history["seconds"].sum()), 1),
        },
        "history": trained.history.to_dict("records"),
        "training_precision": precision,
        "training_processes": state.num_processes,
        "environment": reproducibility.environment(),
    }
    file = folder / "checkpoints" / f"{key.name}.safetensors"
    if state.is_main_process:
        checkpoints.save(model, file.with_suffix(""), record)
        state_file.unlink(missing_ok=True)
    state.wait_for_everyone()
    return replace(_loaded(file, device, False), history=trained.history)


def _same_by_name(job: Job, images: ImageArray, split: Split, settings: str, record: dict) -> str:
    """Why a checkpoint that was trained with these settings on another copy of the data set serves here.
    CheckpointError says why it does not: images that somebody changed, other settings, or as `split_by_name`."""
    if edited(images, split) or record.get("edited"):
        raise CheckpointError("its images and split, or those given here, were changed after they had been read")
    if record.get("settings_fingerprint") != settings:
        raise CheckpointError(f"it was made with other settings ({_other_settings(job, record)})")
    by_name = split_by_name(images, record)
    return (
        f"trained with these settings on another copy of {images.name}; by their names {len(by_name.train)} of the "
        f"{len(images)} images here were trained on and {len(by_name.val)} chosen on: reused, and tested on "
        f"{len(by_name.test)} that it never saw"
    )


def _other_settings(job: Job, record: dict) -> str:
    """Which settings differ, of those that a record lists."""
    own = {} if job.recipe_settings is None else asdict(job.recipe_settings)
    asked = json.loads(json.dumps(asdict(job.settings) | own | described(job.model)))
    made = record["settings"] | (record.get("recipe_settings") or {}) | record["model"]
    told = [f"{name} {made.get(name)}, asked for {value}" for name, value in asked.items() if made.get(name) != value]
    return "; ".join(told[:3]) or "start, precision, drawings, or keep ratios of val"


def _loaded(file: Path, device: torch.device, reused: bool) -> Stage:
    record = checkpoints.read_record(file)
    return Stage(checkpoints.load(file, device), file, record, pd.DataFrame(record["history"]), reused)


def new_model(settings: ModelSettings, num_classes: int, seed: int, pretrained: bool) -> SelectiveViT:
    """A model to train.

    Args:
        settings: the network and what it starts from.
        num_classes: of its head.
        seed: of random weights.
        pretrained: False: random weights, whatever the settings say.
    """
    with reproducibility.seeded(seed, "weights"):
        model = build(
            settings.architecture, num_classes, settings.selector, False, img_size=settings.image_size, **settings.timm
        )
    if settings.start != "random" and pretrained:
        load_start(model, settings.architecture, settings.start, EMBEDDINGS if settings.reset_embeddings else ())
    return model
