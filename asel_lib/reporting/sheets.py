"""Sheets of pictures: images, the patches kept of them, the line drawings that chose them."""

import re
import textwrap
from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asel_lib.reporting.style import COLUMN, drawn_from, nothing, styled

_RIGHT, _WRONG = ("✓", "#00714f"), ("✗", "#b34700")


@styled
def kept_patches_sheet(
    model,
    images,
    pixels: np.ndarray,
    labels: Sequence[int] | None,
    classes: Sequence[str],
    ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.1),
    policy: str | None = None,
    lines=None,
) -> Figure:
    """Images as columns, keep ratios as rows: dropped patches greyed, the prediction above (✓ right, ✗ wrong; without
    labels the prediction alone).

    images (n, C, S, S) normalised, on the model's device; pixels (n, S', S', 3) uint8, the same images to
    look at; labels (n,) numbers of `classes`; lines (n, 1, h, w) for a selector that does not draw them itself. The
    first 8 are shown.
    """
    import torch

    images, pixels, lines = images[:8], np.asarray(pixels[:8]), None if lines is None else lines[:8]
    grid = tuple(int(side) for side in model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    width = max(0.86 * len(pixels) + 0.3, COLUMN)
    figure = Figure(figsize=(width, 1.19 * len(ratios) + 0.35), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.015, wspace=0.02, hspace=0.02)
    axes = figure.subplots(len(ratios), len(pixels), squeeze=False)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for row, ratio in zip(axes, ratios, strict=True):
                logits, selection = model(images, ratio, policy, lines, return_selection=True)
                answers, kept = logits.argmax(dim=1).tolist(), model.kept_of(selection, images, policy, lines)
                for column, cell in enumerate(row):
                    answer = answers[column]
                    cell.imshow(greyed(pixels[column], kept[column], grid))
                    if labels is None:
                        cell.set_title(_short(classes[answer]), fontsize=7, pad=2)
                    else:
                        sign, color = _RIGHT if answer == int(labels[column]) else _WRONG
                        cell.set_title(f"{sign} {_short(classes[answer])}", color=color, fontsize=7, pad=2)
                    bare(cell)
                row[0].set_ylabel(f"keep {ratio:g}", fontsize=8)
    finally:
        model.train(was_training)
    for cell, label in zip(axes[-1], () if labels is None else labels, strict=False):
        cell.set_xlabel(f"is {_short(classes[int(label)])}", fontsize=7, labelpad=2)
    figure.set_label(
        f"kept patches, policy {policy or 'of the model'}, keep ratios {', '.join(f'{r:g}' for r in ratios)}"
    )
    return figure


@styled
def weights_sheet(model, images, pixels: np.ndarray, ratio: float = 0.2, average: float | None = None) -> Figure:
    """How a trained selector chooses: a row an image, colour | log-weights | kept patches, and with `average` what
    keep_ratio="auto:<average>" keeps. The first 6 are shown.

    images (n, C, S, S) normalised, on the model's device; pixels (n, S', S', 3) uint8, the same to look at. Each
    image's log-weights from its lowest (dark) to its highest. ValueError where the selector has none.
    """
    import torch

    images, pixels = images[:6], np.asarray(pixels[:6])
    grid = tuple(int(side) for side in model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    with torch.inference_mode():
        weights = model.weigh(images).view(-1, *grid).cpu().numpy()
        kept = [model.select(images, ratio).tolist()]
        if average is not None:
            _, selection = model(images, f"auto:{average:g}", return_selection=True)
            kept.append(model.kept_of(selection, images))
    figure = Figure(figsize=((2 + len(kept)) * 1.2, 1.2 * len(pixels) + 0.25), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    axes = figure.subplots(len(pixels), 2 + len(kept), squeeze=False)
    frame = {"extent": (0, 1, 1, 0)}
    for row, cells in enumerate(axes):
        cells[0].imshow(pixels[row], **frame)
        cells[1].imshow(weights[row], cmap="viridis", **frame)
        for cell, chosen in zip(cells[2:], kept, strict=True):
            cell.imshow(greyed(pixels[row], chosen[row], grid), **frame)
        if average is not None:
            cells[3].text(0.03, 0.03, f"{len(kept[1][row])}", color="white", fontsize=8, ha="left", va="top",
                          bbox={"facecolor": "black", "pad": 1, "linewidth": 0})  # fmt: skip
        for cell in cells:
            bare(cell)
    titles = ["colour", "log-weights", f"kept {ratio:.0%}", f"auto {average or 0:.0%}"]
    for cell, title in zip(axes[0], titles, strict=False):
        cell.set_title(title, fontsize=8, pad=3)
    figure.set_label(f"patch selection by the model's own weights, keep ratio {ratio:g}")
    return figure


@styled
def selection_sheet(
    model,
    images,
    pixels: np.ndarray,
    ratio: float = 0.3,
    policy: str | None = None,
    lines=None,
) -> Figure:
    """How line drawings choose: a row an image, colour | lines | scores | kept patches, the drawing's centre of
    gravity marked by a cross. The first 6 are shown.

    images (n, C, S, S) normalised, on the model's device; pixels (n, S', S', 3) uint8, the same to look at; lines
    (n, 1, h, w), None: made of the images. Scores are the distribution that patches are drawn from or ranked by.
    ValueError where the policy is not line-guided.
    """
    import torch

    from asel_lib.selection.line_guided import centre, log_joint
    from asel_lib.selection.slot import Call

    chooser = model.patch_drop.chooser(Call(policy=policy))
    if not chooser.reads_lines:
        raise ValueError(f"policy {policy or type(chooser).__name__!r} reads no line drawings: expected line_guided")
    images, pixels = images[:6], np.asarray(pixels[:6])
    grid = tuple(int(side) for side in model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    with torch.inference_mode():
        drawn = model.patch_drop.drawings(images, policy) if lines is None else lines[:6]
        joint = log_joint(drawn.float(), grid, chooser.sigma).exp().view(-1, *grid).cpu().numpy()
        middle = centre(drawn.float()).cpu().numpy()
        kept = model.select(images, ratio, policy, drawn).cpu().numpy()
    drawn = drawn[:, 0].cpu().numpy()
    figure = Figure(figsize=(4 * 1.2, 1.2 * len(pixels) + 0.25), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    axes = figure.subplots(len(pixels), 4, squeeze=False)
    frame = {"extent": (0, 1, 1, 0)}  # one coordinate system for grids of different fineness
    for row, cells in enumerate(axes):
        cells[0].imshow(pixels[row], **frame)
        cells[1].imshow(1 - drawn[row], cmap="gray", vmin=0, vmax=1, **frame)
        cells[2].imshow(joint[row], cmap="viridis", **frame)
        cells[3].imshow(greyed(pixels[row], kept[row], grid), **frame)
        for cell in cells:
            cell.plot(middle[row, 1], middle[row, 0], marker="+", color="#D55E00", markersize=7, markeredgewidth=1.5)
            bare(cell)
    for cell, title in zip(axes[0], ("colour", "lines", "scores", f"kept {ratio:.0%}"), strict=True):
        cell.set_title(title, fontsize=8, pad=3)
    figure.set_label(f"patch selection by {policy or 'the model own selector'}, keep ratio {ratio:g}")
    return figure


@styled
def lines_sheet(pixels: np.ndarray, drawn: np.ndarray) -> Figure:
    """Images above their line drawings, dark is line. pixels (n, h, w, 3), drawn (n, h', w'), uint8, 255 = line."""
    figure = Figure(figsize=(max(0.86 * len(pixels), COLUMN), 1.85), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.01, wspace=0.02, hspace=0.02)
    axes = figure.subplots(2, len(pixels), squeeze=False)
    for column, (picture, drawing) in enumerate(zip(pixels, drawn, strict=True)):
        axes[0, column].imshow(picture)
        axes[1, column].imshow(255 - np.asarray(drawing), cmap="gray", vmin=0, vmax=255)
        bare(axes[0, column])
        bare(axes[1, column])
    return figure


@styled
def confusion(table: pd.DataFrame, title: str = "") -> Figure:
    """Confusion matrices side by side: counts, and shares of each true class in per cent. table: rows (class, answer,
    images) of `accuracy.confusion`, of one checkpoint at one keep ratio."""
    import seaborn as sns

    classes = list(dict.fromkeys(table["class"]))
    counts = table.pivot_table(index="class", columns="answer", values="images", aggfunc="sum", fill_value=0)
    counts = counts.reindex(index=classes, columns=classes, fill_value=0).to_numpy()
    shares = 100 * counts / counts.sum(axis=1, keepdims=True).clip(1)
    side = max(3.0, 0.24 * len(classes) + 1.2)
    figure = Figure(figsize=(2 * side, side), layout="constrained")
    written = len(classes) <= 15  # more are read by colour
    names = [name.replace("_", " ") for name in classes]
    panels = zip(figure.subplots(1, 2), (counts, shares), ("images", "% of the class"), strict=True)
    for cell, matrix, what in panels:
        sns.heatmap(matrix, ax=cell, cmap="Blues", vmin=0, annot=written, fmt=".0f", square=True,
                    annot_kws={"fontsize": 6}, cbar_kws={"shrink": 0.7},
                    xticklabels=names, yticklabels=names)  # fmt: skip
        cell.set_title(what)
        cell.set(xlabel="answer", ylabel="class")
        cell.grid(False)
    if title:
        figure.suptitle(title, fontsize=9)
    right = np.trace(counts) / max(1, counts.sum())
    figure.set_label(f"Confusion matrix {title}: {right:.1%} of {counts.sum()} images on the diagonal; left counts")
    return drawn_from(figure, table)


def predictions_sheet(model, pictures: Sequence, ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.1)) -> Figure:
    """`kept_patches_sheet` of PIL images whose class is not known; model as from `asel_lib.load`."""
    import torch

    device = next(model.parameters()).device
    images = torch.stack([model.transform(picture) for picture in pictures]).to(device)
    mean, std = (np.asarray(model.record["transform"][key]) for key in ("mean", "std"))
    pixels = ((images.cpu().permute(0, 2, 3, 1).numpy() * std + mean) * 255).round().clip(0, 255).astype(np.uint8)
    return kept_patches_sheet(model, images, pixels, None, model.classes, ratios)


@styled
def data_sheet(pixels: np.ndarray, labels: Sequence[int], classes: Sequence[str], n: int = 24) -> Figure:
    """Contact sheet of n images, taking the classes in turn. pixels (m, h, w, 3) uint8, labels (m,)."""
    labels = np.asarray(labels)
    if not len(labels):
        return nothing("no images")
    rank = pd.Series(labels).groupby(labels).cumcount().to_numpy()  # how many of its class came before it
    chosen = np.lexsort((labels, rank))[:n]
    columns = min(8, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(max(0.86 * columns, COLUMN), 1.08 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.015, wspace=0.02, hspace=0.02)
    for cell in (axes := figure.subplots(rows, columns, squeeze=False).ravel()):
        cell.set_visible(False)
    for cell, index in zip(axes, chosen, strict=False):
        cell.set_visible(True)
        cell.imshow(pixels[index])
        cell.set_title(_short(classes[int(labels[index])]), fontsize=7, pad=2)
        bare(cell)
    return figure


def greyed(pixels: np.ndarray, kept: Sequence[int], grid: tuple[int, int]) -> np.ndarray:
    """Pixels (h, w, 3) uint8 with those of dropped patches turned to a faint grey; kept: indices on the grid
    (H, W)."""
    shown = np.zeros(grid[0] * grid[1], dtype=bool)
    shown[np.asarray(kept, dtype=int)] = True
    height, width = pixels.shape[:2]
    rows, columns = np.arange(height) * grid[0] // height, np.arange(width) * grid[1] // width
    mask = shown.reshape(grid)[rows[:, None], columns[None, :], None]
    grey = 0.25 * pixels.mean(axis=2, keepdims=True) + 0.75 * 205
    return np.where(mask, pixels, grey.astype(np.uint8))


def _short(name: str) -> str:
    """A class name in at most two lines of 13 letters, broken between its words."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " "))
    lines = textwrap.wrap(words, 13, max_lines=2, placeholder="…")
    return "\n".join(lines)


def bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
