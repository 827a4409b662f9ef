"""Names of classes in figures: any script, any length."""

import warnings
from itertools import pairwise

import matplotlib
import pandas as pd
import pytest
from matplotlib.figure import Figure

from asel_lib.reporting import style
from asel_lib.reporting.confusion import confusion_matrices

LATIN = ("Übergang", "čtvrť", "река", "δάσος", "rừng")


def titled(text: str) -> Figure:
    figure = Figure()
    figure.subplots().set_title(text)
    return figure


@pytest.fixture
def installed(monkeypatch):
    """installed(names) -> as if the machine had these fonts besides matplotlib's own."""

    def pretend(*names):
        style.fonts.cache_clear()
        monkeypatch.setattr(style.font_manager, "get_font_names", lambda: ["DejaVu Sans", *names])

    cached = style.fonts
    yield pretend
    cached.cache_clear()


def test_fonts_are_those_that_are_installed_in_order_of_choice(installed):
    installed("Noto Sans CJK JP", "Comic Neue", "Noto Sans")
    assert style.fonts() == ("DejaVu Sans", "Noto Sans", "Noto Sans CJK JP")
    used = style.styled(lambda: matplotlib.rcParams["font.family"])()
    assert used == list(style.fonts())


def test_a_character_that_no_font_has_is_one_named_warning_and_the_figure_is_saved(installed, tmp_path):
    installed()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        style.save(titled(f"{LATIN} 森林 河"), tmp_path, "figure")
    (one,) = [each for each in said if "Glyph" in str(each.message) or each.category is style.MissingGlyphs]
    assert one.category is style.MissingGlyphs
    assert "no installed font has 林 森 河" in str(one.message) and "fonts-noto-cjk" in str(one.message)
    assert (tmp_path / "figure.png").is_file() and (tmp_path / "figure.pdf").is_file()


def test_a_second_font_gives_what_the_first_one_lacks(installed, monkeypatch):
    installed()
    figure = titled("✈\u2c6e\U0001d400")
    lacks = style.missing_glyphs(figure)
    assert len(lacks) < 3, "DejaVu has some of them"
    monkeypatch.setattr(style, "fonts", lambda: ("DejaVu Sans Mono", "DejaVu Sans"))
    assert style.missing_glyphs(figure) == lacks
    monkeypatch.setattr(style, "fonts", lambda: ())
    assert len(style.missing_glyphs(figure)) == 3


@pytest.mark.parametrize(
    "name, shown",
    [
        ("RiverLake", "River Lake"),
        ("dense_residential", "dense\nresidential"),
        ("a very long name of a class of images", "a very long\nname of a…"),
        ("Donaudampfschifffahrtsgesellschaft", "Donaudampfsch\nifffahrtsges…"),
        ("高密度住宅地区卫星图像数据集合", "高密度住宅地\n区卫星图像…"),
    ],
)
def test_a_name_takes_at_most_two_short_lines(name, shown):
    assert style.short(name) == shown


def test_of_a_long_name_in_one_line_both_ends_stay():
    first, second = (style.short(f"settlement_with_many_{kind}_roofs", 24, lines=1) for kind in ("red", "grey"))
    assert first == "settlement with…ed roofs" and first != second


def test_long_names_at_a_matrix_do_not_overlap():
    classes = [f"class_number_{number}_with_a_name_that_is_long" for number in range(12)]
    table = pd.DataFrame(
        [(each, other, 3) for each in classes for other in classes], columns=["class", "answer", "images"]
    )
    figure = confusion_matrices(table)
    figure.draw_without_rendering()
    for axes in figure.axes[:2]:
        for labels, low, high in ((axes.get_xticklabels(), "x0", "x1"), (axes.get_yticklabels(), "y0", "y1")):
            boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: getattr(box, low))
            assert len(boxes) == 12
            assert all(getattr(one, high) <= getattr(other, low) for one, other in pairwise(boxes))
