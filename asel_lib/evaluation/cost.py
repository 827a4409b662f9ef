"""What a forward costs: multiply-accumulates, latency and throughput, memory."""

import itertools
import logging
import warnings
from collections.abc import Sequence
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from asel_lib.devices import autocast
from asel_lib.evaluation import memory, timing
from asel_lib.selection import keep_count
from asel_lib.selection.slot import Call as SlotCall

# Operators without a multiply-accumulate of a matrix product: element by element, reductions, sorting, moving
# data. Any other that fvcore does not know is reported, since it may hold some.
_FREE = frozenset(
    "aten::" + name
    for name in (
        "abs add add_ all any argsort bitwise_and bitwise_or bitwise_xor cumsum div div_ erf exp expand_as fill_ gelu "
        "gelu_ hardswish isfinite le log log2 lt maximum mean meshgrid min minimum mul mul_ ne neg new_ones norm pow "
        "rand randn_like rand_like reciprocal repeat rms_norm rsqrt rsub scatter scatter_ sigmoid sign silu sin cos "
        "softmax log_softmax sort sqrt square sub sub_ sum tanh tile topk unbind unflatten where xor __rshift__ "
        "__lshift__ __or__ __xor__ repeat_interleave __interpolate upsample_bicubic2d _upsample_bicubic2d_aa "
        "logical_not logical_and one_hot amax amin clamp_max clamp_max_ clamp_min lift_fresh linspace numpy_T "
        "linalg_vector_norm scatter_add index_select "
        "ones_like pad tanh_"
    ).split()
)


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
    """Count by fvcore's trace of one forward (batch of 1, float32); image_size: (height, width) or the side; lines
    (1 or more, 1, h, w) for a selector that does not draw them itself.

    Counted: convolutions (those that draw lines too), linear layers and matrix products, and both products inside the
    fused attention operator, which fvcore leaves out by itself. Not counted: everything element by element
    (normalisation, activation, softmax) and resampling. An operator that fvcore does not know and that may hold matrix
    products is logged as a warning. attention False: without the fused operator, as published counts are.
    """
    parameter = next(model.parameters())
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    images = torch.zeros(1, model.patch_embed.proj.in_channels, height, width, device=parameter.device)
    was_training = model.training
    lines = None if lines is None else model.patch_drop.brought(policy, lines[:1])
    call = _Call(model.eval(), keep_ratio, policy, lines)
    try:
        with torch.no_grad():
            total, selector = _count(call, images, attention)
            if keep_ratio < 1 and not model.patch_drop.chooser(SlotCall(policy=policy)).reads_patches:
                selector, _ = _count(_Scores(model, policy, lines), images, attention)  # it has nothing else to do
    finally:
        model.train(was_training)
    return Macs(total / 1e9, selector / 1e9)


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
    """The same count by hand, without the selector: 1e9 multiply-accumulates of a plain ViT whose blocks see
    `kept` of N patches, of which `embedded` were embedded (default: all). A second formula that checks the first."""
    tokens = kept + num_prefix
    embedding = (num_patches if embedded is None else embedded) * dim * in_chans * patch_size**2
    weights = 4 * dim**2 + 2 * dim * int(dim * mlp_ratio)  # q, k, v, output; the MLP's two layers
    attention = 2 * tokens**2 * dim  # QK^T and AV, all heads
    return (embedding + depth * (tokens * weights + attention) + dim * num_classes) / 1e9


def scaling(architectures: Sequence[str], ratios: Sequence[float], num_classes: int = 1000) -> pd.DataFrame:
    """architecture, keep_ratio, gmacs: what an image costs where only the kept patches are embedded, of timm models by
    name, at their own image size. By formula: no model is run."""
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
    """What choosing takes of a forward: for each policy the time of `select` (drawing lines, scoring, ranking; of
    "learned" also embedding all patches, which it reads) over that of the ViT on as many patches, chosen for next to
    nothing ("central"). Both in turn, round after round; the share is the median of the rounds' ratios, share_low and
    share_high its quartiles. ms: of the batch.
    """
    was_training = model.training
    model.eval()
    calls = {policy: partial(_choose, model, images, ratio, policy, lines) for policy in policies}
    calls[""] = partial(model, images, ratio, "central")
    try:
        with torch.inference_mode(), autocast(images.device, precision):
            times = timing.in_turn(calls, seconds / len(calls), rounds)
    finally:
        model.train(was_training)
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
    """A row a keep ratio for the model's own selector: GMACs of an image, and the time of a batch of random images,
    the ratios measured in turn; both also as a share of the first ratio's."""
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

    seconds: what each pair gets over all rounds, at least one forward a round. Warm-up forwards are not
    counted; torch's Timer waits for the device before and after. -> one Latency a pair.
    """
    pairs = list(dict.fromkeys(itertools.product(policies, ratios)))
    # With all patches kept nothing is chosen: one measurement stands for every policy.
    asked, pairs = pairs, [pair for pair in pairs if pair[1] != 1 or pair[0] == policies[0]]
    was_training = model.training
    model.eval()
    calls = {
        (policy, ratio): partial(model, images, ratio, policy, model.patch_drop.brought(policy, lines))
        for policy, ratio in pairs
    }
    try:
        with torch.inference_mode(), autocast(images.device, precision):
            times = timing.in_turn(calls, seconds, rounds)
    finally:
        model.train(was_training)
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
    """Most memory in use at once during a forward of `images`, above what was there before it (weights,
    images): activations and workspace, MB (1e6 bytes)."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode(), autocast(images.device, precision):
            lines = model.patch_drop.brought(policy, lines)
            model(images, keep_ratio, policy, lines)  # what is allocated once and kept is not a forward's own
            return memory.peak(lambda: model(images, keep_ratio, policy, lines), images.device) / 1e6
    finally:
        model.train(was_training)


class _Call(nn.Module):
    """A forward with its settings fixed, since a tracer passes tensors only."""

    def __init__(self, model: nn.Module, keep_ratio: float, policy: str | None, lines: Tensor | None):
        super().__init__()
        self.model, self.keep_ratio, self.policy, self.lines = model, keep_ratio, policy, lines

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images, self.keep_ratio, self.policy, self.lines)


class _Scores(nn.Module):
    """Only the choice, for a selector that does not wait for the embedding."""

    def __init__(self, model: nn.Module, policy: str | None, lines: Tensor | None):
        super().__init__()
        self.model, self.policy, self.lines = model, policy, lines

    def forward(self, images: Tensor) -> Tensor:
        return self.model.scores(images, self.policy, self.lines)


def _count(call: nn.Module, images: Tensor, attention: bool = True) -> tuple[float, float]:
    """(all, the selector's) multiply-accumulates, by fvcore."""
    with warnings.catch_warnings():  # fvcore scripts a loss of its own as it is imported, which torch calls deprecated
        warnings.simplefilter("ignore", FutureWarning)
        from fvcore.nn import FlopCountAnalysis  # here, as below: seconds to import, and not every notebook counts

    analysis = FlopCountAnalysis(call, images)
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    fused = _attention_macs if attention else lambda inputs, outputs: 0
    analysis.set_op_handle("aten::scaled_dot_product_attention", fused)
    for name in (
        "layer_norm",
        "group_norm",
        "batch_norm",
        "instance_norm",
        "grid_sampler",
        "adaptive_avg_pool2d",
        "upsample_nearest2d",
        "upsample_bilinear2d",
    ):
        analysis.set_op_handle(f"aten::{name}", lambda inputs, outputs: 0)
    total, selector = analysis.total(), analysis.total("model.patch_drop")
    unknown = sorted(set(analysis.unsupported_ops()) - _FREE)
    if unknown:
        logging.getLogger(__name__).warning(
            "GMACs may be too low: fvcore does not know %s; give it a handle here, or name it among the free ones",
            ", ".join(unknown),
        )
    return total, selector


def _attention_macs(inputs: list, outputs: list) -> int:
    """q (..., L, E), k (..., S, E), v (..., S, Ev): QK^T takes L*S*E, AV L*S*Ev."""
    from fvcore.nn.jit_handles import get_shape

    query, key, value = (get_shape(tensor) for tensor in inputs[:3])
    return prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def _choose(model: nn.Module, images: Tensor, ratio: float, policy: str, lines: Tensor | None) -> Tensor:
    return model.select(images, ratio, policy, model.patch_drop.brought(policy, lines))
