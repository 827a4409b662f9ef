"""Write the report: the pages' sources, then Sphinx; the old report stays until the new one is whole."""

import contextlib
import fcntl
import io
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from asel_lib import paths
from pipeline.report import claims_page, figures_page, first_page, machine_page, notebooks_page, results_page
from pipeline.report.collect import Found, collect, put
from pipeline.report.markup import render, source_of

PAGES = {
    "index.md": first_page.page,
    "results.md": results_page.page,
    "claims.md": claims_page.page,
    "figures.md": figures_page.page,
    "notebooks.md": notebooks_page.page,
    "machine.md": machine_page.page,
}


def write_report(executed: list[Path]) -> Path:
    """Build benchmarks_results/report/, and <run>/index.html that leads to it.

    Args:
        executed: <run folder>/notebooks/<name>.ipynb of all notebooks that were asked for, there or not. One that
            failed, or did not run, is shown as such.

    Returns:
        The report's first page.

    Raises:
        RuntimeError: it could not be built; the report that was there stays.
    """
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
    there = os.path.relpath(out / "index.html", run)
    unfinished.write_text(render("leads_there.html", to=there), encoding="utf-8")
    unfinished.replace(run / "index.html")
    return out / "index.html"


@contextlib.contextmanager
def _alone(work: Path) -> Iterator[None]:
    """One build at a time: runs of two profiles share the report."""
    work.mkdir(parents=True, exist_ok=True)
    with (work / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fill(source: Path, asked: dict[str, list[str]]) -> None:
    """Write the pages' Markdown; files that did not change keep their time, so that only what is new is built."""
    found: Found = collect(source, asked)
    written = set(found.written)
    texts = {name: page(found) for name, page in PAGES.items()} | {"_static/report.css": source_of("report.css")}
    for name, text in texts.items():
        put(source / name, text.encode())
        written.add(source / name)
    for file in source.rglob("*"):
        if file.is_file() and file not in written and ".doctrees" not in file.parts:
            file.unlink()


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
        "nb_render_markdown_format": "gfm",  # with tables
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
