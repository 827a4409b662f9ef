"""The figures, drawn from the results table alone, and the sheets of pictures beside them.

Each function returns a matplotlib Figure that belongs to no global state (no pyplot), so that it works
without a display and is freed like any object.
"""

import functools
import os
import re
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asel_lib.reporting import tables

# Okabe and Ito's colours, told apart with any colour vision; marker and dash tell them apart in grey.
_LINES = {
    "learned": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "random": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    "central": {"color": "#009E73", "marker": "^", "linestyle": ":"},
}
_MORE = [("#CC79A7", "D", "-."), ("#E69F00", "v", "--"), ("#56B4E9", "P", ":"), ("#000000", "X", "-")]
_RIGHT, _WRONG = ("✓", "#00714f"), ("✗", "#b34700")
_STYLE = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "lines.linewidth": 1.2, "lines.markersize": 3.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.5,
    "axes.axisbelow": True, "legend.frameon": False, "pdf.fonttype": 42, "font.family": "DejaVu Sans",
}  # fmt: skip
_COLUMN, _PAGE = 3.4, 6.9  # widths of a column and of a page, inches


def _styled(draw: Callable) -> Callable:
    """Draw and save in this file's style, leaving matplotlib's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        with matplotlib.rc_context(_STYLE):
            return draw(*args, **kwargs)

    return wrapper


@_styled
def strategies(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against keep ratio, a panel a run, a line a policy, with the 95 % interval."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        style = _line(policy, run)
        axes.plot(rows["keep_ratio"], rows["accuracy"] * 100, label=policy, **style)
        low, high = rows["accuracy_low"] * 100, rows["accuracy_high"] * 100
        axes.fill_between(rows["keep_ratio"], low, high, color=style["color"], alpha=0.15, linewidth=0)
        if rows["seeds"].max() > 1:
            axes.vlines(
                rows["keep_ratio"], rows["seed_low"] * 100, rows["seed_high"] * 100, color=style["color"], linewidth=0.8
            )

    note = "band: 95 % interval (Wilson); bars: lowest to highest seed"
    return _panels(frame, dataset, line, "keep ratio", "top-1 accuracy (%)", note, ratio_axis=True)


@_styled
def throughput(frame: pd.DataFrame, dataset: str) -> Figure:
    """Accuracy against throughput, the learned policy's points named by their keep ratio."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        style = _line(policy, run)
        axes.plot(rows["throughput"], rows["accuracy"] * 100, label=policy, **style)
        error = [(rows["accuracy"] - rows["accuracy_low"]) * 100, (rows["accuracy_high"] - rows["accuracy"]) * 100]
        axes.errorbar(rows["throughput"], rows["accuracy"] * 100, np.clip(error, 0, None), fmt="none",
                      ecolor=style["color"], elinewidth=0.6, alpha=0.6)  # fmt: skip
        if policy == _main_policy(run):
            for row in rows[rows["keep_ratio"].round(6).isin([1.0, 0.5, 0.3, 0.2, 0.1])].to_dict("records"):
                axes.annotate(f"{row['keep_ratio']:g}", (row["throughput"], row["accuracy"] * 100), (4, 4),
                              textcoords="offset points", color=style["color"], fontsize=7)  # fmt: skip

    note = "numbers: keep ratio; bars: 95 % interval (Wilson)"
    return _panels(frame, dataset, line, "throughput (img/s)", "top-1 accuracy (%)", note)


@_styled
def gmacs(frame: pd.DataFrame, dataset: str) -> Figure:
    """GMACs of one image against keep ratio, with the part that choosing takes, and the straight line that
    cost would follow if it were in proportion to the patches kept."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        style = _line(policy, run)
        axes.plot(rows["keep_ratio"], rows["gmacs"], label=policy, **style)
        if policy == _main_policy(run):
            base = rows["gmacs"] - rows["selector_gmacs"]
            axes.fill_between(rows["keep_ratio"], base, rows["gmacs"], color=style["color"], alpha=0.35, linewidth=0)
            share = (rows["selector_gmacs"] / rows["gmacs"]).max()
            most = rows["selector_gmacs"].max()
            axes.text(0.97, 0.04, f"selector: {most:.2g} GMACs\n(at most {share * 100:.1f} % of a forward)", fontsize=7,
                      ha="right", va="bottom", transform=axes.transAxes, color=style["color"])  # fmt: skip
            full = rows.loc[rows["keep_ratio"] == 1, "gmacs"]
            if len(full):
                axes.plot([0, 1], [0, full.iloc[0]], color="#777777", linewidth=0.8, label="in proportion")

    return _panels(frame, dataset, line, "keep ratio", "cost of an image (GMACs)", "", ratio_axis=True, from_zero=True)


@_styled
def latency(frame: pd.DataFrame, dataset: str) -> Figure:
    """Latency of a batch against keep ratio, median and interquartile range, with the speed-up over all
    patches."""

    def line(axes: Axes, rows: pd.DataFrame, policy: str, run: pd.DataFrame) -> None:
        style = _line(policy, run)
        middle, spread = rows["latency_ms"], rows["latency_iqr_ms"] / 2
        axes.plot(rows["keep_ratio"], middle, label=policy, **style)
        axes.fill_between(
            rows["keep_ratio"], middle - spread, middle + spread, color=style["color"], alpha=0.15, linewidth=0
        )
        full = rows.loc[rows["keep_ratio"] == 1, "latency_ms"]
        if policy == _main_policy(run) and len(full):
            for row in rows[rows["keep_ratio"].round(6).isin([0.8, 0.5, 0.2])].to_dict("records"):
                gain = f"{full.iloc[0] / row['latency_ms']:.1f}×"
                axes.annotate(gain, (row["keep_ratio"], row["latency_ms"]), (0, -10),
                              textcoords="offset points", color=style["color"], fontsize=7, ha="center")  # fmt: skip

    sizes = sorted(frame.loc[frame["dataset"] == dataset, "batch_size"].unique())
    batch = "/".join(f"{size:g}" for size in sizes) or "?"
    note = "band: interquartile range; ×: speed-up over ratio 1"
    return _panels(
        frame, dataset, line, "keep ratio", f"latency of {batch} images (ms)", note, ratio_axis=True, from_zero=True
    )


FIGURES = {"1_strategies": strategies, "2_throughput": throughput, "3_gflops": gmacs, "4_latency": latency}


def all_figures(frame: pd.DataFrame, dataset: str, folder: str | os.PathLike) -> list[Path]:
    """Draw and save the four figures of a data set under their published names. -> the files, PNG and PDF
    each."""
    return [path for name, draw in FIGURES.items() for path in save(draw(frame, dataset), folder, f"{dataset}_{name}")]


@_styled
def save(figure: Figure, folder: str | os.PathLike, stem: str) -> list[Path]:
    """Write `<stem>.png` (150 dpi) and `<stem>.pdf`; their metadata carries the figure's footer (data set,
    device, commit) and no time, so that the same data make the same files."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    about = " ".join(str(figure.get_label()).split())
    metadata = {
        "png": {"Title": stem, "Description": about},
        "pdf": {"Title": stem, "Subject": about, "CreationDate": None},
    }
    paths = []
    for kind, entries in metadata.items():
        path = Path(folder) / f"{stem}.{kind}"
        temporary = path.with_name(f".{path.name}.tmp")  # whoever reads sees the old file or the new, never half
        figure.savefig(temporary, format=kind, dpi=150, metadata=entries)
        os.replace(temporary, path)
        paths.append(path)
    return paths


@_styled
def kept_patches_sheet(
    model,
    images,
    pixels: np.ndarray,
    labels: Sequence[int] | None,
    classes: Sequence[str],
    ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.1),
    policy: str | None = None,
) -> Figure:
    """Images as columns, keep ratios as rows: dropped patches greyed, the prediction above (✓ right, ✗ wrong; without
    labels the prediction alone).

    images (n, C, S, S) normalised, on the model's device; pixels (n, S', S', 3) uint8, the same images to
    look at; labels (n,) numbers of `classes`. The first 8 are shown.
    """
    import torch

    images, pixels = images[:8], np.asarray(pixels[:8])
    grid = tuple(int(side) for side in model.patch_embed.dynamic_feat_size(images.shape[-2:]))
    width = max(0.86 * len(pixels) + 0.3, _COLUMN)
    figure = Figure(figsize=(width, 1.19 * len(ratios) + 0.35), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.015, wspace=0.02, hspace=0.02)
    axes = figure.subplots(len(ratios), len(pixels), squeeze=False)
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for row, ratio in zip(axes, ratios, strict=True):
                answers = model(images, ratio, policy).argmax(dim=1).tolist()
                kept = model.select(images, ratio, policy).cpu().numpy()
                for column, cell in enumerate(row):
                    answer = answers[column]
                    cell.imshow(_greyed(pixels[column], kept[column], grid))
                    if labels is None:
                        cell.set_title(_short(classes[answer]), fontsize=7, pad=2)
                    else:
                        sign, color = _RIGHT if answer == int(labels[column]) else _WRONG
                        cell.set_title(f"{sign} {_short(classes[answer])}", color=color, fontsize=7, pad=2)
                    _bare(cell)
                row[0].set_ylabel(f"keep {ratio:g}", fontsize=8)
    finally:
        model.train(was_training)
    for cell, label in zip(axes[-1], () if labels is None else labels, strict=False):
        cell.set_xlabel(f"is {_short(classes[int(label)])}", fontsize=7, labelpad=2)
    figure.set_label(f"kept patches, policy {policy or 'learned'}, keep ratios {', '.join(f'{r:g}' for r in ratios)}")
    return figure


def predictions_sheet(model, pictures: Sequence, ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.1)) -> Figure:
    """`kept_patches_sheet` of PIL images whose class is not known; model as from `asel_lib.load`."""
    import torch

    device = next(model.parameters()).device
    images = torch.stack([model.transform(picture) for picture in pictures]).to(device)
    mean, std = (np.asarray(model.record["transform"][key]) for key in ("mean", "std"))
    pixels = ((images.cpu().permute(0, 2, 3, 1).numpy() * std + mean) * 255).round().clip(0, 255).astype(np.uint8)
    return kept_patches_sheet(model, images, pixels, None, model.classes, ratios)


@_styled
def history(frame: pd.DataFrame) -> Figure:
    """A training run over its epochs: loss, accuracy, keep ratio, speed; a panel for each that the table
    has."""
    panels = [
        ("loss", {"train_loss": "train", "val_loss": "val"}, 1),
        ("top-1 accuracy (%)", {"train_accuracy": "train", "val_accuracy": "val"}, 100),
        ("keep ratio", {"keep_ratio": "mean of the epoch"}, 1),
        ("speed (img/s)", {"images_per_second": "train"}, 1),
    ]
    panels = [(name, {k: v for k, v in columns.items() if k in frame and frame[k].notna().any()}, scale)
              for name, columns, scale in panels]  # fmt: skip
    panels = [panel for panel in panels if panel[1]]
    if frame.empty or not panels:
        return _nothing("no training history")
    figure, axes = _grid(len(panels))
    epochs = frame["epoch"] if "epoch" in frame else np.arange(len(frame))
    for cell, (name, columns, scale) in zip(axes, panels, strict=True):
        for style, (column, label) in zip(_LINES.values(), columns.items(), strict=False):
            cell.plot(epochs, frame[column] * scale, label=label, **style)
        cell.set(xlabel="epoch", ylabel=name)
        cell.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(columns) > 1:
            cell.legend()
    return figure


@_styled
def data_sheet(pixels: np.ndarray, labels: Sequence[int], classes: Sequence[str], n: int = 24) -> Figure:
    """Contact sheet of n images, taking the classes in turn. pixels (m, h, w, 3) uint8, labels (m,)."""
    labels = np.asarray(labels)
    if not len(labels):
        return _nothing("no images")
    rank = pd.Series(labels).groupby(labels).cumcount().to_numpy()  # how many of its class came before it
    chosen = np.lexsort((labels, rank))[:n]
    columns = min(8, len(chosen))
    rows = -(-len(chosen) // columns)
    figure = Figure(figsize=(max(0.86 * columns, _COLUMN), 1.08 * rows), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.01, h_pad=0.015, wspace=0.02, hspace=0.02)
    for cell in (axes := figure.subplots(rows, columns, squeeze=False).ravel()):
        cell.set_visible(False)
    for cell, index in zip(axes, chosen, strict=False):
        cell.set_visible(True)
        cell.imshow(pixels[index])
        cell.set_title(_short(classes[int(labels[index])]), fontsize=7, pad=2)
        _bare(cell)
    return figure


def _panels(frame, dataset, line, xlabel, ylabel, note, ratio_axis=False, from_zero=False) -> Figure:
    """A panel a run of the data set; `line(axes, rows over seeds, policy, run)` draws a policy."""
    rows = frame[frame["dataset"] == dataset]
    if rows.empty:
        return _nothing(f"no results for {dataset}")
    groups = tables.runs(rows)
    figure, axes = _grid(len(groups), share=True, footer=True)
    for cell, (label, run) in zip(axes, groups, strict=True):
        means = tables.over_seeds(run)
        for policy in sorted(means["policy"].unique(), key=lambda name: ([*_LINES, name].index(name), name)):
            line(cell, means[means["policy"] == policy], policy, means)
        seeds = run["seed"].nunique()
        title = f"{dataset}, recipe {label}" + (f", mean of {seeds} seeds" if seeds > 1 else "")
        cell.set_title("\n".join(textwrap.wrap(title, 44)))
        cell.set(xlabel=xlabel, ylabel=ylabel)
        if ratio_axis:
            cell.set_xlim(0, 1.03)
            cell.set_xticks(np.arange(0, 1.01, 0.2))
        if from_zero:
            cell.set_ylim(bottom=0)  # after the last line: it ends the axis' own scaling
        cell.label_outer(remove_inner_ticks=False)
    axes[0].legend(loc="best")
    _footer(figure, rows, dataset, note)
    return figure


def _grid(count: int, share: bool = False, footer: bool = False) -> tuple[Figure, list[Axes]]:
    """One panel at column width, more in two columns at page width."""
    columns = min(2, count)
    rows = -(-count // columns)
    size = (_COLUMN if count == 1 else _PAGE, 2.35 * rows + (0.35 if footer else 0))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for cell in axes[count:]:
        cell.remove()
    return figure, list(axes[:count])


def _footer(figure: Figure, rows: pd.DataFrame, dataset: str, note: str) -> None:
    def each(column: str) -> str:
        return ", ".join(f"{value}" for value in dict.fromkeys(rows[column]))

    about = f"{dataset} {each('split')}, {each('n_images')} images; {each('device')}, {each('dtype')}; "
    about += f"commit {each('commit')}"
    figure.set_label(about)
    lines = textwrap.wrap(f"{about}. {note}".rstrip(". "), int(figure.get_figwidth() * 19))
    figure.supxlabel("\n".join(lines), fontsize=7, color="#555555", x=0.01, ha="left")


def _nothing(text: str) -> Figure:
    figure = Figure(figsize=(_COLUMN, 1.2), layout="constrained")
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=9)
    figure.set_label(text)
    return figure


def _line(policy: str, run: pd.DataFrame) -> dict[str, str]:
    if policy in _LINES:
        return _LINES[policy]
    others = sorted(set(run["policy"]) - set(_LINES))
    color, marker, dashes = _MORE[others.index(policy) % len(_MORE)]
    return {"color": color, "marker": marker, "linestyle": dashes}


def _main_policy(run: pd.DataFrame) -> str:
    return "learned" if "learned" in set(run["policy"]) else sorted(run["policy"])[0]


def _greyed(pixels: np.ndarray, kept: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Pixels (h, w, 3) uint8 with those of dropped patches turned to a faint grey; kept: indices on the grid
    (H, W)."""
    shown = np.zeros(grid[0] * grid[1], dtype=bool)
    shown[kept] = True
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


def _bare(axes: Axes) -> None:
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
