"""README and docs: what they point at is there."""

import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]


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
    for name in re.findall(r"`((?:asel_lib|pipeline|tests)/[\w/.]+\.\w+)", text):
        assert (REPOSITORY / name).is_file() or name == "asel_lib/selection/mine.py", name
    for name in re.findall(r'asel_lib\.load\("(\w+)"\)', text):
        assert (REPOSITORY / "saved_models" / f"{name}.safetensors").is_file(), name


def test_every_page_is_reached_from_the_readme():
    text = PAGES[0].read_text()
    assert [page.name for page in PAGES[1:] if f"docs/{page.name}" not in text] == []
