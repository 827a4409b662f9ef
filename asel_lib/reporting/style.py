"""One look for every figure and sheet, and how they are saved.

Figures belong to no global state (no pyplot), so that they work without a display and are freed like any object.
"""

import functools
import os
import re
import textwrap
import unicodedata
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib
import pandas as pd
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

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
}
# Whose glyphs are taken, in this order, where they are installed: names of classes are in any script. DejaVu comes with
# matplotlib; the others are what Linux, macOS and Windows bring or have as packages.
FONTS = (
    "DejaVu Sans",
    "Noto Sans",
    *(f"Noto Sans {name}" for name in ("CJK JP", "CJK SC", "CJK TC", "CJK KR", "JP", "SC", "TC", "KR")),
    *("Source Han Sans", "WenQuanYi Micro Hei", "WenQuanYi Zen Hei", "Droid Sans Fallback", "IPAGothic", "NanumGothic"),
    *("Hiragino Sans", "PingFang SC", "PingFang HK", "Apple SD Gothic Neo", "Arial Unicode MS"),
    *("Microsoft YaHei", "Yu Gothic", "Meiryo", "Malgun Gothic", "SimHei", "Nirmala UI", "Leelawadee UI"),
    *(f"Noto Sans {name}" for name in ("Arabic", "Hebrew", "Devanagari", "Bengali", "Tamil", "Telugu", "Thai")),
    *(f"Noto Sans {name}" for name in ("Ethiopic", "Georgian", "Armenian", "Khmer", "Myanmar", "Sinhala", "Symbols2")),
)
COLUMN, PAGE = 3.4, 6.9  # widths of a column and of a page, inches


class MissingGlyphs(UserWarning):
    """No installed font has some of a figure's characters: they are drawn as boxes."""


@functools.cache
def fonts() -> tuple[str, ...]:
    """Those of FONTS that are installed."""
    installed = set(font_manager.get_font_names())
    return tuple(name for name in FONTS if name in installed)


def styled(draw: Callable) -> Callable:
    """Draw and save in this file's style, leaving matplotlib's settings as they were."""

    @functools.wraps(draw)
    def wrapper(*args, **kwargs):
        with matplotlib.rc_context(STYLE | {"font.family": list(fonts())}):
            return draw(*args, **kwargs)

    return wrapper


def drawn_from(figure: Figure, rows: pd.DataFrame) -> Figure:
    """Say which rows a figure draws: they are saved beside it.

    Args:
        figure: drawn.
        rows: that it draws.
    """
    figure.rows = rows
    return figure


@styled
def save(figure: Figure, folder: str | os.PathLike, stem: str) -> list[Path]:
    """Write a figure as PNG (150 dpi) and PDF, and the rows that it draws as CSV.

    The pictures' metadata carry the footer (data set, device, commit), what is to be seen, in words (`describe`), and
    no time, so that the same data make the same files. MissingGlyphs warns of characters that no installed font has.

    Args:
        figure: to be saved.
        folder: made where it is missing.
        stem: of the files' names.

    Returns:
        The files.
    """
    if missing := missing_glyphs(figure):
        warnings.warn(
            f"{stem}: no installed font has {' '.join(missing)}: boxes stand for them in the figure. Install one, e.g. "
            "the packages fonts-noto-core and fonts-noto-cjk, and remove matplotlib's list of fonts "
            f"({matplotlib.get_cachedir()}/fontlist-*.json)",
            MissingGlyphs,
            stacklevel=3,
        )
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
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # said once, above
            figure.savefig(temporary, format=kind, dpi=150, metadata=entries)
        os.replace(temporary, path)
        paths.append(path)
    if (rows := getattr(figure, "rows", None)) is not None:
        paths.append(Path(folder) / f"{stem}.csv")
        replace_text(paths[-1], rows.to_csv(index=False))
    return paths


def missing_glyphs(figure: Figure) -> list[str]:
    """The characters of a figure's texts that none of `fonts()` has, each once."""
    texts = "".join(text.get_text() for text in figure.findobj(Text) if text.get_visible())
    left = {one for one in texts if not (one.isspace() or ord(one) < 128)}
    for name in fonts():
        left -= {one for one in left if _font(name).get_char_index(ord(one))}
    return sorted(left)


@functools.cache
def _font(name: str) -> FT2Font:
    return font_manager.get_font(font_manager.findfont(name))


def short(name: str, letters: int = 13, lines: int = 2) -> str:
    """A class name that fits beside others: broken between its words, cut where it is still too long.

    Args:
        name: in any script, "_" or a capital between its words.
        letters: Latin ones a line; of a script whose letters are twice as wide half as many.
        lines: at most; of one, the middle is cut out, so that names that begin or end alike stay apart.
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.replace("_", " "))
    if any(unicodedata.east_asian_width(one) in "WF" for one in words):
        letters = letters // 2
    if lines > 1:
        first, rest = (wrapped := textwrap.wrap(words, letters))[:lines], wrapped[lines:]
        return "\n".join([*first[:-1], f"{first[-1][: letters - 1]}…"] if rest else first)
    return words if len(words) <= letters else f"{words[: letters - letters // 3 - 1]}…{words[-(letters // 3) :]}"


def say_below(figure: Figure, about: str, note: str = "") -> None:
    """Say what a figure shows, in small type below it.

    Args:
        figure: to be finished.
        about: what it shows; this alone becomes its label.
        note: added below.
    """
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
    """A figure of panels: one at column width, more in two columns at page width.

    Args:
        count: of panels.
        share: whether they share the y axis.
        footer: whether there is room for a line below.
    """
    columns = min(2, count)
    rows = -(-count // columns)
    size = (COLUMN if count == 1 else PAGE, 2.35 * rows + (0.35 if footer else 0))
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for cell in axes[count:]:
        cell.remove()
    return figure, list(axes[:count])


def nothing(text: str) -> Figure:
    """A figure that says why there is none.

    Args:
        text: the reason.
    """
    figure = Figure(figsize=(COLUMN, 1.2), layout="constrained")
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=9)
    figure.set_label(text)
    return drawn_from(figure, pd.DataFrame(columns=["dataset"]))
