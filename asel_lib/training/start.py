"""What a training starts from: ImageNet weights, a file or a model of one's own, or random numbers."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from timm import create_model, get_pretrained_cfg
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from asel_lib import paths, sources
from asel_lib.configs import ModelSettings
from asel_lib.errors import CheckpointError
from asel_lib.files import read_tensors
from asel_lib.weights import first_mismatch

WRAPPERS = ("model_state_dict", "state_dict", "model")  # what a .pth may hold its weights under
HEAD = ("head.",)
EMBEDDINGS = ("patch_embed.", "pos_embed")


def described_start(settings: ModelSettings, pretrained: bool = True) -> str:
    """What a training's weights are before it begins, for its fingerprint and record. ImageNet weights are named, not
    opened: a checkpoint that is reused needs none.

    Args:
        settings: the network and what it starts from.
        pretrained: False: random weights, whatever the settings say.

    Returns:
        "imagenet", "random", or a file's or place's name and a digest of what it holds.

    Raises:
        CheckpointError: where such a file cannot be read.
    """
    if not pretrained or settings.start in ("random", "imagenet"):
        return settings.start if pretrained else "random"
    if sources.is_place(settings.start):
        return _described_place(settings.start)
    file = Path(settings.start).expanduser()
    try:
        return f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()[:16]}"
    except OSError as error:
        raise CheckpointError(f"start is {settings.start!r}, which cannot be read ({error.strerror})") from error


def load_start(model: nn.Module, architecture: str, start: str, leave: tuple[str, ...] = ()) -> None:
    """Fill a new model with the weights that its training starts from, and print a line that says which.

    Args:
        model: a SelectiveViT, filled in place; its selector keeps its own values. Its head does where the start has
            none, or one of another number of classes. Position embeddings of another grid are resampled.
        architecture: timm's name.
        start: "imagenet"; the path of a .safetensors or .pth file with timm's names; or a model with timm's
            configuration, "hf-hub:owner/name" or "local-dir:folder", by whose mean and standard deviation images are
            normalised then. "imagenet" is looked for in timm's own cache, then in
            data/weights/<architecture>.safetensors (or .pth), then it is downloaded.
        leave: beginnings of names that keep the model's own values.

    Raises:
        CheckpointError: where there are no such weights, or a name or a shape in them is not the model's.
    """
    if sources.is_place(start):
        return _load_place(model, start, leave)
    file = Path(start).expanduser() if start != "imagenet" else _cached(architecture) or _local(architecture)
    if file is not None:
        kept = fill_from(model, read_start(file), file, leave)
        normalise_by(model, **_normalisation(file))
        print(f"start: weights of {_shown(file)}{kept}")
        return
    try:
        downloaded = create_model(architecture, pretrained=True).state_dict()
    except sources.hub_errors() as error:
        raise CheckpointError(
            f"ImageNet weights of {architecture} are neither in timm's cache nor in data/weights/, and cannot be "
            f"downloaded ({type(error).__name__}): put them into {paths.data() / 'weights'}, as "
            f"{architecture}.safetensors, or set start: random in the profile"
        ) from error
    kept = fill_from(model, downloaded, f"timm's {architecture}", leave)
    print(f"start: weights of {architecture}, downloaded by timm{kept}")


def _load_place(model: nn.Module, start: str, leave: tuple[str, ...]) -> None:
    found = sources.timm_model(start)
    kept = fill_from(model, found.state_dict(), start, leave)
    for theirs, own in zip(_built(found), _built(model), strict=True):
        if theirs != own:
            raise CheckpointError(
                f"{start}: its weights fit, but its network is another ({theirs[:300]}; the profile's: {own[:300]}): "
                "give the profile's model that architecture and those settings of timm's"
            )
    normalise_by(model, **_normalised(found))
    print(f"start: weights of {start}{kept}")


def _described_place(start: str) -> str:
    """A place's name and a digest of its weights and of what its images are normalised by."""
    found = sources.timm_model(start)
    weights = {name: value.detach().contiguous() for name, value in found.state_dict().items()}
    content = save_safetensors(weights) + repr(sorted(_normalised(found).items())).encode()
    place, _, where = start.partition(":")
    shown = f"{place}:{Path(where).name}" if place == "local-dir" else start
    return f"{shown} {hashlib.sha256(content).hexdigest()[:16]}"


def _normalised(model: nn.Module) -> dict[str, Sequence[float]]:
    return {name: model.pretrained_cfg[name] for name in ("mean", "std")}


def _built(model: nn.Module) -> tuple[object, ...]:
    """What weights alone do not show of a network: how it pools, its heads, and its blocks' activations and norms."""
    heads = [getattr(getattr(block, "attn", None), "num_heads", None) for block in model.blocks]
    blocks = re.sub(r"(Dropout|DropPath|Identity)\([^()]*\)", "-", str(model.blocks))  # rates are the training's own
    return f"global_pool={model.global_pool!r}", f"num_heads={heads}", f"blocks {blocks}"


def normalise_by(model: nn.Module, mean: Sequence[float] | None = None, std: Sequence[float] | None = None) -> None:
    """Have a model's images normalised by these, in place of timm's of its architecture.

    Args:
        model: a SelectiveViT.
        mean: a number a channel; None: timm's stay.
        std: the same.
    """
    if mean is None or std is None:
        return
    mean, std = (tuple(float(value) for value in values) for values in (mean, std))
    model.pretrained_cfg = dict(model.pretrained_cfg, mean=mean, std=std)
    model.patch_drop.mean, model.patch_drop.std = mean, std


def _normalisation(file: Path) -> dict[str, list[float]]:
    """What `one_call` wrote into the file's header of a model whose images are not normalised as timm's are."""
    if file.suffix != ".safetensors":
        return {}
    with safe_open(file, "pt") as opened:
        told = opened.metadata() or {}
    try:
        return {name: [float(value) for value in told[name].split()] for name in ("mean", "std")}
    except (KeyError, ValueError):
        return {}


def read_start(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors or .pth file as float32; no code in it is run.

    Raises:
        CheckpointError: where it is missing, damaged or of another kind.
    """
    if file.suffix == ".safetensors":
        try:
            weights = load_safetensors(file.read_bytes())
        except (OSError, SafetensorError, ValueError) as error:
            raise CheckpointError(f"{file}: not a readable .safetensors file ({error})") from error
    elif file.suffix == ".pth":
        weights = read_tensors(file, WRAPPERS)
    else:
        raise CheckpointError(f"{file}: expected a .safetensors or .pth file of weights with timm's names")
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}


def fill_from(model: nn.Module, weights: Mapping[str, Tensor], source: object, leave: tuple[str, ...] = ()) -> str:
    """Load a network's weights into a SelectiveViT of the same architecture.

    Args:
        model: filled in place; its selector (`patch_drop.`) keeps its own values.
        weights: name -> tensor, by timm's names; those of a selector are left out. A head of another number of classes
            is left out, none at all is no error; `pos_embed` is resampled to the model's grid by timm's own function.
        source: what an error names.
        leave: beginnings of names that keep the model's own values.

    Returns:
        What is not of these weights, to be told: "; head begin anew", or "".

    Raises:
        CheckpointError: names what is missing, not known, or of another shape.
    """
    own, weights = (_but_for(("patch_drop.", *leave), held) for held in (model.state_dict(), weights))
    if "head.weight" in own and own["head.weight"].shape != getattr(weights.get("head.weight"), "shape", None):
        leave = (*HEAD, *leave)
        own, weights = (_but_for(HEAD, held) for held in (own, weights))
    if "pos_embed" in weights and "pos_embed" in own and weights["pos_embed"].shape != own["pos_embed"].shape:
        weights["pos_embed"] = _resampled(weights["pos_embed"], model, source)
    if found := first_mismatch(own, weights):
        name, here, there = found
        raise CheckpointError(
            f"{source}: {name} is {there}, this model has {here}: the weights are of another architecture; name a "
            "file of the profile's architecture, or set start: random"
        )
    model.load_state_dict(weights, strict=False)
    return f"; {', '.join(name.rstrip('.') for name in leave)} begin anew" if leave else ""


def _but_for(leave: tuple[str, ...], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value for name, value in weights.items() if not name.startswith(leave)}


def _resampled(positions: Tensor, model: nn.Module, source: object) -> Tensor:
    prefix = model.num_prefix_tokens if model.pos_embed.shape[1] > model.patch_embed.num_patches else 0
    side = round((positions.shape[1] - prefix) ** 0.5)
    if positions.ndim != 3 or side * side + prefix != positions.shape[1]:
        raise CheckpointError(f"{source}: pos_embed is {tuple(positions.shape)}: expected those of a square grid")
    return resample_abs_pos_embed(positions, list(model.patch_embed.grid_size), (side, side), prefix)


def _cached(architecture: str) -> Path | None:
    """The file that timm has downloaded earlier, without asking a network."""
    from huggingface_hub import try_to_load_from_cache

    settings = get_pretrained_cfg(architecture)
    if settings is None or not settings.hf_hub_id:
        return None
    found = try_to_load_from_cache(settings.hf_hub_id, "model.safetensors")
    return Path(found) if isinstance(found, str) else None


def _local(architecture: str) -> Path | None:
    found = [paths.data() / "weights" / f"{architecture}{end}" for end in (".safetensors", ".pth")]
    return next((file for file in found if file.is_file()), None)


def _shown(file: Path) -> str:
    return str(file.relative_to(paths.root())) if file.is_relative_to(paths.root()) else file.name
