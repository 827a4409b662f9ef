"""The two stages of ASEL, whole: data, split, model, training, checkpoint, or the checkpoint that is already there."""

from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch

from asel_lib import checkpoints, paths, reproducibility
from asel_lib.data.batches import Batches
from asel_lib.data.sets import open_set
from asel_lib.devices import default_device, resolve_precision
from asel_lib.errors import CheckpointError
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
    start = paths.run(profile.name) / "checkpoints" / f"{name}.safetensors"
    if not start.is_file():
        shipped = paths.saved_models() / start.name
        if not shipped.is_file():
            raise CheckpointError(
                f"{start}: not there; run 01_cifar10_warmup with profile={profile.name!r}, recipe={recipe!r}, "
                f"seed={seed} first"
            )
        start = shipped
    return _run_stage(profile, "finetuned", dataset, recipe, seed, retrain, start, **options)


def _run_stage(
    profile: Profile, stage: str, dataset: str, recipe: str, seed: int, retrain: bool, start: Path | None,
    *, device: str | torch.device | None = None, progress: bool = True,
) -> Stage:  # fmt: skip
    check_recipe(recipe)
    device = torch.device(device) if device else default_device()
    images, split = open_set(profile, dataset)
    settings = profile.stage(stage)
    start_record = checkpoints.read_record(start) if start else None
    asked = checkpoints.fingerprint(
        asdict(profile.model), asdict(settings), recipe, seed, profile.evaluation.val_ratios, images.fingerprint,
        split.fingerprint, start_record["fingerprint"] if start_record else profile.model.start,
    )  # fmt: skip
    run = paths.run(profile.name)
    name = paths.checkpoint_name(images.name, stage, recipe, seed)
    history_file = run / "checkpoints" / f"{name}_history.csv"
    if not retrain and (file := checkpoints.reuse(name, asked, run / "checkpoints")):
        print(f"{name}: already trained with these settings, loaded")
        record = checkpoints.read_record(file)
        history = pd.DataFrame(record["history"])
        if not history_file.is_file():
            history.to_csv(history_file, index=False)
        return Stage(checkpoints.load(file, device), file, record, history, True)

    model, started_from = _new_model(profile.model, len(images.classes), seed)
    if start:
        checkpoints.fill(model, checkpoints.read_weights(start), start, leave=("head.",))
        started_from = f"{profile.warmup_dataset}_warmup from {start_record['start']}"
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
        "start": started_from,
        "dataset": images.name,
        "source": dataset,
        "images": len(images),
        "classes": list(images.classes),
        "dataset_fingerprint": images.fingerprint,
        "split": split.record(),
        "model": {k: v for k, v in asdict(profile.model).items() if k in ("architecture", "timm", "selector")},
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


def _new_model(settings: ModelSettings, num_classes: int, seed: int) -> tuple[SelectiveViT, str]:
    """-> (model, what its weights are: "imagenet" or "random")."""

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

    if settings.start == "random":
        return build(False), "random"
    try:
        return build(True), "imagenet"
    except Exception as error:  # whatever the hub's client raises without a network
        reason = type(error).__name__
    local = paths.saved_models() / f"{settings.architecture}_imagenet.safetensors"
    model = build(False)
    if local.is_file():
        from safetensors.torch import load_file

        checkpoints.fill(model, load_file(local), local, leave=("head.", "patch_drop."))
        print(f"ImageNet weights cannot be downloaded ({reason}): taken from {local.name}")
        return model, "imagenet"
    print(
        f"ImageNet weights cannot be reached ({reason}, and no {local.name} in saved_models/): random weights instead"
    )
    return model, "random"
