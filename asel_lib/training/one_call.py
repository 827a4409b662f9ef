"""`asel_lib.train`: a model of one's own, or one by name, trained on a folder of images in one call."""

import re
from dataclasses import replace
from pathlib import Path

import timm
import torch
from safetensors.torch import save as save_safetensors
from timm.models import get_model_args
from torch import nn

from asel_lib import configs, paths, records, sources
from asel_lib.checkpoints import fingerprint
from asel_lib.configs import ModelSettings, Profile
from asel_lib.files import replace_file
from asel_lib.models import SelectiveViT
from asel_lib.models.families import family_of
from asel_lib.models.making import timm_name
from asel_lib.registry import RECIPES
from asel_lib.selection import policy_string
from asel_lib.training.jobs import Stage
from asel_lib.training.stages import check_trains, direct
from asel_lib.weights import first_mismatch

PLAIN = (str, int, float, bool, type(None))


def train(
    model: nn.Module | str,
    folder: str | Path,
    *,
    recipe: str = "anytime",
    selector: str = "",
    epochs: int | None = None,
    profile: str | Profile = "compact",
    image_size: int | None = None,
    white: float | None = None,
    black: float = 0.0,
    seed: int = 0,
    retrain: bool = False,
    device: str | torch.device | None = None,
    progress: bool = True,
    **changes,
) -> Stage:
    """Train a selective model on a folder of images: split, training, checkpoint and record, as the notebooks do on the
    direct schedule. With the same settings it is trained once, and loaded from then on.

    Args:
        model: timm's name of a model, which starts from its ImageNet weights, or its place, "hf-hub:owner/name" or
            "local-dir:folder"; or a model that you have, selective or not, which starts from its own and stays as it
            is. A head of another number of classes begins anew, and so does the selector.
        folder: of images, a folder a class, or the name of a known data set.
        recipe: a registered one.
        selector: the policy that is trained along; "": that of the model in hand, else the recipe's usual one.
        epochs: passes over the train part; None: as the profile has it.
        profile: the run's other settings, by name or as they are.
        image_size: pixels, square; None: the model's own.
        white: the number that is white in images of more than 8 bits; None: the profile's, else the set's own range.
        black: the number that is black there, beside a `white`.
        seed: of the training.
        retrain: train also where a checkpoint with these settings is there.
        device: None: a GPU where there is one.
        progress: show it.
        changes: of the direct schedule, e.g. batch_size=32, lr_backbone=1e-5 (`configs.StageSettings`).

    Returns:
        The trained model, which can predict, its file, record and history.

    Raises:
        ValueError: the model cannot be made again from what timm knows of it, the recipe does not train the selector,
            or a setting cannot hold.
        CheckpointError: there are no ImageNet weights of that name, or no model in that place.
        DatasetError: the folder holds no image set that can be split.
    """
    profile = configs.load(profile) if isinstance(profile, str) else profile
    profile = profile.for_direct()
    model = sources.timm_model(model) if sources.is_place(model) else model
    selector = selector or _own_selector(model, recipe) or RECIPES[recipe].selector or "learned"
    check_trains(recipe, selector)
    stage = changes if epochs is None else changes | {"epochs": epochs}
    schedule = configs.changed(profile.direct, stage, "train")
    settings, run = (_named if isinstance(model, str) else _in_hand)(model, profile, image_size)
    own = replace(profile, name=run, direct=schedule, direct_on={}, model=settings, direct_model=None)
    if white is not None:
        own = replace(own, reading=replace(profile.reading, white=float(white), black=float(black)))
    where = dict(seed=seed, retrain=retrain, device=device, progress=progress)
    return direct(own, str(folder), selector=selector, recipe=recipe, **where)


def _named(name: str, profile: Profile, size: int | None) -> tuple[ModelSettings, str]:
    """The network of that name, and the name of its run."""
    if name == profile.model.architecture:
        return replace(profile.model, image_size=size or profile.model.image_size), f"{profile.name}-{name}"
    known = timm.get_pretrained_cfg(name) if _is_known(name) else None
    if known is None:
        raise ValueError(
            f"{name!r} is no model that timm knows: timm.list_models('vit*') lists some; a folder is named "
            "'local-dir:folder', a model on a hub 'hf-hub:owner/name'"
        )
    size = size or known.input_size[1]
    return ModelSettings(name, image_size=size, start="imagenet"), f"{profile.name}-{name}"


def _in_hand(model: nn.Module, profile: Profile, size: int | None) -> tuple[ModelSettings, str]:
    """The network by which timm makes this model again, starting from its weights in a file of the run."""
    if not isinstance(model, SelectiveViT):
        family_of(model)
    architecture = _known_name(getattr(model, "pretrained_cfg", None) or {})
    if not architecture:
        raise ValueError(
            "the model does not say what timm calls it, and could not be made again from its checkpoint: make it with "
            "timm.create_model(name, ...), fill in your weights, and pass that"
        )
    held = tuple(model.patch_embed.img_size or ())
    if not size and (len(held) != 2 or held[0] != held[1]):
        raise ValueError(f"the model takes images of {held} pixels, and training resizes to squares: pass image_size")
    # Rates of dropping, which timm leaves out where a model is to be described, are part of a training.
    arguments = get_model_args(model, {key: value for key, value in _given(model).items() if key.endswith("_rate")})
    classes, channels = arguments.pop("num_classes"), arguments.pop("in_chans", 3)
    arguments.pop("img_size", None)
    for name, value in arguments.items():
        if name not in records.NETWORK or not isinstance(value, PLAIN):
            raise ValueError(
                f"the model was made with {name}={value!r}, which a checkpoint's record cannot hold: expected plain "
                f"values of {', '.join(sorted(records.NETWORK))}"
            )
    weights = {
        name: value.detach().cpu().float().contiguous() if value.is_floating_point() else value.detach().cpu()
        for name, value in model.state_dict().items()
        if not name.startswith("patch_drop.")
    }
    with torch.device("meta"):
        made = timm.create_model(
            architecture, num_classes=classes, in_chans=channels, img_size=held or None, **arguments
        )
    if found := first_mismatch(weights, made.state_dict()):
        name, here, there = found
        raise ValueError(
            f"the model's {name} is {here}, and {there} in what timm makes by {architecture!r}: merge adapters "
            "into the weights, and undo other changes of its parts first"
        )
    content = save_safetensors(weights, _normalisation(model, made))
    digest = fingerprint(content.hex())[:8]
    run = f"{profile.name}-{re.sub(r'[^A-Za-z0-9_.]', '_', architecture)}-{digest}"
    file = paths.run(run) / "start" / "weights.safetensors"
    replace_file(file, lambda opened: opened.write(content))
    settings = dict(arguments) if channels == 3 else arguments | {"in_chans": channels}
    return ModelSettings(architecture, image_size=size or held[0], timm=settings, start=str(file)), run


def _known_name(settings: dict) -> str:
    """timm's name of a model; without a tag that timm does not know, such as a user's own; "": it knows none."""
    names = (timm_name(settings), settings.get("architecture") or "")
    return next((name for name in names if _is_known(name)), "")


def _is_known(name: str) -> bool:
    if not name or not timm.is_model(name):
        return False
    try:
        timm.get_pretrained_cfg(name)
    except RuntimeError:  # of a known architecture, with a tag that is not
        return False
    return True


def _normalisation(model: nn.Module, made: nn.Module) -> dict[str, str] | None:
    """What the model's images are normalised by, for the file's header; None where it is what timm has of that name."""
    if isinstance(model, SelectiveViT):
        own = {"mean": model.patch_drop.mean, "std": model.patch_drop.std}
    else:
        own = {name: model.pretrained_cfg[name] for name in ("mean", "std")}
    if all(tuple(own[name]) == tuple(made.pretrained_cfg[name]) for name in own):
        return None
    return {name: " ".join(map(str, values)) for name, values in own.items()}


def _given(model: nn.Module) -> dict:
    return {key: value for key, value in getattr(model, "_model_args", {}).items() if isinstance(value, PLAIN)}


def _own_selector(model: nn.Module | str, recipe: str) -> str:
    """A selective model's, where the recipe trains it."""
    if not isinstance(model, SelectiveViT):
        return ""
    own = policy_string(model.selector)
    try:
        check_trains(recipe, own)
    except ValueError:
        return ""
    return own
