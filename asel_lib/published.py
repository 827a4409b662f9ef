"""Checkpoints that the papers' authors published: state dicts in .pth files."""

from pathlib import Path

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from asel_lib import checkpoints
from asel_lib.errors import CheckpointError
from asel_lib.files import read_tensors

# timm's name for each width of the ViT family; the number of heads is not in a state dict, these have 64 a head.
ARCHITECTURES = {192: "vit_tiny_patch16_224", 384: "vit_small_patch16_224", 768: "vit_base_patch16_224"}
WRAPPERS = ("model_state_dict", "state_dict", "model")


def load_published(path: str | Path, classes: tuple[str, ...] | None = None, num_heads: int | None = None):
    """A SelectiveViT with a published checkpoint's weights, in eval mode. Two kinds are known by their entries:

    ASEL: `backbone.<timm names>` and `patch_selector.{0,1,3}.{weight,bias}`, the selector is "learned".
    Line-guided: `vit.<timm names>`, the selector is "line_guided" with sampling, as published.
    Size, patch, depth and classes are read off the tensors.

    classes: their names, in the order of the head (the sorted folder names, in the papers); numbers where not given.
    num_heads: only for a width that is not ViT-Tiny's, -Small's or -Base's (default: width / 64).
    Nothing of the file but tensors is read (`weights_only=True`). CheckpointError where it is of another kind.
    """
    from asel_lib.data.batches import transform

    state = read_tensors(path, WRAPPERS)
    if any(key.startswith("vit.") for key in state):
        size, model = _build(state, "vit.", {}, "line_guided:choice=sample", path, num_heads)
        mean, std, resized = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, round(size * 292 / 256)
    else:
        size, model = _build(
            state, "backbone.", {"patch_selector.": "patch_drop.selector.mlp."}, "learned", path, num_heads
        )
        mean, std, resized = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), None
    model.classes = tuple(classes or map(str, range(model.num_classes)))
    if len(model.classes) != model.num_classes:
        raise ValueError(
            f"{len(model.classes)} class names for a head of {model.num_classes} classes: give one name for each"
        )
    model.transform = transform(size, mean, std, resized)
    model.patch_drop.mean, model.patch_drop.std = mean, std
    return model.eval()


def _build(
    state: dict[str, Tensor], backbone: str, others: dict[str, str], selector: str, path: str | Path, heads: int | None
):
    """-> (image size, model with the weights). backbone: prefix of timm's entries; others: prefix -> ours."""
    from asel_lib.models import SelectiveViT

    needed = [backbone + name for name in ("pos_embed", "patch_embed.proj.weight", "head.weight")]
    needed += [prefix + "0.weight" for prefix in others]
    if missing := [key for key in needed if key not in state]:
        raise CheckpointError(
            f"{path}: not a published ASEL or line-guided checkpoint: it lacks {', '.join(missing)}; "
            "expected backbone.* and patch_selector.*, or vit.*"
        )
    embed = state[backbone + "patch_embed.proj.weight"]
    dim, patch = embed.shape[0], embed.shape[-1]
    side = round((state[backbone + "pos_embed"].shape[1] - 1) ** 0.5)
    depth = 1 + max(int(key.split(".")[2]) for key in state if key.startswith(backbone + "blocks."))
    model = SelectiveViT(
        ARCHITECTURES.get(dim, "vit_tiny_patch16_224"),
        state[backbone + "head.weight"].shape[0],
        selector,
        img_size=side * patch,
        patch_size=patch,
        embed_dim=dim,
        depth=depth,
        num_heads=heads or max(1, dim // 64),
    )
    names, weights = {backbone: "", **others}, {}
    for key, value in state.items():
        old = next((start for start in names if key.startswith(start)), None)
        if old is None:
            raise CheckpointError(f"{path}: not a published checkpoint: unexpected entry {key!r}")
        weights[names[old] + key[len(old) :]] = value.float()
    checkpoints.fill(model, weights, path)
    return side * patch, model
