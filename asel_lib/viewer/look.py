"""One image through one model at one keep ratio, to look at: pictures, answer, cost; and a sheet of several ratios."""

import statistics
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageDraw
from torch import Tensor

from asel_lib.errors import AselError
from asel_lib.evaluation import cost
from asel_lib.evaluation.patches import scores_of
from asel_lib.models.predict import evaluating
from asel_lib.reporting.style import PAGE, styled
from asel_lib.selection import keep_count, names, parse, policy_string
from asel_lib.viewer.picture import bare, greyed

SIDE = 384  # pictures are about that wide and high, pixels
BEST = 3  # classes shown
TIMED, PATIENCE = (3, 7), 0.03  # forwards that are timed: at least, at most; between them as many as fit, seconds
OPTIONS = {"line_guided": ("lines=xdog,choice=top", "lines=xdog,choice=sample", "lines=sobel,choice=top")}

_COUNTED: WeakKeyDictionary = WeakKeyDictionary()  # model -> {(size, ratio, policy): GMACs}: a trace takes 50 ms


@dataclass(frozen=True)
class Seen:
    """What `look` saw.

    Args:
        shown: the image with dropped patches greyed.
        heat: what patches are kept by, from low (dark blue) to high (yellow), the kept ones framed; None: there is
            nothing.
        heat_of: what that is, or why there is none.
        kept: how many patches were kept; of a policy that takes tokens out between the blocks, those left at the end.
        patches: of how many.
        top: the three most probable classes and their probabilities, best first.
        gmacs: of this image, 1e9 multiply-accumulates.
        share: that over the GMACs of all patches.
        ms: of one forward of this image, median.
    """

    shown: Image.Image
    heat: Image.Image | None
    heat_of: str
    kept: int
    patches: int
    top: list[tuple[str, float]]
    gmacs: float
    share: float
    ms: float


def look(model, image: Image.Image | Tensor, keep_ratio: float, policy: str | None = None) -> Seen:
    """One image through a model at one keep ratio.

    Args:
        model: as from `asel_lib.load`.
        image: a PIL image, or what model.transform made of it, (3, S, S).
        keep_ratio: in (0, 1].
        policy: None: the model's own.

    Raises:
        ValueError: for a keep ratio outside (0, 1], an unknown policy or one that does not suit the model.
    """
    kept = keep_count(model.patch_embed.num_patches, keep_ratio)  # a bad ratio is an error before any work
    tensor = image if isinstance(image, Tensor) else model.transform(image)
    images = tensor[None].to(next(model.parameters()).device)
    with evaluating(model), torch.inference_mode():
        logits, selection = model(images, keep_ratio, policy, return_selection=True)
        places = model.kept_of(selection, images, policy)[0] if keep_ratio < 1 else list(range(kept))
        scores, heat_of = scores_of(model, images, policy)
        ms = _milliseconds(model, images, keep_ratio, policy)
    grid = tuple(int(side) for side in model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    pixels = _pixels(tensor, model.patch_drop.mean, model.patch_drop.std)
    probabilities, winners = logits[0].softmax(dim=0).topk(min(BEST, logits.shape[1]))
    gmacs = _gmacs(model, tuple(images.shape[-2:]), keep_ratio, policy)
    return Seen(
        shown=Image.fromarray(greyed(pixels, places, grid)),
        heat=None if scores is None else _heat(scores[0], grid, pixels.shape[:2], places),
        heat_of=heat_of,
        kept=kept,
        patches=model.patch_embed.num_patches,
        top=[(model.classes[w], p) for w, p in zip(winners.tolist(), probabilities.tolist(), strict=True)],
        gmacs=gmacs,
        share=gmacs / _gmacs(model, tuple(images.shape[-2:]), 1.0, None),
        ms=ms,
    )


def policies(model) -> list[tuple[str, str | None]]:
    """(what to call it, policy) of those that this model can be asked with: its own selector first (None), then every
    registered one that needs no training and fits it."""
    own = parse(policy_string(model.selector))
    others = [f"{name}:{options}" if options else name for name in names() for options in OPTIONS.get(name, ("",))]
    offered = [(f"{model.selector.name} (the model's own)", None)]
    offered += [(policy, policy) for policy in others if parse(policy) != own]
    return [(label, policy) for label, policy in offered if _answers(model, policy)]


@styled
def sheet(model, image: Image.Image | Tensor, ratios: Sequence[float], policy: str | None = None) -> Figure:
    """What `look` sees of one image, the heat map and a column a keep ratio, for a page that cannot move.

    Args:
        model: as from `asel_lib.load`.
        image: a PIL image, or what model.transform made of it, (3, S, S).
        ratios: keep ratios.
        policy: None: the model's own.
    """
    views = [look(model, image, ratio, policy) for ratio in ratios]
    figure = Figure(figsize=(PAGE, 2.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.02, wspace=0.03, hspace=0.03)
    axes = figure.subplots(2, 1 + len(views), squeeze=False, height_ratios=(3, 1.25))
    _picture(axes[0, 0], views[-1].heat, "patch scores")
    about = views[-1].heat_of + (f"; framed: kept at {ratios[-1]:g}" if views[-1].heat else "")
    axes[1, 0].text(0.5, 1, "\n".join(textwrap.wrap(about, 26)), ha="center", va="top", fontsize=7)
    axes[1, 0].set_axis_off()
    for view, ratio, (picture, bars) in zip(views, ratios, axes[:, 1:].T, strict=True):
        _picture(picture, view.shown, f"keep {ratio:g}: {view.kept} of {view.patches}")
        picture.set_xlabel(f"{view.gmacs:.3g} GMACs, {view.ms:.1f} ms", fontsize=7, labelpad=3)
        _bars(bars, view.top)
    figure.set_label(
        f"patches kept by {policy or 'the model own selector'}, keep ratios {', '.join(f'{r:g}' for r in ratios)}"
    )
    return figure


def _milliseconds(model, images: Tensor, keep_ratio: float, policy: str | None) -> float:
    """Median time of a forward; the caller has already run one, which pays for allocation and caches."""
    times: list[float] = []
    while len(times) < TIMED[0] or (len(times) < TIMED[1] and sum(times) < PATIENCE):
        _wait(images.device)
        begun = time.perf_counter()
        model(images, keep_ratio, policy)
        _wait(images.device)
        times.append(time.perf_counter() - begun)
    return 1e3 * statistics.median(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _gmacs(model, size: tuple[int, int], keep_ratio: float, policy: str | None) -> float:
    counted = _COUNTED.setdefault(model, {})
    policy = policy if keep_ratio < 1 else None  # with all patches kept nothing is chosen
    if (size, keep_ratio, policy) not in counted:
        counted[size, keep_ratio, policy] = cost.gmacs(model, size, keep_ratio, policy).total
    return counted[size, keep_ratio, policy]


def _answers(model, policy: str | None) -> bool:
    """Whether the policy suits the model. Tried: each knows best what it needs (weights, a class token, drawings)."""
    side = model.patch_embed.img_size
    images = torch.zeros(1, model.patch_embed.proj.in_channels, *side, device=next(model.parameters()).device)
    try:
        with torch.inference_mode():
            model(images, 0.5, policy)
    except (ValueError, AselError):
        return False
    return True


def _pixels(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """(3, S, S) normalised -> what the model sees, (s, s, 3) uint8, enlarged to about SIDE pixels."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (mean, std))
    pixels = ((image.cpu() * std + mean) * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    scale = max(1, round(SIDE / pixels.shape[1]))
    size = (scale * pixels.shape[1], scale * pixels.shape[0])
    return np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BICUBIC))


def _heat(scores: Tensor, grid: tuple[int, int], size: tuple[int, int], kept: Sequence[int]) -> Image.Image:
    """Scores (N,) -> a map of that many pixels (height, width) from their lowest to their highest."""
    values = scores.double().cpu().numpy().reshape(grid)
    span = values.max() - values.min()
    colors = colormaps["viridis"]((values - values.min()) / span if span else np.full(grid, 0.5), bytes=True)
    picture = Image.fromarray(np.ascontiguousarray(colors[..., :3])).resize(size[::-1], Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(picture)
    height, width = size[0] / grid[0], size[1] / grid[1]
    for place in kept if len(kept) < len(scores) else ():
        row, column = divmod(place, grid[1])
        box = (column * width + 1, row * height + 1, (column + 1) * width - 2, (row + 1) * height - 2)
        pen.rectangle(box, outline="white", width=max(1, SIDE // 128))
    return picture


def _picture(axes: Axes, picture: Image.Image | None, title: str) -> None:
    axes.imshow(np.full((8, 8, 3), 235, np.uint8) if picture is None else picture)
    axes.set_title(title, fontsize=8, pad=3)
    bare(axes)


def _bars(axes: Axes, top: Sequence[tuple[str, float]]) -> None:
    """The classes as bars from 0 to 1, the best above, each name on its bar."""
    rows = range(len(top))
    axes.barh(rows, [p for _, p in top], color="#56B4E9", height=0.86)
    for row, (name, probability) in enumerate(top):
        axes.text(0.02, row, textwrap.shorten(name.replace("_", " "), 18, placeholder="…"), va="center", fontsize=6.5)
        axes.text(1.0, row, f"{probability:.0%}", va="center", ha="right", fontsize=6.5)
    axes.set(xlim=(0, 1), ylim=(BEST - 0.5, -0.5))
    bare(axes)
