"""One look for every figure and sheet, and how they are saved.

Figures belong to no global state (no pyplot), so that they work without a display and are freed like any object.
"""

import functools
import os
import textwrap
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asel_lib.files import replace_text

# Of what others published: hollow and faint.
FAINT = {"markerfacecolor": "none", "linestyle": "none", "alpha": 0.5, "markersize": 4.5, "zorder": 1}
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "font.family": "DejaVu Sans",
}
COLUMN, PAGE = 3.4, 6.9  # widths of a column and of a page, inches


def styled(draw: Callable) -> Callable:
    """Draw and save in this file's style, leaving matplotlib's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


def drawn_from(figure: Figure, rows: pd.DataFrame) -> Figure:
    """Say which rows the figure draws: they are saved beside it."""
    figure.rows = rows
    return figure


@styled
def save(figure: Figure, folder: str | os.PathLike, stem: str) -> list[Path]:
    """Write `<stem>.png` (150 dpi), `<stem>.pdf` and, where the figure draws a table, its rows as `<stem>.csv`. The
    pictures' metadata carry the footer (data set, device, commit), what is to be seen, in words (`describe`), and no
    time, so that the same data make the same files."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    about = " ".join(str(figure.get_label()).split())
    metadata = {
        "png": {"Title": stem, "Description": about, "Alt": describe(figure)},
        "pdf": {"Title": stem, "Subject": about, "CreationDate": None},
    }
    paths = []
    for kind, entries in metadata.items():
        path = Path(folder) / f"{stem}.{kind}"
        temporary = path.with_name(f".{path.name}.tmp")  # whoever reads sees the old file or the new, never half
        figure.savefig(temporary, format=kind, dpi=150, metadata=entries)
        os.replace(temporary, path)
        paths.append(path)
    if (rows := getattr(figure, "rows", None)) is not None:
        paths.append(Path(folder) / f"{stem}.csv")
        replace_text(paths[-1], rows.to_csv(index=False))
    return paths


def say_below(figure: Figure, about: str, note: str = "") -> None:
    """What the figure shows, with its `note`, in small type below it; `about` alone becomes its label."""
    figure.set_label(about)
    lines = textwrap.wrap(f"{about}. {note}".rstrip(". ") if note else about, int(figure.get_figwidth() * 17.5))
    figure.supxlabel("\n".join(lines), fontsize=7, color="#555555", x=0.01, ha="left")


def describe(figure: Figure) -> str:
    """The figure in words, for those who do not see it: its panels, and where each line begins and ends. Sheets of
    pictures say what they are in their label."""
    panels = []
    for axes in figure.axes:
        lines = [one for one in axes.get_lines() if not str(one.get_label()).startswith("_") and len(one.get_xdata())]
        said = [_ends(line) for line in lines]
        heights = [f"{bar.get_height():.4g}" for each in axes.containers for bar in getattr(each, "patches", ())]
        said += [f"bars: {', '.join(heights)}"] if heights else []
        said += [text.get_text() for text in axes.texts if text.get_text().startswith("no ")]
        if said:
            title = " ".join(axes.get_title(loc=place) for place in ("left", "center")).strip()
            scales = " against ".join(filter(None, (axes.get_ylabel(), axes.get_xlabel())))
            panels.append(f"{title + ': ' if title else ''}{scales}. {'; '.join(said)}.")
    return " ".join(" ".join(panels or [str(figure.get_label())]).split())


def _ends(line) -> str:
    points = sorted(zip(line.get_xdata(), line.get_ydata(), strict=True))
    (x0, y0), (x1, y1) = points[0], points[-1]
    return f"{line.get_label()}: {y0:.4g} at {x0:.4g}" + (f" to {y1:.4g} at {x1:.4g}" if len(points) > 1 else "")


def axes_grid(count: int, share: bool = False, footer: bool = False) -> tuple[Figure, list[Axes]]:
    """One panel at column width, more in two columns at page width."""
    columns = min(2, count)
    rows = -(-count // columns)
    size = (COLUMN if count == 1 else PAGE, 2.35 * rows + (0.35 if footer else 0))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for cell in axes[count:]:
        cell.remove()
    return figure, list(axes[:count])


def nothing(text: str) -> Figure:
    figure = Figure(figsize=(COLUMN, 1.2), layout="constrained")
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=9)
    figure.set_label(text)
    return drawn_from(figure, pd.DataFrame(columns=["dataset"]))
