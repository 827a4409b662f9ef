"""The repository stays light: what git holds of it, checkpoints and figures by themselves."""

import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
MB = 1_000_000


@pytest.fixture(scope="module")
def tracked() -> dict[str, int]:
    """The files that git holds, and their sizes in bytes. What runs have left in the checkout does not count."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=REPOSITORY, capture_output=True)
    if listed.returncode or not listed.stdout:
        pytest.skip("this is no checkout of git")
    names = listed.stdout.decode().strip("\0").split("\0")
    return {name: (REPOSITORY / name).stat().st_size for name in names if (REPOSITORY / name).is_file()}


def test_checkpoints_weigh_at_most_130_mb_together_and_12_mib_each(tracked):
    weights = {name: size for name, size in tracked.items() if name.startswith("saved_models/")}
    assert sum(weights.values()) <= 130 * MB
    assert {name: size for name, size in weights.items() if size > 12 * 2**20} == {}


def test_all_else_weighs_at_most_8_mb(tracked):
    rest = {name: size for name, size in tracked.items() if not name.startswith("saved_models/")}
    assert sum(rest.values()) <= 8 * MB, sorted(rest.items(), key=lambda each: -each[1])[:5]


def test_every_figure_is_a_picture_that_a_page_shows(tracked):
    """The others, and the PDF and CSV of each, are made by a run."""
    pages = "".join(file.read_text() for file in (REPOSITORY / "README.md", *(REPOSITORY / "docs").rglob("*.md")))
    kept = [name for name in tracked if name.startswith("benchmarks_results/figures/")]
    assert len(kept) > 3
    assert [name for name in kept if not name.endswith(".png") or name not in pages] == []


def test_the_picture_at_the_head_of_the_readme_is_of_photographs_and_light(tracked):
    first = (REPOSITORY / "README.md").read_text().partition("](")[2].partition(")")[0]
    assert first == "benchmarks_results/figures/rsscn7_finetuned_scenes.png"
    assert tracked[first] < 300_000
