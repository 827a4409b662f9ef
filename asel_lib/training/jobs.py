"""One training, whole: what is to be trained, where it stands on the disk, and its record."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import PartialState

from asel_lib import checkpoints, paths, reproducibility
from asel_lib.data import lines
from asel_lib.data.batches import Batches
from asel_lib.data.decode import ImageArray
from asel_lib.data.sets import digest, drawings_of, open_set
from asel_lib.data.splits import Split
from asel_lib.devices import resolve_precision
from asel_lib.files import check_writable, replace_text
from asel_lib.models import SelectiveViT, build
from asel_lib.profiles import AgentSettings, ModelSettings, Profile, StageSettings, check_recipe, chosen
from asel_lib.training import processes as together
from asel_lib.training.anytime import AnytimeRun
from asel_lib.training.reinforcement import AgentRun
from asel_lib.training.supervised import train


@dataclass(frozen=True)
class Stage:
    """What a stage ends with. history: one row an epoch; `reused`: the checkpoint was already there."""

    model: SelectiveViT
    file: Path
    record: dict
    history: pd.DataFrame
    reused: bool


@dataclass(frozen=True)
class Job:
    """What is to be trained. `start`: the checkpoint it begins from, None: ImageNet or random weights; `keep_ratio`:
    the only one, None: many; `drawings`: a folder of line drawings, "": none."""

    profile: Profile
    stage: str
    dataset: str
    recipe: str
    seed: int
    model: ModelSettings
    settings: StageSettings
    val_ratios: tuple[float, ...] = ()
    keep_ratio: float | None = None
    drawings: str = ""
    start: Path | None = None
    agent: AgentSettings | None = None

    def name(self, dataset: str) -> str:
        if self.stage == "line_guided":
            variant = self.profile.anytime.variant if self.recipe == "anytime" else ""
            return paths.line_guided_name(
                dataset, self.model.selector, self.keep_ratio, self.seed, self.recipe, variant
            )
        if self.stage == "agentvit":
            return paths.agentvit_name(dataset, self.seed)
        return paths.checkpoint_name(dataset, self.stage, self.recipe, self.seed)

    def fingerprint(self, images: ImageArray, split: Split, start: str, drawn: np.ndarray | None = None) -> str:
        """What a checkpoint's reuse depends on: settings, data, split, and `start`: what its weights start from (the
        warm-up's fingerprint, "imagenet" or "random"); of line drawings, their extractor's version or themselves."""
        parts = [
            chosen(self.model),
            chosen(self.settings),
            self.profile.precision,
            self.ratios,
            self.recipe,
            self.seed,
            images.fingerprint,
            split.fingerprint,
            start,
        ]
        if self.agent:
            parts.append(chosen(self.agent))
        if self.recipe == "anytime":
            parts.append(chosen(self.profile.anytime))
        if self.model.selector.startswith("line_guided"):
            parts.append(lines.VERSION if drawn is None else digest(drawn))
        return checkpoints.fingerprint(*parts)

    @property
    def kind(self) -> Callable | None:
        """The run that makes its steps, None: the usual one."""
        if self.agent:
            return partial(AgentRun, agent=self.agent)
        return partial(AnytimeRun, anytime=self.profile.anytime) if self.recipe == "anytime" else None

    @property
    def ratios(self) -> tuple[float, ...]:
        return self.val_ratios or self.profile.evaluation.val_ratios


def described(settings: ModelSettings) -> dict:
    return {"architecture": settings.architecture, "timm": settings.timm, "selector": settings.selector}


def run(
    job: Job, retrain: bool, *, device: str | torch.device | None = None, progress: bool = True, processes: int = 1
) -> Stage:
    """Train, or load what was trained with these very settings. processes: how many of this machine share the training,
    each with a GPU of its own where there are GPUs. A process that was itself launched with others (`accelerate
    launch`) takes its part, and `processes` says nothing. ValueError for a number that cannot be."""
    if not job.agent:
        check_recipe(job.recipe)
    state = together.joined(device)
    together.check(processes, state, alone=bool(job.agent))
    with together.printing(state):
        return _run(job, retrain, state, device, progress, processes if state.num_processes == 1 else 1)


def _run(
    job: Job, retrain: bool, state: PartialState, wanted: str | torch.device | None, progress: bool, processes: int
) -> Stage:
    profile, settings = replace(job.profile, model=job.model), job.settings
    device = torch.device(wanted) if wanted and state.num_processes == 1 else state.device
    folder = paths.run(profile.name)
    check_writable(folder / "checkpoints", folder / "state")
    with state.main_process_first():  # it downloads, decodes and copies; the others find that done
        images, split = open_set(profile, job.dataset)
        model, weights = new_model(job.model, len(images.classes), job.seed, pretrained=job.start is None)
        start_record = checkpoints.read_record(job.start) if job.start else None
        drawn = drawings_of(images, job.model.selector, profile.model.image_size, job.drawings)
        asked = job.fingerprint(images, split, start_record["fingerprint"] if start_record else weights, drawn)
        name = job.name(images.name)
        history_file = folder / "checkpoints" / f"{name}_history.csv"
        state_file = folder / "state" / f"{name}.safetensors"
        found = None if retrain else checkpoints.reuse(name, asked, folder / "checkpoints")
        if retrain:
            state_file.unlink(missing_ok=True)
    if found:
        print(f"{name}: already trained with these settings, loaded")
        if state.is_main_process:
            history = pd.DataFrame(checkpoints.read_record(found)["history"])
            replace_text(history_file, history.to_csv(index=False))
        return _loaded(found, device, True)
    if processes > 1:
        together.launch(_part, (job, retrain, wanted, progress), processes)
        return _loaded(folder / "checkpoints" / f"{name}.safetensors", device, False)

    if job.start:
        checkpoints.fill(model, checkpoints.read_weights(job.start), job.start, leave=("head.",))
        weights = f"{profile.warmup_dataset}_warmup from {start_record['start']}"
    model.to(device)
    mean, std = (list(model.pretrained_cfg[key]) for key in ("mean", "std"))
    common = dict(image_size=profile.model.image_size, mean=mean, std=std, device=device, lines=drawn)
    precision = resolve_precision(profile.precision, device)
    val = Batches(images, split.val, batch_size=256, **common) if len(split.val) else None
    trained = train(
        model,
        Batches(images, split.train, batch_size=settings.batch_size, **common),
        val,
        settings,
        recipe=job.recipe,
        seed=job.seed,
        precision=precision,
        val_ratios=job.ratios,
        identity=asked,
        state_file=state_file,
        history_file=history_file,
        progress=progress,
        kind=job.kind,
    )
    if job.recipe == "anytime" and val is not None and model.selector.trained:
        model.calibrate(val)
    record = {
        "name": name,
        "fingerprint": asked,
        "method": job.stage if job.stage in ("line_guided", "agentvit") else "asel",
        "recipe": job.recipe,
        "stage": job.stage,
        "profile": profile.name,
        "seed": job.seed,
        "start": weights,
        "dataset": images.name,
        "source": job.dataset,
        "images": len(images),
        "classes": list(images.classes),
        "dataset_fingerprint": images.fingerprint,
        "split": split.record(),
        "model": described(job.model),
        "transform": {"size": profile.model.image_size, "mean": mean, "std": std, **images.reading.record()},
        "drawings": job.drawings,
        "drawings_fingerprint": digest(drawn),
        "budgets": {f"{average:g}": factor for average, factor in model.budgets.items()},
        "settings": asdict(settings),
        "agent": asdict(job.agent) if job.agent else None,
        "anytime": asdict(profile.anytime) if job.recipe == "anytime" else None,
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
    file = folder / "checkpoints" / f"{name}.safetensors"
    if state.is_main_process:
        checkpoints.save(model, file.with_suffix(""), record)
        state_file.unlink(missing_ok=True)
    state.wait_for_everyone()
    return replace(_loaded(file, device, False), history=trained.history)


def _part(job: Job, retrain: bool, device: str | torch.device | None, progress: bool) -> None:
    """What a launched process does."""
    run(job, retrain, device=device, progress=progress)


def _loaded(file: Path, device: torch.device, reused: bool) -> Stage:
    record = checkpoints.read_record(file)
    return Stage(checkpoints.load(file, device), file, record, pd.DataFrame(record["history"]), reused)


def new_model(settings: ModelSettings, num_classes: int, seed: int, pretrained: bool) -> tuple[SelectiveViT, str]:
    """-> (model, what its weights are: "imagenet" or "random"). pretrained False: random, whatever the profile says."""

    def made(pretrained: bool) -> SelectiveViT:
        with reproducibility.seeded(seed, "weights"):
            return build(
                settings.architecture,
                num_classes,
                settings.selector,
                pretrained,
                img_size=settings.image_size,
                **settings.timm,
            )

    if settings.start == "random" or not pretrained:
        return made(False), "random"
    try:
        return made(True), "imagenet"
    except _hub_errors() as error:
        reason = type(error).__name__
    local = paths.saved_models() / f"{settings.architecture}_imagenet.safetensors"
    model = made(False)
    if local.is_file():
        from safetensors.torch import load_file

        checkpoints.fill(model, load_file(local), local, leave=("head.", "patch_drop."))
        print(f"ImageNet weights cannot be downloaded ({reason}): taken from {local.name}")
        return model, "imagenet"
    print(f"ImageNet weights cannot be reached ({reason}; no {local.name} in saved_models/): random weights instead")
    return model, "random"


def _hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises without a network; its own errors are OSErrors, its HTTP library's may not be."""
    try:
        from httpx import HTTPError
    except ImportError:
        return (OSError,)
    return (OSError, HTTPError)
