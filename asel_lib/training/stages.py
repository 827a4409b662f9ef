"""The two stages of ASEL, whole: data, split, model, training, checkpoint, or the checkpoint that is already there."""

import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch

from asel_lib import checkpoints, paths, reproducibility
from asel_lib.data.batches import Batches
from asel_lib.data.decode import ImageArray
from asel_lib.data.sets import open_set
from asel_lib.data.splits import Split
from asel_lib.devices import default_device, resolve_precision
from asel_lib.errors import CheckpointError
from asel_lib.files import replace_text
from asel_lib.models import SelectiveViT
from asel_lib.profiles import ModelSettings, Profile, check_recipe
from asel_lib.training.supervised import train


@dataclass(frozen=True)
class Stage:
    """What a stage ends with. history: one row an epoch; `reused`: the checkpoint was already there."""

    model: SelectiveViT
    file: Path
    record: dict
    history: pd.DataFrame
    reused: bool


def warm_up(
    profile: Profile, dataset: str = "", *, recipe: str, seed: int = 0, retrain: bool = False, **options
) -> Stage:
    """ASEL's first stage: backbone, selector and head on the warm-up set, from random or ImageNet weights."""
    return _run_stage(profile, "warmup", dataset or profile.warmup_dataset, recipe, seed, retrain, None, **options)


def transfer(
    profile: Profile, dataset: str = "", *, recipe: str, seed: int = 0, retrain: bool = False, **options
) -> Stage:
    """ASEL's second stage: the warm-up checkpoint of the same profile, recipe and seed, without its head, trained on
    `dataset`. CheckpointError where the warm-up is not there yet."""
    dataset = dataset or profile.datasets[0]
    name = paths.checkpoint_name(profile.warmup_dataset, "warmup", recipe, seed)
    for folder in (paths.run(profile.name) / "checkpoints", paths.saved_models()):
        start = folder / f"{name}.safetensors"
        if start.is_file() and _made_with(profile, checkpoints.read_record(start)):
            return _run_stage(profile, "finetuned", dataset, recipe, seed, retrain, start, **options)
    raise CheckpointError(
        f"no {name}.safetensors of profile {profile.name!r} as it is now, in its run or in saved_models/: "
        f"run 01_cifar10_warmup with profile={profile.name!r}, recipe={recipe!r}, seed={seed} first"
    )


def fingerprint(
    profile: Profile, stage: str, recipe: str, seed: int, images: ImageArray, split: Split, start: str
) -> str:
    """What a checkpoint's reuse depends on: settings, data, split, and `start`: what its weights start from (the
    warm-up's fingerprint, "imagenet" or "random")."""
    return checkpoints.fingerprint(
        asdict(profile.model), asdict(profile.stage(stage)), profile.precision, profile.evaluation.val_ratios, recipe,
        seed, images.fingerprint, split.fingerprint, start,
    )  # fmt: skip


def _made_with(profile: Profile, record: dict) -> bool:
    """Whether a warm-up's record has this profile's model and warm-up settings."""
    wanted = json.loads(json.dumps({"model": _described(profile.model), "settings": asdict(profile.warmup)}))
    same = all(record.get(key) == value for key, value in wanted.items())
    return same and record["transform"]["size"] == profile.model.image_size


def _described(settings: ModelSettings) -> dict:
    return {"architecture": settings.architecture, "timm": settings.timm, "selector": settings.selector}


def _run_stage(
    profile: Profile, stage: str, dataset: str, recipe: str, seed: int, retrain: bool, start: Path | None,
    *, device: str | torch.device | None = None, progress: bool = True,
) -> Stage:  # fmt: skip
    check_recipe(recipe)
    device = torch.device(device) if device else default_device()
    images, split = open_set(profile, dataset)
    settings = profile.stage(stage)
    run = paths.run(profile.name)
    _check_writable(run / "checkpoints")
    model, weights = _new_model(profile.model, len(images.classes), seed, pretrained=start is None)
    start_record = checkpoints.read_record(start) if start else None
    asked = fingerprint(
        profile, stage, recipe, seed, images, split, start_record["fingerprint"] if start_record else weights
    )
    name = paths.checkpoint_name(images.name, stage, recipe, seed)
    history_file = run / "checkpoints" / f"{name}_history.csv"
    if not retrain and (file := checkpoints.reuse(name, asked, run / "checkpoints")):
        print(f"{name}: already trained with these settings, loaded")
        record = checkpoints.read_record(file)
        history = pd.DataFrame(record["history"])
        replace_text(history_file, history.to_csv(index=False))
        return Stage(checkpoints.load(file, device), file, record, history, True)

    if start:
        checkpoints.fill(model, checkpoints.read_weights(start), start, leave=("head.",))
        weights = f"{profile.warmup_dataset}_warmup from {start_record['start']}"
    model.to(device)
    mean, std = (list(model.pretrained_cfg[key]) for key in ("mean", "std"))
    common = dict(image_size=profile.model.image_size, mean=mean, std=std, device=device)
    precision = resolve_precision(profile.precision, device)
    state_file = run / "state" / f"{name}.pt"
    if retrain:
        state_file.unlink(missing_ok=True)
    trained = train(
        model,
        Batches(images, split.train, batch_size=settings.batch_size, **common),
        Batches(images, split.val, batch_size=256, **common) if len(split.val) else None,
        settings,
        recipe=recipe,
        seed=seed,
        precision=precision,
        val_ratios=profile.evaluation.val_ratios,
        identity=asked,
        state_file=state_file,
        history_file=history_file,
        progress=progress,
    )
    record = {
        "name": name,
        "fingerprint": asked,
        "method": "asel",
        "recipe": recipe,
        "stage": stage,
        "profile": profile.name,
        "seed": seed,
        "start": weights,
        "dataset": images.name,
        "source": dataset,
        "images": len(images),
        "classes": list(images.classes),
        "dataset_fingerprint": images.fingerprint,
        "split": split.record(),
        "model": _described(profile.model),
        "transform": {"size": profile.model.image_size, "mean": mean, "std": std},
        "settings": asdict(settings),
        "metrics": {
            "val_accuracy": trained.val_accuracy,
            "val_ratios": profile.evaluation.val_ratios,
            "best_epoch": trained.best_epoch + 1,
            "epochs": settings.epochs,
            "training_seconds": round(float(trained.history["seconds"].sum()), 1),
        },
        "history": trained.history.to_dict("records"),
        "training_precision": precision,
        "environment": reproducibility.environment(),
    }
    file = checkpoints.save(model, run / "checkpoints" / name, record)
    state_file.unlink(missing_ok=True)
    return Stage(checkpoints.load(file, device), file, checkpoints.read_record(file), trained.history, False)


def _check_writable(folder: Path) -> None:
    """An error now rather than after an hour of training."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise CheckpointError(f"cannot write into {folder} ({error}); make it writable or set ASEL_ROOT") from error


def _new_model(settings: ModelSettings, num_classes: int, seed: int, pretrained: bool) -> tuple[SelectiveViT, str]:
    """-> (model, what its weights are: "imagenet" or "random"). pretrained False: random, whatever the profile says."""

    def build(pretrained: bool) -> SelectiveViT:
        with reproducibility.seeded(seed, "weights"):
            return SelectiveViT(
                settings.architecture,
                num_classes,
                settings.selector,
                pretrained,
                img_size=settings.image_size,
                **settings.timm,
            )

    if settings.start == "random" or not pretrained:
        return build(False), "random"
    try:
        return build(True), "imagenet"
    except _hub_errors() as error:
        reason = type(error).__name__
    local = paths.saved_models() / f"{settings.architecture}_imagenet.safetensors"
    model = build(False)
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
