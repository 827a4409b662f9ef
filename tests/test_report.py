"""The report in a browser, from the file system: no error, no broken link or picture, tables that sort and filter, dark
and light, narrow screens."""

import contextlib
import io
import re
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import unquote, urldefrag, urlparse

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from asel_lib import tables
from asel_lib.identity import ModelKey
from asel_lib.methods import LINE_GUIDED
from asel_lib.reporting import claims, figures, method_tables, rows
from pipeline import report
from pipeline.report import claims_page, executed, first_page, markup
from pipeline.report.collect import Found

REPOSITORY = Path(__file__).parents[1]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="

FINETUNED = ModelKey("aid", "published", "learned", "masked")
DROPPED = ModelKey("aid", "published", "learned")
ANYTIME = ModelKey("aid", "published", "glance", "anytime")
GLANCE = ModelKey("aid", "direct", "glance", "anytime")
RANDOM, LINES = (ModelKey("aid", "direct", selector) for selector in ("random", LINE_GUIDED))


def synthetic() -> pd.DataFrame:
    """The committed results of synthetic scenes."""
    found = tables.read(REPOSITORY / "benchmarks_results/results.csv")
    return found[found["dataset"] == "synthetic"]


def as_measured(key: ModelKey, like: str) -> pd.DataFrame:
    """Rows of that model by profile compact (224 px, ImageNet weights), with the numbers of a synthetic one."""
    there = synthetic()
    there = there[there["checkpoint"] == like]
    policy = there["policy"].where(there["policy"] != there["selector"], key.selector)
    kept = (196 * there["keep_ratio"]).astype(int).clip(lower=1)
    start = "imagenet" if key.schedule == "direct" else "cifar10_warmup from imagenet"
    return there.assign(**key.columns(), policy=policy, kept_patches=kept, start=start, profile="compact")


def photographs() -> pd.DataFrame:
    """Rows as runs of profile compact leave them."""
    models = {
        FINETUNED: "synthetic_finetuned",
        DROPPED: "synthetic-published-learned-s0",
        ANYTIME: "synthetic_anytime",
        GLANCE: "synthetic-direct-glance-anytime-s0",
        RANDOM: "synthetic-direct-random-s0",
        LINES: "synthetic-direct-central-s0",
        ModelKey("eurosat", "published", "learned", "masked"): "synthetic_finetuned",
    }
    return pd.concat([as_measured(key, like) for key, like in models.items()], ignore_index=True)


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """A checkout with results of synthetic scenes and photographs, and one run: executed notebooks, one that failed,
    one that did not run; and the report of it, built for the second time: `first` holds the pages and pictures of the
    first build, when other files were there, and `said` what it reported. Building takes seconds: once for all."""
    root = tmp_path_factory.mktemp("a checkout")
    results = root / "benchmarks_results"
    run = results / "runs/demo"
    committed = pd.concat([synthetic(), photographs()], ignore_index=True)
    figures.save(figures.draw("7_methods", committed, "synthetic"), results / "figures", "synthetic_7_methods")
    for name in ("paper_2_eurosat", "paper_3_aid"):
        figures.save(figures.draw(name, committed), run / "figures", name)
    measured = [f"05_benchmark_{key.name}" for key in (FINETUNED, DROPPED, LINES)]
    for name in ("06_paper_figures", "08_claims", "07_gone", "05_benchmark.failed", *measured):
        _written(run / f"notebooks/{name}.ipynb", "1 + 1")
    (run / "notebooks/05_benchmark.failed.txt").write_text("RuntimeError: <no> & no\n```\n<script>x()</script>")
    (run / "results.csv").write_text("torn")
    other = results / "runs/another <b>run/notebooks"
    other.mkdir(parents=True)
    (other / "05_torn.failed.ipynb").write_text('{"cells": [')
    report_of = partial(_reported, root, run)
    said = report_of("06_paper_figures")
    first = {file.relative_to(results / "report").as_posix() for file in (results / "report").rglob("*.*")}

    tables.write(committed, results / "results.csv")
    own = synthetic()
    own = own[own["checkpoint"] == "synthetic_anytime"].assign(dataset="my_scenes", checkpoint="my_scenes_anytime")
    of_run = committed["checkpoint"].isin([FINETUNED.name, LINES.name]) | (committed["dataset"] == "synthetic")
    of_run = pd.concat([committed[of_run], own]).assign(timestamp="2030-01-01", commit="of this run")
    tables.write(of_run, run / "results.csv")
    (run / "notebooks/07_gone.ipynb").unlink()
    _written(run / "notebooks/06_paper_figures.ipynb", "40 + 2")
    for file in run.glob("figures/paper_2_eurosat.*"):
        file.unlink()
    shutil.copy(run / "figures/paper_3_aid.png", run / "figures/50 % # of it.png")
    report_of("00_quickstart", "05_benchmark", "06_paper_figures", "08_claims")
    return SimpleNamespace(root=root, run=run, report=results / "report", first=first, said=said)


def _written(file: Path, source: str) -> None:
    """An executed notebook with a picture, a widget and a formula."""
    widget = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}, "image/png": PIXEL}
    shown = ({"image/png": PIXEL, "text/plain": "picture"}, widget, {"text/latex": "$K$", "text/plain": "K"})
    shown += ({"text/markdown": "| a | b |\n| --- | --- |\n| 1 | 2 |", "text/plain": "a table"},)
    outputs = [nbformat.v4.new_output("display_data", each) for each in shown]
    outputs.append(nbformat.v4.new_output("stream", name="stdout", text="a long line " * 30))
    code = nbformat.v4.new_code_cell(source, outputs=outputs)
    state = {"application/vnd.jupyter.widget-state+json": {"state": {}, "version_major": 2, "version_minor": 0}}
    cells = [nbformat.v4.new_markdown_cell("# The paper's figures"), code]
    made = nbformat.v4.new_notebook(cells=cells, metadata={"papermill": {"duration": 7.2}, "widgets": state})
    file.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(made, file)


def _reported(root: Path, run: Path, *names: str) -> str:
    """What the build of a report of these notebooks says on stderr."""
    said = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(said):
        patch.setenv("ASEL_ROOT", str(root))
        report.write_report([run / f"notebooks/{name}.ipynb" for name in names])
    return said.getvalue()


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
        page.goto((place.report / f"{name}.html").as_uri())
        page.wait_for_load_state("load")
        return page, wrong

    yield open_page
    for context in contexts:
        context.close()


PAGES = ("index", "results", "claims", "figures", "notebooks", "machine", "notebooks/demo/06_paper_figures")


@pytest.mark.parametrize("name", PAGES)
def test_nothing_is_wrong_on_a_page_its_links_lead_somewhere_and_it_fits_a_phone(opened, name):
    for width, scheme in ((1200, "light"), (390, "dark")):
        page, wrong = opened(name, width, scheme)
        page.evaluate("for (const image of document.images) image.loading = 'eager'")
        page.wait_for_function("[...document.images].every(image => image.complete)")
        page.wait_for_timeout(300)
        assert wrong == []
        assert page.evaluate("[...document.images].filter(image => !image.naturalWidth).map(image => image.src)") == []
        assert page.evaluate("[...document.images].every(image => image.alt.length > 10)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    to = linked(page)
    assert len(to) > 5 and [path for path in to if not Path(path).is_file()] == []


def test_figures_and_notebooks_are_linked(opened):
    figures, notebooks = (linked(opened(name)[0]) for name in ("figures", "notebooks"))
    assert {Path(path).suffix for path in figures} >= {".html", ".pdf", ".csv", ".png"}
    assert any(path.endswith("notebooks/demo/05_benchmark.html") for path in notebooks)


def linked(page) -> set[str]:
    """The files that a page's links lead to."""
    addresses = (urlparse(urldefrag(link).url) for link in page.evaluate("[...document.links].map(link => link.href)"))
    return {unquote(address.path) for address in addresses if address.scheme == "file"}


def test_the_results_sort_and_filter(opened):
    page, _ = opened("results")
    lines = page.locator("#results-table tbody tr")
    lines.first.wait_for()
    assert lines.count() == 15
    head = page.locator("#results-table thead th", has=page.get_by_placeholder("accuracy", exact=True)).first
    column = head.evaluate("cell => cell.cellIndex")
    for ascending in (True, False):
        head.locator(".dt-column-order").click()
        page.wait_for_timeout(200)
        shown = [float(row.locator("td").nth(column).inner_text()) for row in lines.all()]
        assert shown == sorted(shown, reverse=not ascending)
    page.get_by_placeholder("dataset").press_sequentially("eurosat")
    page.wait_for_timeout(400)
    texts = [row.inner_text() for row in lines.all()]
    assert texts and all("eurosat" in text for text in texts)
    page.get_by_placeholder("from").press_sequentially("demo")
    page.wait_for_timeout(400)
    assert "No matching records" in page.locator("#results-table tbody").inner_text()


@pytest.mark.parametrize("width", [1280, 390])
def test_keep_ratio_and_accuracy_are_seen_without_scrolling(opened, width):
    page, _ = opened("results", width)
    page.locator("#results-table tbody td").first.wait_for()
    for name in ("keep_ratio", "accuracy"):
        head = page.locator("#results-table thead").get_by_placeholder(name, exact=True).first.bounding_box()
        assert head["x"] + head["width"] <= width, name


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
    heads = page.locator("h2").all_inner_texts()
    assert heads[:3] == ["Does the paper hold?", "How far can I cut?", "What should I use?"]
    assert heads[3] == "my_scenes, of this checkout\u2019s runs", "of the data sets a reader's own is first"
    places = "[...document.querySelectorAll('h2')].map(head => head.getBoundingClientRect().top)"
    first_table = page.evaluate("document.querySelector('table').getBoundingClientRect().top")
    assert page.evaluate(places)[3] < first_table, "the answers stand before any table"
    shown, _ = opened("figures")
    shown.locator("figure img").nth(1).screenshot(path=tmp_path / "figure.png")
    assert np.asarray(Image.open(tmp_path / "figure.png").convert("L")).std() > 5
    alt = shown.locator("figure img").nth(1).get_attribute("alt")
    assert len(alt) > 60


def first_page_of(**frames) -> str:
    return first_page.page(Found(frames, {}, {}, []))


def test_the_first_page_answers_for_photographs_once_they_are_compared_and_for_synthetic_scenes_before():
    published = photographs()
    published = published[published["schedule"] == "published"]
    for there in (synthetic(), pd.concat([synthetic(), published])):
        page = first_page_of(committed=there)
        assert "On `synthetic`, glance \\(ours\\) classifies" in page and "measured on `synthetic`" in page
    assert "random patches: 24.5 %" in page and "patches: - %" not in page, "where random patches were within no budget"
    both = first_page_of(committed=pd.concat([synthetic(), photographs()]))
    assert "On `aid`, glance \\(ours\\) classifies" in both and "measured on `aid`" in both
    assert "### `synthetic`: accuracy" in both and "### `aid`: accuracy" in both
    new = first_page_of(committed=synthetic(), compact=photographs())
    assert "## `eurosat`, of this checkout" in new and "On `aid`, glance" in new
    assert "No comparison of methods was measured yet" in first_page_of()


def test_the_first_page_says_how_far_the_published_model_can_be_cut_and_then_ours():
    page = first_page_of(committed=pd.concat([synthetic(), photographs()]))
    part = page[page.index("## How far") : page.index("## What should")]
    lines = [line for line in part.splitlines() if line.startswith("- On")]
    assert [line.partition("classifies")[0] for line in lines] == [
        "- On `aid`, ASEL\\, as published\\, ",
        "- On `eurosat`, ASEL\\, as published\\, ",
        "- On `aid`, glance \\(ours\\) ",
    ]
    measured = pd.DataFrame({"keep_ratio": [1.0, 0.5, 0.2], "accuracy": [0.9, 0.895, 0.8], "gmacs": [1.0, 0.5, 0.2]})
    told = first_page.reach(measured, "aid", "it")
    assert (told["whole"], told["ratio"], told["share"]) == ("90.0 %", "0.5", "50 %")
    assert told["steps"] == [{"ratio": "0.2", "at": "80.0 %", "share": "20 %"}]
    assert first_page.reach(measured[1:], "aid", "it") is None


def test_the_first_page_answers_in_a_sentence_before_its_list_of_groups():
    page = first_page_of(committed=synthetic())
    part = page[page.index("## Does the paper hold?") : page.index('<ul class="groups">')]
    counts = [int(number) for number in re.findall(r"(\d+) (?:is|are) ", part)]
    assert sum(counts) == 21 and "Of the papers\u2019 21 claims" in part
    assert "6 are contradicted by the authors\u2019 own record" in part


def test_budgets_with_one_answer_are_one_line():
    (by_operations, by_speed) = (first_page.recommended(synthetic(), "synthetic", by) for by in method_tables.BUDGETS)
    assert [(line["budget"], line["until"]) for line in by_operations] == [
        ("up to 10 % of the operations", ""),
        ("up to 20 % of the operations", "75 %"),
    ]
    assert by_operations[0]["random"] == "", "where random patches are the best they are not named twice"
    assert (by_speed[-1]["budget"], by_speed[-1]["until"]) == ("at least 3x as fast", "1.3x")


def test_notebooks_are_listed_with_their_state_and_without_widgets(opened, place):
    page, _ = opened("notebooks")
    text = page.locator("body").inner_text()
    assert "did not run" in text and "RuntimeError: <no> & no" in text and "7 s" in text
    assert "<script>x()</script>" in text and "another <b>run" in text, "shown as it is written"
    assert "05_torn" in text and "unreadable" in text, "of a run that was not asked for now"
    executed = (place.report / "notebooks/demo/06_paper_figures.html").read_text()
    assert executed.count("<img") >= 2 and "widget-view" not in executed and "html-manager" not in executed


def test_the_first_page_counts_the_verdicts_of_each_group(opened, place):
    page, _ = opened("index")
    groups = page.locator("ul.groups li")
    counts = claims.groups(judged(place))
    assert groups.count() == len(counts)
    for (name, row), text in zip(counts.iterrows(), groups.all_inner_texts(), strict=True):
        chips = [f"{count} {claims_page.WORDS[verdict][0]}" for verdict, count in row.items() if count]
        assert text.split("\n")[0] == name and all(chip in text for chip in chips), text
    page.locator("ul.groups a").first.click()
    assert page.url.endswith("#claims-accuracy-with-fewer-patches")
    assert page.locator("#claims-accuracy-with-fewer-patches .claim").count() > 3


def judged(place) -> pd.DataFrame:
    """The claims by all rows that the report has."""
    frames = [tables.read(place.report.parent / name) for name in ("results.csv", "runs/demo/results.csv")]
    return claims.table(rows.pooled(pd.concat(frames, ignore_index=True)))


def test_a_claim_shows_its_verdict_first_and_the_rest_on_a_click(opened, place):
    found = judged(place)
    verdicts = claims.overall(found).set_index("claim")["verdict"]
    for width in (1280, 390):
        page, _ = opened("claims", width)
        shown = page.locator("details.claim")
        assert shown.count() == len(verdicts)
        for claim in shown.all():
            text = claim.locator("summary .text").inner_text()
            assert claim.locator("summary .verdict").inner_text() == claims_page.WORDS[verdicts[text]][0]
            its = found[found["claim"] == text]
            cells = "".join(claim.locator("summary .cell").all_inner_texts())
            assert its["its own record"].iloc[0] in cells and its["claimed"].iloc[0] in cells
            edges = "cell => { const box = cell.getBoundingClientRect(); return [box.left, box.top, box.right] }"
            first, second = (claim.locator(f"summary .{kind}").evaluate(edges) for kind in ("verdict", "text"))
            assert first[0] < second[0] if width > 1000 else first[1] < second[1]
            assert max(claim.locator("summary .cell").last.evaluate(edges)[2], second[2]) <= width
        one = page.locator("details.claim", has_text="80 % of the patches are 50 % faster")
        assert one.locator(".verdict").first.inner_text() == "contradicted"
        assert not one.locator("dl").first.is_visible()
        one.locator("summary").click()
        assert one.locator("dl").first.is_visible() and "by the record" in one.inner_text()


def test_a_claim_leads_to_the_notebook_that_measured_it(opened, place):
    page, _ = opened("claims")
    claim = page.locator("details.claim", has_text="AID: 96.1 % at 1")
    claim.locator("summary").click()
    (link,) = claim.locator("a").all()
    assert link.inner_text() == FINETUNED.name
    assert link.evaluate("link => link.href").endswith("report/notebooks/demo/05_benchmark_aid_finetuned.html")
    link.click()
    assert f"05_benchmark_{FINETUNED.name}" in page.locator("h1").inner_text()


def test_a_name_with_options_leads_to_its_notebook_too(opened):
    page, _ = opened("claims")
    claim = page.locator("details.claim", has_text="accuracy is flat from 1 down to 0.2")
    claim.locator("summary").click()
    claim.locator("a", has_text=LINES.name).click()
    assert f"05_benchmark_{LINES.name}" in page.locator("h1").inner_text()


def test_our_own_recipe_stands_apart_from_the_claims(opened):
    page, _ = opened("claims")
    assert page.locator("h2").all_inner_texts() == ["What the papers claim", "Our own recipe"]
    assert "anytime" not in page.locator(".claims").first.inner_text()
    ours = page.locator("table.plain")
    assert "aid_anytime" in ours.inner_text() and "reproduced" not in ours.inner_text()
    assert page.locator("a", has_text="aid_anytime").count() == 0  # measured elsewhere


def test_only_the_notebook_that_made_a_number_is_led_to():
    about = {"data set": "aid", "recipe": "masked", "start": "-"}
    judged = [
        about | {"checkpoint": "a, b", "commit": "1, 2", "notebook": "05_benchmark"},
        about | {"checkpoint": "-", "commit": "3", "notebook": "08_claims"},
        about | {"checkpoint": "-", "commit": "-", "notebook": "-"},
    ]
    made = {("a", "1"): "notebooks/demo/05_benchmark_a.html", ("b", "9"): "old.html", ("-", ""): "08.html"}
    linked = [claims_page.linked(row, made) for row in judged]
    assert linked[0]["checkpoints"] == [("a", "notebooks/demo/05_benchmark_a.html"), ("b", "")]
    assert [row["notebook_page"] for row in linked] == ["", "08.html", ""]
    assert linked[1]["checkpoints"] == [] and linked[2]["setting"] == "aid, recipe masked"


def test_what_is_filled_in_is_no_markup():
    table = pd.DataFrame({"x < y": ["<b>1</b>", "81.0 (79.5-82.5) ± 2.1"]})
    shown = str(markup.table(table))
    assert "x &lt; y" in shown and "&lt;b&gt;1" in shown and "<b>" not in shown
    assert '81.0 <span class="interval">(79.5-82.5)</span> <span class="interval">± 2.1</span>' in shown
    assert markup.markdown("a_b <c> *d*") == r"a\_b \<c\> \*d\*"


def test_numbers_stand_to_the_right_under_their_heads(opened):
    page, _ = opened("index")
    table = page.locator("table.plain", has=page.locator("th", has_text="GMACs at 0.2")).first
    align = "cell => getComputedStyle(cell).textAlign"
    for cells in (table.locator("th").all(), table.locator("tbody tr").first.locator("td").all()):
        assert [cell.evaluate(align) for cell in cells][:2] == ["left", "right"]
        assert cells[-1].evaluate(align) == "right"
    tone = "cell => getComputedStyle(cell).color"
    cell = table.locator("td", has=page.locator(".interval")).first
    assert cell.locator(".interval").first.evaluate(tone) != cell.evaluate(tone)


def test_warnings_of_libraries_are_not_shown_and_what_else_was_said_is():
    said = (
        "/site/pandas/core.py:12: FutureWarning: soon\n  frame.fillna(0)\n12 images left out\n"
        "UserWarning: no path\nW1130 20:58:47.806000 14707 torch/utils/cpp_extension.py:183] No CUDA\nDone: 3\n"
    )
    outputs = [nbformat.v4.new_output("stream", name="stderr", text=text) for text in (said, said[:61])]
    outputs.append(nbformat.v4.new_output("stream", name="stdout", text="a Warning: ours\n"))
    cell = nbformat.v4.new_code_cell("1", outputs=outputs)
    content = executed.readable(nbformat.v4.new_notebook(cells=[cell]), "05")
    assert [output.text for output in content.cells[0].outputs] == [
        "12 images left out\nDone: 3\n",
        "a Warning: ours\n",
    ]


@pytest.mark.parametrize("width", [1280, 390])
def test_no_line_of_an_executed_notebook_is_cut_off_at_the_side(opened, width):
    page, _ = opened("notebooks/demo/06_paper_figures", width)
    assert page.locator("pre", has_text="a long line").count() == 1
    assert page.evaluate("[...document.querySelectorAll('pre')].every(e => e.scrollWidth <= e.clientWidth + 1)")
    assert page.locator(".cell_output table td").count() == 2, "a Markdown table is a table"


def test_a_wide_window_is_used(opened):
    page, _ = opened("results", 1800)
    box = page.locator(".wide").first.bounding_box()
    assert box["width"] > 1400


def test_a_second_build_shows_what_changed_and_nothing_of_what_is_gone(place):
    there = {file.relative_to(place.report).as_posix() for file in place.report.rglob("*.*")}
    for gone, endings in {"07_gone": {".html"}, "paper_2_eurosat": {".png", ".pdf", ".csv"}}.items():
        assert {Path(path).suffix for path in place.first if gone in path} >= endings
        assert not [path for path in there if gone in path]
    assert "notebooks/demo/08_claims.html" in there & place.first
    assert sorted(path.name for path in place.report.parent.iterdir()) == ["figures", "report", "results.csv", "runs"]
    assert "40" in (place.report / "notebooks/demo/06_paper_figures.html").read_text()
    assert "../../report/index.html" in (place.run / "index.html").read_text()


def test_a_table_that_cannot_be_read_is_left_out_and_said(place):
    assert "left out of the report" in place.said and str(place.run / "results.csv") in place.said
    assert "index.html" in place.first
