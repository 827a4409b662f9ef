"""What a training starts from: ImageNet weights, a file of one's own, or random numbers."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from timm import create_model, get_pretrained_cfg
from timm.layers import resample_abs_pos_embed
from torch import Tensor, nn

from asel_lib import paths
from asel_lib.errors import CheckpointError
from asel_lib.files import read_tensors

WRAPPERS = ("model_state_dict", "state_dict", "model")  # what a .pth may hold its weights under
HEAD = ("head.",)
EMBEDDINGS = ("patch_embed.", "pos_embed")


def load_start(model: nn.Module, architecture: str, start: str, leave: tuple[str, ...] = ()) -> str:
    """Fill a new model with the weights that its training starts from, and print a line that says which.

    Args:
        model: a SelectiveViT, filled in place; its selector keeps its own values. Its head does where the file's has
            another number of classes. Position embeddings of another grid are resampled.
        architecture: timm's name.
        start: "imagenet", or the path of a .safetensors or .pth file with timm's names. "imagenet" is looked for in
            timm's own cache, then in data/weights/<architecture>.safetensors (or .pth), then it is downloaded.
        leave: beginnings of names that keep the model's own values.

    Returns:
        16 hex digits of the weights' file, "" where timm downloaded it.

    Raises:
        CheckpointError: where there are no such weights, or a name or a shape in them is not the model's.
    """
    file = Path(start).expanduser() if start != "imagenet" else _cached(architecture) or _local(architecture)
    but = f", but for {' and '.join(leave)}" if leave else ""
    if file is not None:
        fill_from(model, read_start(file), file, leave)
        print(f"start: weights of {_shown(file)}{but}")
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    try:
        downloaded = create_model(architecture, pretrained=True).state_dict()
    except _hub_errors() as error:
        raise CheckpointError(
            f"ImageNet weights of {architecture} are neither in timm's cache nor in data/weights/, and cannot be "
            f"downloaded ({type(error).__name__}): put them into {paths.data() / 'weights'}, as "
            f"{architecture}.safetensors, or set start: random in the profile"
        ) from error
    fill_from(model, downloaded, f"timm's {architecture}", leave)
    print(f"start: weights of {architecture}, downloaded by timm{but}")
    return ""


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


def fill_from(model: nn.Module, weights: Mapping[str, Tensor], source: object, leave: tuple[str, ...] = ()) -> None:
    """Load a network's weights into a SelectiveViT of the same architecture.

    Args:
        model: filled in place; its selector (`patch_drop.`) keeps its own values.
        weights: name -> tensor, by timm's names. A head of another number of classes is left out; `pos_embed` is
            resampled to the model's grid by timm's own function.
        source: what an error names.
        leave: beginnings of names that keep the model's own values.

    Raises:
        CheckpointError: names what is missing, not known, or of another shape.
    """
    kept = ("patch_drop.", *leave)
    own = {name: value for name, value in model.state_dict().items() if not name.startswith(kept)}
    weights = {name: value for name, value in weights.items() if not (leave and name.startswith(leave))}
    if any(name in weights and name in own and weights[name].shape != own[name].shape for name in ("head.weight",)):
        weights = {name: value for name, value in weights.items() if not name.startswith(HEAD)}
        own = {name: value for name, value in own.items() if not name.startswith(HEAD)}
    if "pos_embed" in weights and "pos_embed" in own and weights["pos_embed"].shape != own["pos_embed"].shape:
        weights["pos_embed"] = _resampled(weights["pos_embed"], model, source)
    for name in sorted(own.keys() | weights.keys()):
        here, there = (tuple(held[name].shape) if name in held else "missing" for held in (own, weights))
        if here != there:
            raise CheckpointError(
                f"{source}: {name} is {there}, this model has {here}: the weights are of another architecture; name a "
                "file of the profile's architecture, or set start: random"
            )
    model.load_state_dict(weights, strict=False)


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


def _hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises without a network; its own errors are OSErrors, its HTTP library's may not be."""
    try:
        from httpx import HTTPError
    except ImportError:
        return (OSError, RuntimeError)
    return (OSError, RuntimeError, HTTPError)
