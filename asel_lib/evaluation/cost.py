"""What a forward costs: multiply-accumulates, latency and throughput, memory."""

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils import flop_counter

from asel_lib.devices import autocast
from asel_lib.evaluation import memory, timing
from asel_lib.models.predict import evaluating
from asel_lib.selection import keep_count

# Matrix products that torch's counter leaves out, which knows those of matrices alone: two floating-point operations
# for each multiply-accumulate, as it counts itself.
_PRODUCTS = {
    torch.ops.aten.mv: lambda matrix, *_, **__: 2 * prod(matrix),
    torch.ops.aten.addmv: lambda _, matrix, *__, **___: 2 * prod(matrix),
    torch.ops.aten.dot: lambda vector, *_, **__: 2 * prod(vector),
}
_FUSED_ATTENTION = [operator for operator in flop_counter.flop_registry if "scaled_dot_product" in str(operator)]


class Macs(NamedTuple):
    """1e9 multiply-accumulates of a forward of one image; `selector` is the part of `total` spent on
    choosing."""

    total: float
    selector: float


def gmacs(
    model: nn.Module,
    image_size: int | tuple[int, int],
    keep_ratio: float,
    policy: str | None = None,
    lines: Tensor | None = None,
    attention: bool = True,
) -> Macs:
    """Count what one forward of one image multiplies and accumulates, by torch's own counter, in eval mode.

    Counted: convolutions (those that draw lines too), linear layers and matrix products, also inside the fused
    attention operator. Not counted: everything element by element (normalisation, activation, softmax) and resampling.

    Args:
        model: a SelectiveViT.
        image_size: (height, width) or the side, pixels.
        keep_ratio: in (0, 1].
        policy: who chooses; None: the model's own selector.
        lines: drawings (1 or more, 1, h, w) for a selector that does not draw them itself.
        attention: False: without the fused attention operator, as published counts are.

    Returns:
        The whole and the selector's part, 1e9 multiply-accumulates. What a selector embeds to look at is the model's.
    """
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    device = next(model.parameters()).device
    lines = None if lines is None else model.patch_drop.brought(policy, lines[:1])
    chooser = model.chooser(policy)
    # With gradients: without, torch's counter stumbles over a parameter that is a module's input (attention pooling).
    with evaluating(model), torch.inference_mode(False), torch.enable_grad():
        images = torch.zeros(1, model.patch_embed.proj.in_channels, height, width, device=device)
        total, inside = _macs(lambda: model(images, keep_ratio, policy, lines), attention)
        if keep_ratio == 1:
            return Macs(total / 1e9, 0.0)
        if chooser.keeps_patches():
            view = model.view(images, policy, lines)
            view.tokens()
            inside, _ = _macs(lambda: chooser.score_before_blocks(view), attention)
    return Macs(total / 1e9, inside / 1e9)


def analytic_gmacs(
    num_patches: int,
    kept: int,
    dim: int,
    depth: int,
    mlp_ratio: float,
    num_prefix: int,
    patch_size: int,
    in_chans: int,
    num_classes: int,
    embedded: int | None = None,
) -> float:
    """The operations of a plain ViT by hand, in 1e9 multiply-accumulates, as a second formula that checks the first.

    Args:
        num_patches: N.
        kept: patches that the blocks see.
        dim: D, width of a token.
        depth: blocks.
        mlp_ratio: width of the MLP over D.
        num_prefix: class and register tokens.
        patch_size: pixels.
        in_chans: channels of an image.
        num_classes: of the head.
        embedded: patches that are embedded; None: all.
    """
    tokens = kept + num_prefix
    embedding = (num_patches if embedded is None else embedded) * dim * in_chans * patch_size**2
    weights = 4 * dim**2 + 2 * dim * int(dim * mlp_ratio)  # q, k, v, output; the MLP's two layers
    attention = 2 * tokens**2 * dim  # QK^T and AV, all heads
    return (embedding + depth * (tokens * weights + attention) + dim * num_classes) / 1e9


def scaling(architectures: Sequence[str], ratios: Sequence[float], num_classes: int = 1000) -> pd.DataFrame:
    """What an image costs where only the kept patches are embedded, by formula: no model is run.

    Args:
        architectures: timm's names, each at its own image size.
        ratios: keep ratios.
        num_classes: of the head.

    Returns:
        Columns architecture, keep_ratio, gmacs.
    """
    import timm

    rows = []
    for architecture in architectures:
        with torch.device("meta"):  # shapes without weights
            vit = timm.create_model(architecture, num_classes=num_classes)
        patches, patch = vit.patch_embed.num_patches, vit.patch_embed.patch_size[0]
        mlp_ratio = vit.blocks[0].mlp.fc1.out_features / vit.embed_dim
        for ratio in ratios:
            kept = keep_count(patches, ratio)
            count = analytic_gmacs(
                patches,
                kept,
                vit.embed_dim,
                len(vit.blocks),
                mlp_ratio,
                vit.num_prefix_tokens,
                patch,
                vit.patch_embed.proj.in_channels,
                num_classes,
                embedded=kept,
            )
            rows.append({"architecture": architecture, "keep_ratio": ratio, "gmacs": count})
    return pd.DataFrame(rows)


def choosing(
    model: nn.Module,
    images: Tensor,
    ratio: float,
    policies: Sequence[str],
    precision: str = "float32",
    seconds: float = 2.0,
    rounds: int = 7,
    lines: Tensor | None = None,
) -> pd.DataFrame:
    """What choosing takes of a forward: the time of `select` over that of the ViT on as many patches.

    The time of `select` is that of drawing lines, scoring and ranking; of "learned" also of embedding all patches,
    which it reads. The ViT's patches are chosen for next to nothing ("central"). Both are timed in turn, round after
    round.

    Args:
        model: a SelectiveViT.
        images: (B, C, H, W), on the model's device.
        ratio: keep ratio.
        policies: those that are timed.
        precision: as resolved by `devices`.
        seconds: for each policy.
        rounds: of timing.
        lines: (B, 1, h, w), of a policy that is given them.

    Returns:
        A row a policy: share is the median of the rounds' ratios, share_low and share_high its quartiles; ms: of the
        batch.
    """
    calls = {policy: partial(_choose, model, images, ratio, policy, lines) for policy in policies}
    calls[""] = partial(model, images, ratio, "central")
    with evaluating(model), torch.inference_mode(), autocast(images.device, precision):
        times = timing.in_turn(calls, seconds / len(calls), rounds)
    rows = []
    for policy in policies:
        share = timing.ratio(times[policy], times[""])
        rows.append(
            {
                "policy": policy,
                "keep_ratio": ratio,
                "choosing_ms": np.median(times[policy]),
                "vit_ms": np.median(times[""]),
                "share": share.middle,
                "share_low": share.low,
                "share_high": share.high,
            }
        )
    return pd.DataFrame(rows)


def table(model: nn.Module, ratios: Sequence[float], batch_size: int = 8, seconds: float = 0.5) -> pd.DataFrame:
    """Cost and time of a model by its own selector.

    Args:
        model: a SelectiveViT.
        ratios: keep ratios, measured in turn.
        batch_size: of random images.
        seconds: of timing.

    Returns:
        A row a keep ratio: GMACs of an image, ms of a batch, and both as a share of the first ratio's.
    """
    size = model.patch_embed.img_size[0]
    images = torch.randn(batch_size, 3, size, size, device=next(model.parameters()).device)
    times = latencies(model, images, ratios, [None], seconds=seconds)
    rows = [
        {
            "keep ratio": ratio,
            "patches": keep_count(model.patch_embed.num_patches, ratio),
            "GMACs": gmacs(model, size, ratio).total,
            f"ms for {batch_size} images": times[None, ratio].median_ms,
        }
        for ratio in ratios
    ]
    frame = pd.DataFrame(rows)
    frame["GMACs saved"] = frame["GMACs"].iloc[0] / frame["GMACs"]
    frame["speed-up"] = frame.iloc[0, 3] / frame.iloc[:, 3]
    return frame.round(3)


def latencies(
    model: nn.Module,
    images: Tensor,
    ratios: Sequence[float],
    policies: Sequence[str | None],
    precision: str = "float32",
    seconds: float = 1.0,
    rounds: int = 5,
    lines: Tensor | None = None,
) -> dict[tuple[str | None, float], timing.Latency]:
    """Time every (policy, ratio) in turn, round after round, so that a drift of the machine hits all alike.

    Warm-up forwards are not counted; torch's Timer waits for the device before and after.

    Args:
        model: a SelectiveViT.
        images: (B, C, H, W), on the model's device.
        ratios: keep ratios.
        policies: None: the model's own.
        precision: as resolved by `devices`.
        seconds: what each pair gets over all rounds, at least one forward a round.
        rounds: of timing.
        lines: (B, 1, h, w), of a policy that is given them.
    """
    pairs = list(dict.fromkeys(itertools.product(policies, ratios)))
    # With all patches kept nothing is chosen: one measurement stands for every policy.
    asked, pairs = pairs, [pair for pair in pairs if pair[1] != 1 or pair[0] == policies[0]]
    calls = {
        (policy, ratio): partial(model, images, ratio, policy, model.patch_drop.brought(policy, lines))
        for policy, ratio in pairs
    }
    with evaluating(model), torch.inference_mode(), autocast(images.device, precision):
        times = timing.in_turn(calls, seconds, rounds)
    found = {pair: timing.latency(measured, len(images)) for pair, measured in times.items()}
    return {pair: found[pair if pair in found else (policies[0], pair[1])] for pair in asked}


def peak_memory(
    model: nn.Module,
    images: Tensor,
    keep_ratio: float,
    policy: str | None = None,
    precision: str = "float32",
    lines: Tensor | None = None,
) -> float:
    """Most memory in use at once during a forward, above what was there before it, in MB (1e6 bytes); arguments as of
    `SelectiveViT`'s call, `precision` as resolved by `devices`."""
    with evaluating(model), torch.inference_mode(), autocast(images.device, precision):
        lines = model.patch_drop.brought(policy, lines)
        model(images, keep_ratio, policy, lines)  # what is allocated once and kept is not a forward's own
        return memory.peak(lambda: model(images, keep_ratio, policy, lines), images.device) / 1e6


def _macs(call: Callable[[], object], attention: bool) -> tuple[float, float]:
    """Multiply-accumulates of a call: all, and those of the modules of a model's own selector."""
    uncounted = {} if attention else dict.fromkeys(_FUSED_ATTENTION, lambda *_, **__: 0)
    with flop_counter.FlopCounterMode(display=False, custom_mapping=_PRODUCTS | uncounted) as counter:
        call()
    found = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items() if ".patch_drop." in name}
    outer = [name for name in found if not any(name.startswith(f"{other}.") for other in found)]
    return counter.get_total_flops() / 2, sum(found[name] for name in outer) / 2


def _choose(model: nn.Module, images: Tensor, ratio: float, policy: str, lines: Tensor | None) -> Tensor:
    return model.select(images, ratio, policy, model.patch_drop.brought(policy, lines))
