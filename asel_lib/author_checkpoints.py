"""Checkpoints that the papers' authors published: .pth files of tensors."""

from pathlib import Path

from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor

from asel_lib.errors import CheckpointError
from asel_lib.files import read_pth, state_dict
from asel_lib.weights import fill

# timm's name for each width of the ViT family; the number of heads is not in a state dict, these have 64 a head.
ARCHITECTURES = {192: "vit_tiny_patch16_224", 384: "vit_small_patch16_224", 768: "vit_base_patch16_224"}
MOST_PATCHES = 2**18  # of an AgentViT, whose positions are not in the file
WRAPPERS = ("model_state_dict", "state_dict", "model")


def load_published(path: str | Path, classes: tuple[str, ...] | None = None, num_heads: int | None = None):
    """A SelectiveViT with a published checkpoint's weights, in eval mode.

    Three kinds are known by their entries:
        ASEL: `backbone.<timm names>` and `patch_selector.{0,1,3}.{weight,bias}`; the selector is "learned".
        Line-guided: `vit.<timm names>`; the selector is "line_guided" with sampling, as published.
        AgentViT: `model_state`, `dqn_state` and `config`; an AgentViT. The memory of its agent was not published: it is
            zero, as it was when its authors loaded the file.

    Size, patch, depth and classes are read off the tensors, of AgentViT the image size off its config. Nothing of the
    file but tensors is read (`weights_only=True`).

    Args:
        path: of the .pth file.
        classes: their names, in the order of the head (the sorted folder names, in the papers); None: numbers.
        num_heads: only for a width that is not ViT-Tiny's, -Small's or -Base's; None: width / 64.

    Raises:
        CheckpointError: where the file is of another kind.
    """
    try:
        return _loaded(path, classes, num_heads)
    except (KeyError, IndexError, TypeError, AttributeError, RuntimeError, ArithmeticError) as error:
        raise CheckpointError(
            f"{path}: not a published checkpoint ({type(error).__name__}: {str(error)[:300]}); download it again"
        ) from error


def _loaded(path: str | Path, classes: tuple[str, ...] | None, num_heads: int | None):
    from asel_lib.data.batches import transform

    held = read_pth(path)
    agent = isinstance(held, dict) and "dqn_state" in held
    state = {} if agent else state_dict(held, WRAPPERS, path)
    mean, std, resized = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5), None
    if agent:
        size, model = _agentvit(held, path)
    elif any(key.startswith("vit.") for key in state):
        size, model = _build(state, "vit.", {}, "line_guided:choice=sample", path, num_heads)
        mean, std, resized = IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, round(size * 292 / 256)
    else:
        size, model = _build(
            state, "backbone.", {"patch_selector.": "patch_drop.selector.mlp."}, "learned", path, num_heads
        )
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
            "expected backbone.* and patch_selector.*, or vit.*, or AgentViT's model_state, dqn_state and config"
        )
    embed = state[backbone + "patch_embed.proj.weight"]
    dim, patch = embed.shape[0], embed.shape[-1]
    side = round((state[backbone + "pos_embed"].shape[1] - 1) ** 0.5)
    depth = _depth(state, backbone + "blocks.", path)
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
    fill(model, weights, path)
    return side * patch, model


def _agentvit(held: dict, path: str | Path):
    """-> (image size, AgentViT with the weights of both networks)."""
    from asel_lib.models import AgentViT

    try:
        state, agent = state_dict(held["model_state"], (), path), state_dict(held["dqn_state"], (), path)
        config = held["config"]
        size, patch, heads = (int(config[key]) for key in ("resize_dim", "patch_size", "heads"))
        dim = len(state["to_patch_embedding.2.bias"])
        inner, mlp = (
            len(state["transformer.layers.0.0.to_qkv.weight"]) // 3,
            len(state["transformer.layers.0.1.net.1.bias"]),
        )
        classes = len(state["linear_head.1.bias"])
        depth = _depth(state, "transformer.layers.", path)
        if heads < 1 or inner % heads or patch < 1 or size % patch or (size // patch) ** 2 > MOST_PATCHES:
            raise ValueError(f"{heads} heads for a width of {inner}, patches of {patch} for {size} pixels")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{path}: not a published AgentViT checkpoint: {error!r} is missing or of another kind; expected "
            "model_state, dqn_state and a config with resize_dim, patch_size and heads"
        ) from error
    model = AgentViT(classes, "agent", size, patch, dim, depth, heads, inner // heads, mlp)
    own = model.state_dict()
    weights = {key: own[key] for key in ("pos_embed", "patch_drop.selector.memory")}  # neither is in the file
    weights |= {f"patch_drop.selector.q_{key.replace('fc_layers', 'network')}": value for key, value in agent.items()}
    for key, value in state.items():
        weights[_agentvit_name(key)] = value
    for key in ("patch_embed.pixel_norm.weight", "patch_embed.pixel_norm.bias", "patch_embed.proj.weight"):
        if key in weights:  # a patch's values: theirs row by row with the colours innermost, ours colour by colour
            weights[key] = weights[key].unflatten(-1, (patch, patch, -1)).movedim(-1, -3).flatten(-3)
    if (embed := "patch_embed.proj.weight") in weights:
        weights[embed] = weights[embed].unflatten(1, (-1, patch, patch))
    fill(model, {key: value.float() for key, value in weights.items()}, path)
    return size, model


def _depth(state: dict[str, Tensor], blocks: str, path: str | Path) -> int:
    """How many blocks a state dict has, whose entries begin with <blocks><number>. CheckpointError where they are not
    numbered one after the other: a number alone could ask for any size."""
    found = {key.removeprefix(blocks).split(".")[0] for key in state if key.startswith(blocks)}
    if found != {str(number) for number in range(len(found))}:
        raise CheckpointError(f"{path}: its blocks are {sorted(found)[:8]}, expected 0, 1, 2 ...: download it again")
    return len(found)


def _agentvit_name(key: str) -> str:
    """The published name of a tensor -> ours, which is timm's."""
    fixed = {
        "to_patch_embedding.1": "patch_embed.pixel_norm",
        "to_patch_embedding.2": "patch_embed.proj",
        "to_patch_embedding.3": "patch_embed.norm",
        "linear_head.0": "fc_norm",
        "linear_head.1": "head",
    }
    in_block = {
        "0.norm": "norm1",
        "0.to_qkv": "attn.qkv",
        "0.to_out": "attn.proj",
        "1.net.0": "norm2",
        "1.net.1": "mlp.fc1",
        "1.net.3": "mlp.fc2",
    }
    stem, _, kind = key.rpartition(".")
    if stem.startswith("transformer.layers."):
        number, _, part = stem.removeprefix("transformer.layers.").partition(".")
        return f"blocks.{number}.{in_block.get(part, part)}.{kind}"
    return f"{fixed.get(stem, stem)}.{kind}"
