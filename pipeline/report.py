"""The report a reader opens after a run: python pipeline/report.py EXECUTED_NOTEBOOK ...

Sphinx (MyST-NB, Furo) makes benchmarks_results/report/ of the committed results and of every run: headline, tables that
sort and filter (itables), claims, figures with their data, executed notebooks. It needs no network to be read. A
notebook that was asked for and failed, or did not run, is shown as such. <run>/index.html leads to it.
"""

import contextlib
import fcntl
import html
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd

from asel_lib import paths
from asel_lib.errors import AselError
from asel_lib.reporting import claims, methods, tables
from asel_lib.reproducibility import environment

REPOSITORY = Path(__file__).resolve().parents[1]
SHOWN = [  # of the results table, what one looks for first in front
    "dataset",
    "recipe",
    "policy",
    "keep_ratio",
    "accuracy",
    "latency_ms",
    "accuracy_low",
    "accuracy_high",
    "gmacs",
    "throughput",
    "seed",
    "checkpoint",
    "n_images",
    "start",
    "profile",
    "batch_size",
    "device",
    "dtype",
    "commit",
]
HEADLINES = ("rsscn7_7_methods", "aid_7_methods", "synthetic_1_strategies")
STYLE = """
.main, .content, article { min-width: 0; max-width: 100%; }
@media (min-width: 82em) { .content { width: 62em; } }
.wide { font-size: .8rem; }
.wide table { font-size: .8rem; }
.wide .dt-container, .wide table.dataTable, .wide table.dataTable > * > tr { background: transparent !important; }
.wide table.dataTable > tbody > tr > * { color: inherit; box-shadow: none !important; vertical-align: top;
  border-bottom: 1px solid var(--color-background-border) !important; background: transparent !important; }
.wide .dt-paging-button { color: inherit !important; background: transparent !important; }
.wide option { color: #000; }
.wide { overflow-x: auto; max-width: 100%; }
.wide table.dataTable { color: inherit; }
.wide input, .wide select { color: inherit; background: var(--color-background-secondary);
  border: 1px solid var(--color-background-border); border-radius: 4px; padding: .15rem .3rem; max-width: 9rem; }
.wide thead input { max-width: 4.6rem; }
#results-table td { white-space: nowrap; }
#results-table td:nth-child(3) { white-space: normal; overflow-wrap: anywhere; }
.wide table.dataTable thead th { padding: .3rem .25rem !important; }
figure img, .cell_output img { background: #fff; border-radius: 4px; }
.failed { color: #d33; font-weight: 600; }
.cell_output { overflow-x: auto; }
"""
GO = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>ASEL report</title><meta http-equiv="refresh" content="0; url={to}"><p><a href="{to}">The report</a></p></html>
"""


def write_report(executed: list[Path]) -> Path:
    """executed: <run folder>/notebooks/<name>.ipynb of all notebooks asked for, there or not. -> the report's page.
    The report that was there stays until the new one is whole; RuntimeError where it cannot be built."""
    run = executed[0].resolve().parents[1]
    out, work = paths.results() / "report", paths.results() / "runs" / ".report"
    with _alone(work):
        _fill(work / "source", {run.name: [notebook.stem for notebook in executed]})
        _build(work / "source", work / "built" / "html")
        shutil.rmtree(work / "before", ignore_errors=True)
        if out.exists():
            out.rename(work / "before")
        (work / "built" / "html").rename(out)
    unfinished = run / "index.html.part"
    unfinished.write_text(GO.format(to=html.escape(os.path.relpath(out / "index.html", run))), encoding="utf-8")
    unfinished.replace(run / "index.html")
    return out / "index.html"


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """One build at a time: runs of two profiles share the report."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(source: Path, out: Path) -> None:
    """Read again what changed, write all anew: no page or picture of what is gone stays."""
    from sphinx.application import Sphinx

    shutil.rmtree(out.parent, ignore_errors=True)

    settings = {
        "project": "ASEL companion",
        "extensions": ["myst_nb"],
        "html_theme": "furo",
        "html_title": "ASEL companion",
        "html_static_path": ["_static"],
        "html_css_files": ["report.css"],
        "html_copy_source": False,
        "html_show_sphinx": False,
        "html_show_copyright": False,
        "nb_execution_mode": "off",  # they were executed
        "nb_merge_streams": True,
        "nb_ipywidgets_js": {},  # from a network; without it a widget's picture is shown
        "nb_mime_priority_overrides": [
            ("*", kind, None) for kind in ("application/vnd.jupyter.widget-view+json", "text/latex")
        ],
        "myst_enable_extensions": ["colon_fence"],
        "suppress_warnings": [
            "myst.header",
            "mystnb.unknown_mime_type",
            "toc.not_included",
            "misc.highlighting_failure",
        ],
        "exclude_patterns": [".doctrees"],
    }
    said = io.StringIO()
    app = Sphinx(
        str(source),
        None,
        str(out),
        str(source / ".doctrees"),
        "html",
        confoverrides=settings,
        status=io.StringIO(),
        warning=said,
        freshenv=False,
    )
    app.build(force_all=True)
    print(said.getvalue(), end="", file=sys.stderr)
    if app.statuscode:
        raise RuntimeError(f"the report could not be built: {said.getvalue()}")


# --- the pages ---


def _fill(source: Path, asked: dict[str, list[str]]) -> None:
    """Write the pages' Markdown; files that did not change keep their time, so that only what is new is built."""
    written = set()

    def page(name: str, text: str) -> None:
        _put(source / name, text.encode())
        written.add(source / name)

    runs = [run for run in sorted((paths.results() / "runs").glob("[!.]*")) if (run / "notebooks").is_dir()]
    frames = {name: frame for name, frame in _results(runs).items() if len(frame)}
    every = pd.concat(frames.values(), ignore_index=True) if frames else pd.DataFrame(columns=list(tables.COLUMNS))
    pictures = _pictures(source, runs, written)
    notebooks = {run.name: _notebooks(source, run, asked.get(run.name, []), written) for run in runs}
    page("_static/report.css", STYLE)
    own = sorted(set(every["dataset"]) - set(frames.get("committed", every[:0])["dataset"]))
    page("index.md", _index(every, pictures, notebooks, own))
    page("results.md", _results_page(frames))
    page("claims.md", _claims_page(every, _made_here(runs, notebooks)))
    page("figures.md", _figures_page(pictures))
    page("notebooks.md", _notebooks_page(notebooks))
    page("machine.md", _machine_page(every))
    for file in source.rglob("*"):
        if file.is_file() and file not in written and ".doctrees" not in file.parts:
            file.unlink()


def _results(runs: list[Path]) -> dict[str, pd.DataFrame]:
    """Where from -> rows: the committed table and every run's own."""
    places = {"committed": paths.results() / "results.csv"} | {run.name: run / "results.csv" for run in runs}
    found, seen = {}, pd.DataFrame(columns=list(tables.COLUMNS))
    for name, file in places.items():
        try:
            frame = tables.read(file) if file.is_file() else None
        except AselError as error:  # the report shows what there is
            print(f"left out of the report: {error}", file=sys.stderr)
            continue
        if frame is not None:  # a run's table may hold what was committed
            together = tables.with_reference(seen, file) if len(seen) else frame
            found[name], seen = together.iloc[len(seen) :], together
    return found


def _pictures(source: Path, runs: list[Path], written: set[Path]) -> dict[str, list[Path]]:
    """Where from -> the figures' PNG files, copied below the source, each with the PDF and CSV beside it."""
    places = {"committed": paths.results() / "figures"} | {run.name: run / "figures" for run in runs}
    found = {}
    for name, folder in places.items():
        for file in sorted(folder.glob("*.*")):
            if file.suffix in (".png", ".pdf", ".csv"):
                copy = source / "figures" / _safe(name) / f"{_safe(file.stem)}{file.suffix}"
                _put(copy, file.read_bytes())
                written.add(copy)
                if file.suffix == ".png":
                    found.setdefault(name, []).append(copy)
    return found


def _notebooks(source: Path, run: Path, asked: list[str], written: set[Path]) -> list[dict]:
    """A row a notebook: stem, state, seconds, reason; those there and failed are copied below the source."""
    folder = run / "notebooks"
    files = (file.stem.removesuffix(".failed") for file in sorted(folder.glob("[!.]*.ipynb")))
    rows = []
    for stem in dict.fromkeys([*asked, *files]):
        row = {"stem": stem, "state": "did not run", "seconds": None, "reason": "", "page": ""}
        rows.append(row)
        done, failed = folder / f"{stem}.ipynb", folder / f"{stem}.failed.ipynb"
        file = done if done.is_file() else failed if failed.is_file() else None
        if file is None:
            continue
        reason = failed.with_suffix(".txt")
        row["state"] = "done" if file == done else "failed"
        row["reason"] = "" if file == done else _text(reason) or "It was interrupted, or is still at work."
        try:
            content = nbformat.read(file, as_version=4)
        except Exception as error:  # torn, or being written by another run; nbformat has no one class for it
            row |= {"state": "unreadable", "reason": f"{file.name}: {type(error).__name__}"}
            continue
        row["page"] = f"notebooks/{_safe(run.name)}/{_safe(stem)}"
        row["seconds"] = content.metadata.get("papermill", {}).get("duration")
        copy = source / f"{row['page']}.ipynb"
        _put(copy, nbformat.writes(_readable(content, stem)).encode())
        written.add(copy)
    return rows


def _readable(content, stem: str):
    """The notebook under the name of its run: several are copies of one, and would have one title. Its pictures get the
    heading above them as alternative text."""
    content.metadata.pop("widgets", None)
    heading, titled = stem, False
    for cell in content.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            heading, _, rest = cell.source.lstrip("# ").partition("\n")
            if cell.source.startswith("# ") and not titled:
                cell.source, titled = f"# {stem}\n\n*{heading}*\n{rest}", True
        if cell.cell_type == "code":
            cell.metadata["mystnb"] = {"image": {"alt": f"Picture in {stem}, section: {heading}"}}
    return content


def _index(
    every: pd.DataFrame, pictures: dict[str, list[Path]], notebooks: dict[str, list[dict]], own: list[str]
) -> str:
    """own: data sets that only this checkout's runs have, such as a reader's folder; they come first."""
    about = environment()
    states = [row["state"] for rows in notebooks.values() for row in rows]
    lines = [
        "# ASEL companion: the report",
        "Patch selection for Vision Transformers: what was measured, what the papers claim, the way to each number.",
        f"{len(every)} measurements of {every['checkpoint'].nunique()} models on {every['dataset'].nunique()} data "
        f"sets; {states.count('done')} of {len(states)} notebooks ran; made at commit `{about['commit']}` on "
        f"{about['device_name']}, {about['cores']} cores.",
    ]
    if {"failed", "unreadable"} & set(states):
        lines.append('<p class="failed">A notebook failed: see <a href="notebooks.html">Notebooks</a>.</p>')
    there = {file.stem: file for files in pictures.values() for file in files}
    for dataset in own:
        lines.append(f"## {_code(dataset)}, of this checkout's runs")
        lines += [_figure(there[name]) for name in (f"{dataset}_1_strategies",) if name in there]
        lines += [_plain(tables.summary(every[every["dataset"] == dataset]))]
    headline = next((there[name] for name in HEADLINES if name in there), None)
    if headline is not None:
        lines += ["## At a glance", _figure(headline)]
    every = tables.pooled(every)
    for dataset in sorted(set(every["dataset"])):
        if len(found := methods.table(every, dataset)):
            lines += [f"### {_code(dataset)}: accuracy (%) by keep ratio", _plain(found.drop(columns="data set"))]
            advice = [methods.advice(every, dataset, by) for by in methods.BUDGETS]
            lines += [f"### {_code(dataset)}: which method to use when"]
            lines += [_plain(table.drop(columns="data set")) for table in advice if len(table)]
    lines += ["## What is here", "- [Results](results.md): every measurement, to sort and to filter"]
    lines += [
        "- [Claims](claims.md): what the papers say, and what holds",
        "- [Figures](figures.md): as PNG, PDF and data",
    ]
    lines += ["- [Notebooks](notebooks.md): as they were executed", "- [Machine and versions](machine.md)"]
    lines.append("```{toctree}\n:hidden:\n\nresults\nclaims\nfigures\nnotebooks\nmachine\n```")
    return "\n\n".join(lines) + "\n"


def _results_page(frames: dict[str, pd.DataFrame]) -> str:
    lines = [
        "# Results",
        "A row a measurement: an accuracy with its 95 % interval (Wilson), GMACs of an image, the median latency of a "
        "batch. The arrows beside a column's name sort, the boxes filter. `from`: the committed results, or a run of "
        "this checkout.",
    ]
    if not frames:
        return "\n\n".join([*lines, "Nothing was measured yet."])
    shown = pd.concat([frame[SHOWN].assign(**{"from": name}) for name, frame in frames.items()], ignore_index=True)
    numbers = {"accuracy": 4, "accuracy_low": 4, "accuracy_high": 4, "gmacs": 4, "latency_ms": 2, "throughput": 0}
    return "\n\n".join([*lines, _sortable(shown.round(numbers), "results-table")]) + "\n"


def _claims_page(every: pd.DataFrame, made: dict[tuple[str, str], str]) -> str:
    judged = claims.table(every)
    counts = judged["verdict"].value_counts()
    said = "; ".join(f"{count} {verdict}" for verdict, count in counts.items())
    lines = [
        "# Claims",
        f"Each claim of the papers, its own record, and what was measured here, by recipe and data set: {said}. "
        "Verdicts are computed from the results; *undecided* means that the interval holds both answers. The small "
        "experiments behind the faults of the published numbers are in `08_claims` ([Notebooks](notebooks.md)). A "
        "checkpoint leads to the executed notebook that measured it, where this checkout has it.",
        _sortable(_linked(judged, made), "claims-table", marked_up=True),
    ]
    return "\n\n".join(lines) + "\n"


def _made_here(runs: list[Path], notebooks: dict[str, list[dict]]) -> dict[tuple[str, str], str]:
    """(checkpoint, commit) -> the page of the executed notebook that measured it, ("-", "") that of the claims' own
    experiments. A number of another commit was not made by the notebook that lies here."""
    made = {}
    for run in runs:
        pages = {row["stem"]: f"{row['page']}.html" for row in notebooks[run.name] if row["state"] == "done"}
        if "08_claims" in pages:
            made["-", ""] = pages["08_claims"]
        with contextlib.suppress(AselError):  # said where the results were read
            measured = tables.read(run / "results.csv")[["checkpoint", "commit"]].drop_duplicates()
            for checkpoint, commit in measured.itertuples(index=False):
                if page := pages.get(f"05_benchmark_{checkpoint}"):
                    made[checkpoint, commit] = page
    return made


def _linked(judged: pd.DataFrame, made: dict[tuple[str, str], str]) -> pd.DataFrame:
    """As HTML: checkpoints, and the notebook of an experiment, lead to the executed notebook."""

    def link(name: str, page: str | None) -> str:
        return f'<a href="{html.escape(page)}">{name}</a>' if page else name

    def checkpoints(row: pd.Series) -> str:
        commits = row["commit"].split(", ")
        pages = {name: [made.get((name, commit)) for commit in commits] for name in row["checkpoint"].split(", ")}
        return ", ".join(link(name, next(filter(None, there), None)) for name, there in pages.items())

    shown = judged.map(html.escape)
    notebooks = [link(name, made.get(("-", ""))) if name == "08_claims" else name for name in shown["notebook"]]
    return shown.assign(checkpoint=shown.apply(checkpoints, axis=1), notebook=notebooks)


def _figures_page(pictures: dict[str, list[Path]]) -> str:
    lines = ["# Figures", "Each with its PDF and, where it draws a table, the rows that it draws."]
    for name, files in pictures.items():
        lines.append(f"## {'The committed results' if name == 'committed' else f'Run {_code(name)}'}")
        lines += [_figure(file) for file in files]
    return "\n\n".join(lines if pictures else [*lines, "Nothing was drawn yet."]) + "\n"


def _figure(file: Path) -> str:
    from PIL import Image

    alt = file.stem
    with contextlib.suppress(OSError), Image.open(file) as image:
        alt = image.info.get("Alt") or image.info.get("Description") or alt
    path = f"figures/{file.parent.name}/{file.stem}"
    beside = [kind for kind in (".png", ".pdf", ".csv") if file.with_suffix(kind).is_file()]
    links = " · ".join(f"[{kind[1:].upper()}](<{path}{kind}>)" for kind in beside)
    return f":::{{figure}} {path}.png\n:alt: {' '.join(alt.split())}\n\n{file.stem.replace('_', ' ')} ({links})\n:::"


def _notebooks_page(notebooks: dict[str, list[dict]]) -> str:
    lines = ["# Notebooks"]
    for run, rows in notebooks.items():
        lines.append(f"## Run {_code(run)}")
        table = [
            {
                "notebook": f"[{_code(row['stem'])}](<{row['page']}.ipynb>)" if row["page"] else _code(row["stem"]),
                "state": f'<span class="failed">{row["state"]}</span>' if row["reason"] else row["state"],
                "time": f"{row['seconds']:.0f} s" if row["seconds"] else "",
            }
            for row in rows
        ]
        lines.append(tables.to_markdown(pd.DataFrame(table)))
        lines += [
            f"### {_code(row['stem'])}: {row['state']}\n\n{_verbatim(row['reason'])}" for row in rows if row["reason"]
        ]
        pages = "\n".join(f"{row['stem']} <{row['page']}>" for row in rows if row["page"])
        lines.append(f"```{{toctree}}\n:hidden:\n\n{pages}\n```" if pages else "")
    return "\n\n".join(lines) + "\n"


def _machine_page(every: pd.DataFrame) -> str:
    here = pd.DataFrame([(name, str(value)) for name, value in environment().items()], columns=["what", "value"])
    lines = ["# Machine and versions", "## This report was made with", _plain(here)]
    if len(every):
        columns = ["device", "dtype", "torch", "profile", "commit"]
        made = every.groupby(columns, dropna=False).size().rename("measurements").reset_index()
        lines += ["## The measurements were made with", _plain(made)]
    return "\n\n".join(lines) + "\n"


def _plain(frame: pd.DataFrame) -> str:
    return f'<div class="wide">\n{frame.to_html(index=False, border=0)}\n</div>'


def _sortable(frame: pd.DataFrame, identifier: str, marked_up: bool = False) -> str:
    """An itables table with all that it needs, in the page itself. marked_up: its cells are HTML, escaped already."""
    from itables import options, to_html_datatable
    from itables.javascript import generate_init_offline_itables_html

    table = to_html_datatable(
        frame,
        connected=False,
        table_id=identifier,
        showIndex=False,
        column_filters="header",
        maxBytes=0,
        layout={"topStart": "pageLength", "topEnd": "search", "bottomStart": "info", "bottomEnd": "paging"},
        lengthMenu=[15, 50, 200, {"value": -1, "label": "all"}],
        classes="display compact",
        allow_html=marked_up,
        display_logo_when_loading=False,
    )
    library = generate_init_offline_itables_html(options.dt_bundle)
    return f'```{{raw}} html\n<div class="wide">{library}{table}</div>\n```'


def _safe(name: str) -> str:
    """As a file's name and in a link."""
    return re.sub(r"[^\w.+-]", "_", name)


def _code(name: str) -> str:
    """As a piece of code, in which no mark-up counts."""
    return f"`{name.replace('`', '')}`"


def _verbatim(text: str) -> str:
    fence = "`" * (3 + max(map(len, re.findall("`+", text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def _put(path: Path, content: bytes) -> None:
    if path.is_file() and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.is_file() else ""


if __name__ == "__main__":
    write_report([Path(argument) for argument in sys.argv[1:]])
