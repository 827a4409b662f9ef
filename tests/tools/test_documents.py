"""README and docs: what they point at is there."""

import re
from pathlib import Path

import pytest

from tools import documents

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md")), *sorted((DOCS / "results").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_pictures_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    targets = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    for target in targets:
        file, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target):
            continue
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), f"{page.name}: {target}"
        if anchor:
            titles = re.findall(r"^#+ (.+)$", there.read_text(), flags=re.M)
            assert anchor in {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_notebooks_files_and_checkpoints_that_are_named_exist(page):
    text = page.read_text()
    for name in re.findall(r"notebooks/(\w+)\.ipynb", text):
        assert (REPOSITORY / "notebooks" / f"{name}.ipynb").is_file(), name
    for name in re.findall(r"`((?:asel_lib|pipeline|tests|tools)/[\w/.]+\.\w+)", text):
        assert (REPOSITORY / name).is_file() or name == "asel_lib/selection/mine.py", name
    for name in re.findall(r'asel_lib\.load\("(\w+)"\)', text):
        assert (REPOSITORY / "saved_models" / f"{name}.safetensors").is_file(), name


def test_every_page_is_reached_from_the_readme():
    text = PAGES[0].read_text()
    assert [page.name for page in PAGES[1:] if str(page.relative_to(REPOSITORY)) not in text] == []


def test_every_marked_table_is_what_the_committed_results_say(capsys):
    assert sum(page.read_text().count("<!-- table: ") for page in PAGES) >= 5
    assert documents.main(["--check"]) == 0, capsys.readouterr().out + "python -m tools.documents writes it anew"


@pytest.fixture
def page(workplace):
    """write(text) -> a checkout whose README.md says that, with the committed results."""

    def write(text):
        (workplace / "docs").mkdir()
        (workplace / "benchmarks_results").symlink_to(REPOSITORY / "benchmarks_results")
        (workplace / "README.md").write_text(text)
        return workplace / "README.md"

    return write


def test_a_table_that_differs_is_told_and_written_anew_and_its_surroundings_are_left(page, capsys):
    file = page("Before.\n\n<!-- table: methods synthetic -->\n\n| method |\n| --- |\n| 99.9 |\n\nAfter | a bar.\n")
    before = file.read_text()
    assert documents.main(["--check"]) == 1 and file.read_text() == before
    assert documents.main([]) == 0 and capsys.readouterr().out.count("README.md") == 2
    text = file.read_text()
    assert text.startswith("Before.\n\n<!-- table: methods synthetic -->\n\n| method | seeds |")
    assert text.endswith(" |\n\nAfter | a bar.\n") and "99.9" not in text and "| central |" in text
    assert documents.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("mark", "named"),
    [
        ("pie", "'pie': expected one of summary, methods"),
        ("methods", "'methods': .*missing 1 required positional argument: 'dataset'"),
        ("methods moon", "'methods moon': nothing was measured"),
        ("differences cifar10 demo random", "no answers of random on cifar10"),
    ],
)
def test_a_mark_that_says_what_there_is_not_is_an_error_that_names_it(page, capsys, mark, named):
    file = page(f"<!-- table: {mark} -->\n\n| a |\n| --- |\n")
    before = file.read_text()
    assert documents.main([]) == 1 and file.read_text() == before
    assert re.search(named, capsys.readouterr().err)
