"""One look for every figure and sheet, and how they are saved.

Figures belong to no global state (no pyplot), so that they work without a display and are freed like any object.
"""

import functools
import os
from collections.abc import Callable
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe and Ito's colours, told apart with any colour vision; marker and dash tell them apart in grey.
LINES = {
    "learned": {"color": "#0072B2", "marker": "o", "linestyle": "-"},
    "random": {"color": "#D55E00", "marker": "s", "linestyle": "--"},
    "central": {"color": "#009E73", "marker": "^", "linestyle": ":"},
    "agent": {"color": "#882255", "marker": "X", "linestyle": "-."},
    "glance": {"color": "#0072B2", "marker": "h", "linestyle": "-"},
}
MORE = [("#CC79A7", "D", "-."), ("#E69F00", "v", "--"), ("#56B4E9", "P", ":"), ("#000000", "X", "-")]
STYLE = {
    "font.size": 8, "axes.titlesize": 8, "axes.labelsize": 8, "xtick.labelsize": 7, "ytick.labelsize": 7,
    "legend.fontsize": 7, "lines.linewidth": 1.2, "lines.markersize": 3.5, "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.color": "#dddddd", "grid.linewidth": 0.5,
    "axes.axisbelow": True, "legend.frameon": False, "pdf.fonttype": 42, "font.family": "DejaVu Sans",
}  # fmt: skip
COLUMN, PAGE = 3.4, 6.9  # widths of a column and of a page, inches


def styled(draw: Callable) -> Callable:
    """Draw and save in this file's style, leaving matplotlib's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        with matplotlib.rc_context(STYLE):
            return draw(*args, **kwargs)

    return wrapper


@styled
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
    return figure
