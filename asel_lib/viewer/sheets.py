"""Sheets of pictures: images, the patches kept of them, the line drawings that chose them."""

import textwrap
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from asel_lib.reporting.style import COLUMN, drawn_from, nothing, short, styled
from asel_lib.viewer.picture import bare, greyed

_RIGHT, _WRONG = ("✓", "#00714f"), ("✗", "#b34700")
_GROUND, _KEPT = 235, (52, 90, 120)  # where no image is: as light as a dropped patch is, and what was kept


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
    """Images as columns, keep ratios as rows: dropped patches greyed, the prediction above. The first 8 are shown.

    Args:
        model: a SelectiveViT.
        images: (n, C, S, S), normalised, on the model's device.
        pixels: (n, S', S', 3) uint8, the same images to look at.
        labels: (n,), numbers of `classes`: predictions are marked ✓ right or ✗ wrong; None: they are not.
        classes: their names.
        ratios: keep ratios.
        policy: None: the model's own.
        lines: (n, 1, h, w), for a selector that does not draw them itself.
    """
    import torch

    from asel_lib.models.predict import evaluating

    images, pixels, lines = images[:8], np.asarray(pixels[:8]), None if lines is None else lines[:8]
    grid = tuple(int(side) for side in model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    width = max(0.86 * len(pixels) + 0.3, COLUMN)
    figure = _figure(width, 1.19 * len(ratios) + 0.35, h_pad=0.015)
    axes = figure.subplots(len(ratios), len(pixels), squeeze=False)
    with evaluating(model), torch.inference_mode():
        for row, ratio in zip(axes, ratios, strict=True):
            logits, selection = model(images, ratio, policy, lines, return_selection=True)
            answers, kept = logits.argmax(dim=1).tolist(), model.kept_of(selection, images, policy, lines)
            for column, cell in enumerate(row):
                answer = answers[column]
                cell.imshow(greyed(pixels[column], kept[column], grid))
                if labels is None:
                    cell.set_title(short(classes[answer]), fontsize=7, pad=2)
                else:
                    sign, color = _RIGHT if answer == int(labels[column]) else _WRONG
                    cell.set_title(f"{sign} {short(classes[answer])}", color=color, fontsize=7, pad=2)
                bare(cell)
            row[0].set_ylabel(f"keep {ratio:g}", fontsize=8)
    for cell, label in zip(axes[-1], () if labels is None else labels, strict=False):
        cell.set_xlabel(f"is {short(classes[int(label)])}", fontsize=7, labelpad=2)
    figure.set_label(
        f"kept patches, policy {policy or 'of the model'}, keep ratios {', '.join(f'{r:g}' for r in ratios)}"
    )
    return figure


@styled
def weights_sheet(model, images, pixels: np.ndarray, ratio: float = 0.2, average: float | None = None) -> Figure:
    """How a trained selector chooses: a row an image, colour | log-weights | kept patches. The first 6 are shown.

    Args:
        model: a SelectiveViT.
        images: (n, C, S, S), normalised, on the model's device.
        pixels: (n, S', S', 3) uint8, the same to look at.
        ratio: keep ratio.
        average: of a further picture a row, what keep_ratio="auto:<average>" keeps; None: none.

    Raises:
        ValueError: where the selector has no log-weights.
    """
    import torch

    images, pixels = images[:6], np.asarray(pixels[:6])
    grid = tuple(int(side) for side in model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    with torch.inference_mode():
        weights = model.log_weights(images).view(-1, *grid).cpu().numpy()
        kept = [model.select(images, ratio).tolist()]
        if average is not None:
            _, selection = model(images, f"auto:{average:g}", return_selection=True)
            kept.append(model.kept_of(selection, images))
    figure = _figure((2 + len(kept)) * 1.2, 1.2 * len(pixels) + 0.25)
    axes = figure.subplots(len(pixels), 2 + len(kept), squeeze=False)
    frame = {"extent": (0, 1, 1, 0)}
    for row, cells in enumerate(axes):
        cells[0].imshow(pixels[row], **frame)
        cells[1].imshow(weights[row], cmap="viridis", **frame)
        for cell, chosen in zip(cells[2:], kept, strict=True):
            cell.imshow(greyed(pixels[row], chosen[row], grid), **frame)
        if average is not None:
            cells[3].text(
                0.03,
                0.03,
                f"{len(kept[1][row])}",
                color="white",
                fontsize=8,
                ha="left",
                va="top",
                bbox={"facecolor": "black", "pad": 1, "linewidth": 0},
            )
        for cell in cells:
            bare(cell)
    titles = ["colour", "log-weights", f"kept {ratio:.0%}", f"auto {average or 0:.0%}"]
    for cell, title in zip(axes[0], titles, strict=False):
        cell.set_title(title, fontsize=8, pad=3)
    figure.set_label(f"patch selection by the model's own weights, keep ratio {ratio:g}")
    return figure


@styled
def patch_sheet(
    table: pd.DataFrame, pixels: Mapping[str, np.ndarray] = MappingProxyType({}), drawn: Mapping | None = None
) -> Figure:
    """What a policy keeps, a row an image: colour | line drawing, of a line-guided one | scores | kept patches, the
    drawing's centre of gravity marked by a cross. The first 6 are shown.

    Args:
        table: rows of `evaluation.patches.kept_patches`, of one policy of one checkpoint.
        pixels: image -> (S, S, 3) uint8. An image that is not among them is not drawn: its kept patches are shown on a
            neutral ground, and the sheet says so.
        drawn: image -> its line drawing (h, w) in [0, 1]; None: `xdog` and `sobel` are drawn of the pixels.
    """
    rows = table.head(6).to_dict("records")
    if not rows:
        return nothing("no table of kept patches")
    about, there = rows[0], [row["image"] for row in rows if row["image"] in pixels]
    drawn = _drawings(about["policy"], rows, pixels) if drawn is None else drawn
    parts = ["colour"] if there else []
    parts += ["lines"] if any(row["image"] in drawn for row in rows) else []
    parts += ["scores"] if about["scores"] else []
    parts += [f"kept {about['keep_ratio']:.0%}"]
    figure = _figure(max(len(parts) * 1.2 + 0.3, COLUMN), 1.2 * len(rows) + 0.65)
    axes = figure.subplots(len(rows), len(parts), squeeze=False)
    for row, cells in zip(rows, axes, strict=True):
        for part, cell in zip(parts, cells, strict=True):
            cell.imshow(**_part(part, row, pixels.get(row["image"]), drawn.get(row["image"])), extent=(0, 1, 1, 0))
            if row["centre"]:
                y, x = map(float, row["centre"].split())
                cell.plot(x, y, marker="+", color="#D55E00", markersize=7, markeredgewidth=1.5)
            bare(cell)
        right = row["answer"] == row["class"]
        sign, color = _RIGHT if right else _WRONG
        said = short(row["class"]) + ("" if right else f",\nsays {short(row['answer'])}")
        cells[0].set_ylabel(f"{sign} {said}", color=color, fontsize=6.5)
    for cell, title in zip(axes[0], parts, strict=True):
        cell.set_title(title, fontsize=8, pad=3)
    return _explained(figure, table.head(6), len(there))


def _figure(width: float, height: float, h_pad: float = 0.01) -> Figure:
    """An empty one, for pictures that stand close together."""
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=h_pad, wspace=0.02, hspace=0.02)
    return figure


def _part(name: str, row: dict, pixels: np.ndarray | None, drawn: np.ndarray | None) -> dict:
    """What `imshow` is to draw in a cell of `patch_sheet`."""
    grid = row["rows"], row["columns"]
    if name == "lines":
        return {"X": np.ones((1, 1)) if drawn is None else 1 - drawn, "cmap": "gray", "vmin": 0, "vmax": 1}
    if name == "scores":
        scores = np.array(row["scores"].split(), dtype=float).reshape(grid)
        # Of line drawings as published, the distribution itself.
        return {"X": np.exp(scores) if row["scores_of"].startswith("log-prob") else scores, "cmap": "viridis"}
    shown = np.full((*grid, 3), _GROUND, np.uint8) if pixels is None else pixels
    if name == "colour":
        return {"X": shown}
    kept = [int(place) for place in row["kept"].split()]
    return {"X": greyed(np.full((*grid, 3), _KEPT, np.uint8) if pixels is None else shown, kept, grid)}


def _drawings(policy: str, rows: Sequence[dict], pixels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Image -> line drawing, of those that are here, by a policy that draws without weights."""
    import torch

    from asel_lib.data import lines
    from asel_lib.selection import parse

    extractor = parse(policy)[1].get("lines")
    there = [row["image"] for row in rows if row["image"] in pixels]
    if extractor not in ("xdog", "sobel") or not there:
        return {}
    seen = torch.from_numpy(np.stack([pixels[name] for name in there])).permute(0, 3, 1, 2).float() / 255
    return dict(zip(there, lines.draw(seen, extractor)[:, 0].numpy(), strict=True))


def _explained(figure: Figure, table: pd.DataFrame, there: int) -> Figure:
    """What the sheet is of, below it and in words."""
    one, right = table.iloc[0], int((table["class"] == table["answer"]).sum())
    where = f"{one['checkpoint']} on {one['dataset']}, {one['policy']}, keep ratio {one['keep_ratio']:g}"
    missing = len(table) - there
    lacks = f"{missing if there else 'the'} images are not here: their patches on a neutral ground" if missing else ""
    scores = one["scores_of"].replace("log-prob", "prob")  # these are drawn as probabilities
    note = textwrap.wrap(
        "; ".join(filter(None, (where, scores, lacks))), int(figure.get_figwidth() * 17), break_on_hyphens=False
    )
    figure.supxlabel("\n".join(note), fontsize=6.5, color="#555555")
    each = "; ".join(
        f"{row['image']} ({row['class']}, taken for {row['answer']}): {len(row['kept'].split())} of "
        f"{row['rows'] * row['columns']} patches"
        for row in table.to_dict("records")
    )
    figure.set_label(f"Patches kept by {where}, {right} of {len(table)} images right. {each}. {lacks}".strip())
    return drawn_from(figure, table)


@styled
def lines_sheet(pixels: np.ndarray, drawn: np.ndarray) -> Figure:
    """Images above their line drawings; dark is line.

    Args:
        pixels: (n, h, w, 3) uint8.
        drawn: (n, h', w') uint8, 255 is line.
    """
    figure = _figure(max(0.86 * len(pixels), COLUMN), 1.85)
    axes = figure.subplots(2, len(pixels), squeeze=False)
    for column, (picture, drawing) in enumerate(zip(pixels, drawn, strict=True)):
        axes[0, column].imshow(picture)
        axes[1, column].imshow(255 - np.asarray(drawing), cmap="gray", vmin=0, vmax=255)
        bare(axes[0, column])
        bare(axes[1, column])
    return figure


def predictions_sheet(model, pictures: Sequence, ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.1)) -> Figure:
    """`kept_patches_sheet` of images whose class is not known.

    Args:
        model: as from `asel_lib.load`.
        pictures: PIL images.
        ratios: keep ratios.
    """
    import torch

    device = next(model.parameters()).device
    images = torch.stack([model.transform(picture) for picture in pictures]).to(device)
    mean, std = (np.asarray(model.record["transform"][key]) for key in ("mean", "std"))
    pixels = ((images.cpu().permute(0, 2, 3, 1).numpy() * std + mean) * 255).round().clip(0, 255).astype(np.uint8)
    return kept_patches_sheet(model, images, pixels, None, model.classes, ratios)


@styled
def data_sheet(pixels: np.ndarray, labels: Sequence[int], classes: Sequence[str], n: int = 24) -> Figure:
    """Contact sheet of images, taking the classes in turn.

    Args:
        pixels: (m, h, w, 3) uint8.
        labels: (m,) numbers of `classes`.
        classes: their names.
        n: how many are shown.
    """
    labels = np.asarray(labels)
    if not len(labels):
        return nothing("no images")
    rank = pd.Series(labels).groupby(labels).cumcount().to_numpy()  # how many of its class came before it
    chosen = np.lexsort((labels, rank))[:n]
    columns = min(8, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = _figure(max(0.86 * columns, COLUMN), 1.08 * rows, h_pad=0.015)
    for cell in (axes := figure.subplots(rows, columns, squeeze=False).ravel()):
        cell.set_visible(False)
    for cell, index in zip(axes, chosen, strict=False):
        cell.set_visible(True)
        cell.imshow(pixels[index])
        cell.set_title(short(classes[int(labels[index])]), fontsize=7, pad=2)
        bare(cell)
    return figure
