"""The report in a browser, from the file system: no error, no broken link or picture, tables that sort and filter, dark
and light, narrow screens."""

import json
import shutil
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlparse

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from asel_lib.reporting import paper, tables
from pipeline import report

REPOSITORY = Path(__file__).parents[1]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A checkout with the committed results and one run: two executed notebooks, one that failed, one that did not run;
    and the report of it."""
    root = tmp_path_factory.mktemp("a checkout")
    results = root / "benchmarks_results"
    results.mkdir()
    shutil.copy(REPOSITORY / "benchmarks_results/results.csv", results)
    run = results / "runs/demo"
    (run / "notebooks").mkdir(parents=True)
    rows = tables.read(results / "results.csv")
    rows = rows[rows["dataset"] == "synthetic"].assign(timestamp="2030-01-01", commit="of this run")
    tables.write(rows, run / "results.csv")
    paper.all_figures(tables.read(results / "results.csv"), run / "figures")
    picture = nbformat.v4.new_output("display_data", {"image/png": PIXEL, "text/plain": "picture"})
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "image/png": PIXEL}
    formula = nbformat.v4.new_output("display_data", {"text/latex": "$K$", "text/plain": "K"})
    outputs = [picture, nbformat.v4.new_output("display_data", widget), formula]
    code = nbformat.v4.new_code_cell("1 + 1", outputs=outputs)
    cells = [nbformat.v4.new_markdown_cell("# The paper's figures"), code]
    for name in ("06_paper_figures", "08_claims", "05_benchmark.failed"):
        state = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}}
        made = nbformat.v4.new_notebook(cells=cells, metadata={"papermill": {"duration": 7.2}, "widgets": state})
        nbformat.write(made, run / f"notebooks/{name}.ipynb")
    (run / "notebooks/05_benchmark.failed.txt").write_text("RuntimeError: <no> & no\n```\n<script>x()</script>")
    other = results / "runs/another <b>run/notebooks"
    other.mkdir(parents=True)
    (other / "05_torn.failed.ipynb").write_text('{"cells": [')
    shutil.copy(run / "figures/paper_3_aid.png", run / "figures/50 % # of it.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ASEL_ROOT", str(root))
        asked = ["00_quickstart", "05_benchmark", "06_paper_figures", "08_claims"]
        report.write_report([run / f"notebooks/{name}.ipynb" for name in asked])
    return root


@pytest.fixture
def opened(browser, place):
    """open(page, width, scheme) -> a page of the report, and what went wrong while it was shown."""
    contexts = []

    def open_page(name="index", width=1200, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page, wrong = context.new_page(), []
        page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("requestfailed", lambda request: wrong.append(f"not loaded: {request.url[:200]}"))
        page.goto((place / f"benchmarks_results/report/{name}.html").as_uri())
        page.wait_for_load_state("load")
        return page, wrong

    yield open_page
    for context in contexts:
        context.close()


PAGES = ("index", "results", "claims", "figures", "notebooks", "machine", "notebooks/demo/06_paper_figures")


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wrong_on_a_page_and_it_fits_a_phone(opened, name):
    for width, scheme in ((1200, "light"), (390, "dark")):
        page, wrong = opened(name, width, scheme)
        page.evaluate("for (const image of document.images) image.loading = 'eager'")
        page.wait_for_function("[...document.images].every(image => image.complete)")
        page.wait_for_timeout(300)
        assert wrong == []
        assert page.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)") == []
        assert page.evaluate("[...document.images].every(image => image.alt.length > 10)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_link_leads_somewhere(opened, place):
    seen = set()
    for name in PAGES:
        page, _ = opened(name)
        for link in page.evaluate("[...document.links].map(link => link.href)"):
            address = urlparse(urldefrag(link).url)
            if address.scheme == "file":
                seen.add(unquote(address.path))
    assert len(seen) > 30
    assert [path for path in seen if not Path(path).is_file()] == []
    assert {Path(path).suffix for path in seen} >= {".html", ".pdf", ".csv", ".png"}


def test_the_results_sort_and_filter(opened):
    page, _ = opened("results")
    rows = page.locator("#results-table tbody tr")
    rows.first.wait_for()
    assert rows.count() == 15
    head = page.locator("#results-table thead th", has=page.get_by_placeholder("accuracy", exact=True)).first
    column = head.evaluate("cell => cell.cellIndex")
    for ascending in (True, False):
        head.locator(".dt-column-order").click()
        page.wait_for_timeout(200)
        shown = [float(row.locator("td").nth(column).inner_text()) for row in rows.all()]
        assert shown == sorted(shown, reverse=not ascending)
    page.get_by_placeholder("dataset").press_sequentially("rsscn7")
    page.wait_for_timeout(400)
    texts = [row.inner_text() for row in rows.all()]
    assert texts and all("rsscn7" in text for text in texts)
    page.get_by_placeholder("from").press_sequentially("demo")
    page.wait_for_timeout(400)
    assert "No matching records" in page.locator("#results-table tbody").inner_text()


def test_dark_and_light_are_two(opened):
    grounds = {}
    for scheme in ("light", "dark"):
        page, _ = opened("results", scheme=scheme)
        page.locator("#results-table tbody td").first.wait_for()
        color = "element => getComputedStyle(element).color"
        grounds[scheme] = page.evaluate("getComputedStyle(document.body).backgroundColor")
        texts = page.locator("#results-table tbody td").first.evaluate(color)
        light = sum(map(int, texts.removeprefix("rgb(").removesuffix(")").split(",")[:3])) > 380
        assert light == (scheme == "dark"), "text as dark as its ground"
    assert grounds["light"] != grounds["dark"]


def test_the_first_page_shows_a_figure_that_is_not_empty(opened, place, tmp_path):
    page, _ = opened("index")
    assert "measurements of" in page.locator("body").inner_text()
    assert "A notebook failed" in page.locator("body").inner_text()
    shown, _ = opened("figures")
    shown.locator("figure img").nth(1).screenshot(path=tmp_path / "figure.png")
    assert np.asarray(Image.open(tmp_path / "figure.png").convert("L")).std() > 5
    alt = shown.locator("figure img").nth(1).get_attribute("alt")
    assert len(alt) > 60


def test_notebooks_are_listed_with_their_state_and_without_widgets(opened, place):
    page, _ = opened("notebooks")
    text = page.locator("body").inner_text()
    assert "did not run" in text and "RuntimeError: <no> & no" in text and "7 s" in text
    assert "<script>x()</script>" in text and "another <b>run" in text, "shown as it is written"
    assert "05_torn" in text and "unreadable" in text, "of a run that was not asked for now"
    executed = (place / "benchmarks_results/report/notebooks/demo/06_paper_figures.html").read_text()
    assert executed.count("<img") >= 2 and "widget-view" not in executed and "html-manager" not in executed


def test_claims_are_those_of_the_table(opened, place):
    page, _ = opened("claims")
    rows = page.locator("#claims-table tbody tr")
    rows.first.wait_for()
    page.get_by_placeholder("claim").press_sequentially("every keep ratio")
    page.wait_for_timeout(400)
    judged = report.claims.table(tables.read(place / "benchmarks_results/results.csv"))
    expected = judged[judged["claim"].str.contains("every keep ratio")]
    assert rows.count() == len(expected)
    assert all(verdict in rows.nth(i).inner_text() for i, verdict in enumerate(expected["verdict"]))


def test_a_second_build_shows_what_changed_and_nothing_of_what_is_gone(place, monkeypatch):
    monkeypatch.setenv("ASEL_ROOT", str(place))
    folder = place / "benchmarks_results/report"
    run = place / "benchmarks_results/runs/demo"
    assert list(folder.rglob("*paper_2_eurosat*.png"))
    shutil.copy(run / "notebooks/08_claims.ipynb", run / "notebooks/07_gone.ipynb")
    report.write_report([run / "notebooks/06_paper_figures.ipynb"])
    assert (folder / "notebooks/demo/07_gone.html").is_file()
    (run / "notebooks/07_gone.ipynb").unlink()
    notebook = json.loads((run / "notebooks/06_paper_figures.ipynb").read_text())
    notebook["cells"][1]["source"] = "40 + 2"
    (run / "notebooks/06_paper_figures.ipynb").write_text(json.dumps(notebook))
    for kind in ("png", "pdf", "csv"):
        (run / f"figures/paper_2_eurosat.{kind}").unlink()
    report.write_report([run / f"notebooks/{name}.ipynb" for name in ("06_paper_figures", "08_claims")])
    assert (folder / "notebooks/demo/08_claims.html").is_file()
    assert not (folder / "notebooks/demo/07_gone.html").exists()
    assert not list(folder.rglob("*paper_2_eurosat*"))
    assert sorted(path.name for path in folder.parent.iterdir()) == ["report", "results.csv", "runs"]
    assert "40" in (folder / "notebooks/demo/06_paper_figures.html").read_text()


def test_a_table_that_cannot_be_read_is_left_out_and_said(place, monkeypatch, capsys):
    monkeypatch.setenv("ASEL_ROOT", str(place))
    run = place / "benchmarks_results/runs/demo"
    kept = (run / "results.csv").read_text()
    (run / "results.csv").write_text("torn")
    page = report.write_report([run / "notebooks/06_paper_figures.ipynb"])
    (run / "results.csv").write_text(kept)
    assert page.is_file() and "left out of the report" in capsys.readouterr().err
    assert len(pd.read_csv(place / "benchmarks_results/results.csv")) > 100
