"""Checkpoints that the papers' authors published: plain state dicts in .pth files."""

from pathlib import Path

import torch
from torch import Tensor

from asel_lib import checkpoints
from asel_lib.errors import CheckpointError

# timm's name for each width of the ViT family; the number of heads is not in a state dict, these have 64 a head.
ARCHITECTURES = {192: "vit_tiny_patch16_224", 384: "vit_small_patch16_224", 768: "vit_base_patch16_224"}


def load_published(path: str | Path, classes: tuple[str, ...] | None = None, num_heads: int | None = None):
    """A SelectiveViT with a published ASEL checkpoint's weights, in eval mode: `backbone.<timm names>` and
    `patch_selector.{0,1,3}.{weight,bias}`. Size, patch, depth and classes are read off the tensors.

    classes: their names, in the order of the head (the sorted folder names, in the papers); numbers where not given.
    num_heads: only for a width that is not ViT-Tiny's, -Small's or -Base's (default: width / 64).
    Nothing of the file but tensors is read (`weights_only=True`). CheckpointError where it is of another kind.
    """
    from asel_lib.data.batches import transform
    from asel_lib.models import SelectiveViT

    state = read_published(path)
    prefix, selector = "backbone.", "patch_selector."
    needed = [prefix + "pos_embed", prefix + "patch_embed.proj.weight", prefix + "head.weight", selector + "0.weight"]
    missing = [key for key in needed if key not in state]
    if missing:
        raise CheckpointError(
            f"{path}: not a published ASEL checkpoint: it lacks {', '.join(missing)}; "
            "expected backbone.* and patch_selector.*"
        )
    embed = state[prefix + "patch_embed.proj.weight"]
    dim, patch = embed.shape[0], embed.shape[-1]
    side = round((state[prefix + "pos_embed"].shape[1] - 1) ** 0.5)
    depth = 1 + max(int(key.split(".")[2]) for key in state if key.startswith(prefix + "blocks."))
    num_classes = state[prefix + "head.weight"].shape[0]
    classes = tuple(classes or map(str, range(num_classes)))
    if len(classes) != num_classes:
        raise ValueError(f"{len(classes)} class names for a head of {num_classes} classes: give one name for each")
    model = SelectiveViT(
        ARCHITECTURES.get(dim, "vit_tiny_patch16_224"),
        num_classes,
        "learned",
        img_size=side * patch,
        patch_size=patch,
        embed_dim=dim,
        depth=depth,
        num_heads=num_heads or max(1, dim // 64),
    )
    names = {prefix: "", selector: "patch_drop.selector.mlp."}
    weights = {}
    for key, value in state.items():
        old = next((start for start in names if key.startswith(start)), None)
        if old is None:
            raise CheckpointError(f"{path}: not a published ASEL checkpoint: unexpected entry {key!r}")
        weights[names[old] + key[len(old) :]] = value.float()
    checkpoints.fill(model, weights, path)
    model.classes = classes
    model.transform = transform(side * patch, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    return model.eval()


def read_published(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a .pth file. No code in it is run."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn zip, a pickle with code, a missing file: each has its own type
        raise CheckpointError(f"{path}: not a readable .pth of tensors ({type(error).__name__}: {error})") from error
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: expected a plain state dict (name -> tensor), found {type(state).__name__}")
    return state
