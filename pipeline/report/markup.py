"""How things stand on a page: the templates, Markdown's special characters, tables, figures."""

import contextlib
import re
import zlib
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

# An interval, or a spread, beside the number that it belongs to.
INTERVAL = re.compile(r"\((?:quartiles )?[+-]?[\d.,]+(?:-| to |–)[+-]?[\d.,]+(?:;[^)]*)?\)|± ?[\d.]+|\(± ?[\d.]+\)")
NUMBER = re.compile(r"[+-]?[\d.,]+(?: ?%|x)?(?: .*)?|-|")


def render(template: str, **values) -> str:
    """A template filled; what is filled in is escaped.

    Args:
        template: its name.
        values: by the names that it has for them.
    """
    return _TEMPLATES.get_template(template).render(**values)


def source_of(template: str) -> str:
    """A file beside the templates, as it is."""
    return _TEMPLATES.loader.get_source(_TEMPLATES, template)[0]


def markdown(text: str) -> Markup:
    """Text in which no mark-up counts."""
    return Markup(re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(str(text).split())))


def code(text: str) -> Markup:
    """A piece of code, in which no mark-up counts."""
    return Markup(f"`{text.replace('`', '')}`")


def verbatim(text: str) -> Markup:
    """Lines as they are."""
    fence = "`" * (3 + max(map(len, re.findall("`+", text)), default=0))
    return Markup(f"{fence}text\n{text}\n{fence}")


def light(text: object) -> Markup:
    """HTML in which intervals are lighter than the numbers that they belong to."""
    text = _shown(text)
    pieces = zip(INTERVAL.split(text), [*INTERVAL.findall(text), ""], strict=True)
    return Markup(render("light.html", pieces=pieces))


def table(frame: pd.DataFrame) -> Markup:
    """A table for the eye: numbers to the right under their heads, intervals in a lighter tone, as wide as it needs and
    in a box of its own that scrolls on a narrow screen."""
    numeric = [name for name in frame if all(NUMBER.fullmatch(_shown(value)) for value in frame[name])]
    right = [{"selector": "", "props": "text-align: right; font-variant-numeric: tabular-nums"}]
    styler = frame.reset_index(drop=True).style.hide(axis="index").format(light).format_index(escape="html", axis=1)
    styler = styler.set_table_styles({name: right for name in numeric})
    identifier = f"{zlib.crc32(frame.to_csv().encode()):08x}"  # of its own: its columns' styles go by it
    return _raw(styler.to_html(table_uuid=identifier, cell_ids=False, table_attributes='class="plain"'))


def sortable(frame: pd.DataFrame, identifier: str, light_columns: tuple[str, ...] = ()) -> Markup:
    """A table that sorts and filters (itables), with all that it needs in the page itself.

    Args:
        frame: the rows.
        identifier: of the table in its page.
        light_columns: names of columns in a lighter tone.
    """
    from itables import options, to_html_datatable
    from itables.javascript import generate_init_offline_itables_html

    places = {name: place for place, name in enumerate(frame.columns)}
    numbers = [places[name] for name in frame.select_dtypes("number")]
    shown = to_html_datatable(
        frame,
        connected=False,
        table_id=identifier,
        showIndex=False,
        column_filters="header",
        maxBytes=0,
        layout={"topStart": "pageLength", "topEnd": "search", "bottomStart": "info", "bottomEnd": "paging"},
        lengthMenu=[15, 50, 200, {"value": -1, "label": "all"}],
        classes="display compact",
        autoWidth=False,  # it would give a column the width of its longest text, which may wrap
        columnDefs=[
            {"className": "dt-right", "targets": numbers},
            {"className": "dt-right interval", "targets": [places[name] for name in light_columns]},
        ],
        display_logo_when_loading=False,
    )
    return _raw(generate_init_offline_itables_html(options.dt_bundle) + shown)


def figure(file: Path) -> Markup:
    """A figure with its description in words, and links to its PDF and the rows that it draws."""
    from PIL import Image

    alt = file.stem
    with contextlib.suppress(OSError), Image.open(file) as image:
        alt = image.info.get("Alt") or image.info.get("Description") or alt
    return Markup(
        render(
            "figure.md",
            path=Markup(f"figures/{file.parent.name}/{file.stem}"),
            alt=Markup(" ".join(alt.split())),  # an option of a directive: plain text
            kinds=[kind for kind in ("png", "pdf", "csv") if file.with_suffix(f".{kind}").is_file()],
            title=file.stem.replace("_", " "),
        )
    )


def _raw(html: str) -> Markup:
    return Markup(render("wide.md", html=Markup(html)).rstrip("\n"))


def _shown(value: object) -> str:
    if isinstance(value, float):
        return "-" if pd.isna(value) else f"{value:.4g}"
    return str(value)


_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {
    "md": markdown,
    "code": code,
    "verbatim": verbatim,
    "light": light,
    "table": table,
    "figure": figure,
}
