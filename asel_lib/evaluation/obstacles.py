"""What stood between fewer operations and less time, each measured as it would be done first and as it is done here."""

from collections.abc import Callable

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from asel_lib.configs import Profile
from asel_lib.devices import autocast, default_device, resolve_precision
from asel_lib.evaluation import timing
from asel_lib.evaluation.bench_models import model_of, pixels
from asel_lib.models.at_ratio import AtRatio
from asel_lib.models.kept_embed import take_patches
from asel_lib.selection import View, gather_patches
from asel_lib.selection.glance import SCALES


def before_after(
    profile: Profile,
    *,
    keep_ratio: float = 0.5,
    batches: tuple[int, ...] = (1, 64),
    seconds: float = 0.5,
    rounds: int = 7,
    device: str | torch.device | None = None,
) -> pd.DataFrame:
    """What each obstacle costs: the same work before and after it was taken away.

    Args:
        profile: whose model.
        keep_ratio: in (0, 1].
        batches: batch sizes.
        seconds: of timing, for each pair.
        rounds: of timing.
        device: None: the default one.

    Returns:
        A row a (what, batch size): ms before and after, the ratio (median of rounds, quartiles), and the largest
        difference of the two results, in float32 at most 1e-5.
    """
    device = torch.device(device) if device else default_device()
    model, rows = model_of(profile, "glance", device), []
    for batch in batches:
        images = pixels(model, batch, device)
        for what, (before, after) in _pairs(model, images, keep_ratio).items():
            with torch.inference_mode():
                gap = float((before().float() - after().float()).abs().max())
                times = timing.in_turn({"before": before, "after": after}, seconds, rounds)
            gain = timing.ratio(times["before"], times["after"])
            rows.append(
                {
                    "what": what,
                    "batch": batch,
                    "before, ms": timing.latency(times["before"], batch).median_ms,
                    "after, ms": timing.latency(times["after"], batch).median_ms,
                    "times as fast": gain.middle,
                    "low": gain.low,
                    "high": gain.high,
                    "largest difference": gap,
                }
            )
    return pd.DataFrame(rows)


def _pairs(model, images: Tensor, ratio: float) -> dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor]]]:
    grid, size = tuple(model.patch_embed.grid_size), model.patch_embed.patch_size
    with torch.inference_mode():
        kept = model.select(images, ratio)
    selector = model.selector
    prepared, view = selector.prepared(grid, tuple(images.shape[-2:])), View(images, grid)
    points = tuple(cells * 2**SCALES for cells in grid)
    at = AtRatio(model, ratio)
    half = resolve_precision("auto", images.device)
    pairs = {
        "take the pixels of the kept patches: an index for each pixel / whole pieces of rows": (
            lambda: _by_pixel(images, kept, size),
            lambda: take_patches(images, kept, size),
        ),
        "embed: all patches and take the kept ones / only the kept ones": (
            lambda: gather_patches(model.patch_embed(images).flatten(1, -2), kept),
            lambda: model.patch_embed.project(take_patches(images, kept, size)),
        ),
        "glance: shrink, convolve, normalise / one wide convolution, prepared": (
            lambda: selector.ranked(selector.network(F.adaptive_avg_pool2d(images, points)).flatten(1), view),
            lambda: prepared(view),
        ),
        f"a call at {ratio:g}: with its settings / AtRatio": (lambda: model(images, ratio), lambda: at(images)),
    }
    if half != "float32":
        converted = AtRatio(model, ratio, precision=half)
        pairs[f"{half} at {ratio:g}: weights converted by autocast in each call / once"] = (
            lambda: _autocast(at, images, half),
            lambda: converted(images),
        )
    return pairs


def _by_pixel(images: Tensor, kept: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, K, C, h, w), by gathering from all patches laid out."""
    (height, width), batch = size, images.shape[0]
    pieces = images.unfold(2, height, height).unfold(3, width, width)  # (B, C, rows, columns, h, w)
    rows, columns = torch.div(kept, pieces.shape[3], rounding_mode="floor"), kept % pieces.shape[3]
    return pieces[torch.arange(batch, device=images.device)[:, None], :, rows, columns]


def _autocast(module: torch.nn.Module, images: Tensor, precision: str) -> Tensor:
    with autocast(images.device, precision):
        return module(images)
