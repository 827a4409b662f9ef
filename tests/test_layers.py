"""Which code a notebook depends on: what is re-trained, measured and drawn again after a change."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from asel_lib import configs
from pipeline import layers
from pipeline.plan import make_plan
from pipeline.steps import make_steps

REPOSITORY = Path(__file__).parents[1]
TRAININGS = ("01_cifar10_warmup", "02_remote_sensing_transfer", "03_direct_training", "04_agentvit_baseline")
SHOWING = ("00_quickstart", "06_paper_figures", "07_anytime", "08_claims")


@pytest.fixture
def checkout(tmp_path) -> Path:
    for name in ("asel_lib", "notebooks"):
        shutil.copytree(REPOSITORY / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def purposes() -> dict[str, str]:
    """Notebook -> what it is there for, of a run with all of them."""
    compact = configs.load("compact")
    plan = make_plan(compact, {"aid": "aid"}, ["masked", "anytime"], [0], agentvit=True)
    return {step.notebook: step.purpose for step in make_steps(compact, plan, [0])}


def digests(checkout: Path) -> dict[str, str]:
    library = layers.Library(checkout)
    return {name: library.digest(checkout / f"notebooks/{name}.ipynb", purpose) for name, purpose in purposes().items()}


def changed(checkout: Path, before: dict[str, str]) -> set[str]:
    return {name for name, digest in digests(checkout).items() if digest != before[name]}


def add(file: Path, line: str) -> None:
    file.write_text(f"{file.read_text()}{line}\n")


def test_comments_docstrings_and_layout_change_nothing(checkout):
    before = digests(checkout)
    assert len(before) == 11 == len(set(before.values()))
    for file in checkout.rglob("*.py"):
        add(file, "\n# a comment")
    style = checkout / "asel_lib/reporting/style.py"
    style.write_text('"""Another docstring."""\n\n' + style.read_text().partition('"""\n')[2])
    assert changed(checkout, before) == set()


def test_after_a_change_of_a_figures_style_figures_are_drawn_again_and_nothing_else(checkout):
    before = digests(checkout)
    add(checkout / "asel_lib/reporting/style.py", "CHANGED = True")
    assert changed(checkout, before) == set(SHOWING) - {"08_claims"}, "which draws none"


def test_after_a_change_of_the_clock_benchmarks_run_again_and_no_training(checkout):
    before = digests(checkout)
    add(checkout / "asel_lib/evaluation/timing.py", "CHANGED = True")
    assert "05_benchmark" in changed(checkout, before) and not set(TRAININGS) & changed(checkout, before)


def test_after_a_change_of_the_trainer_everything_is_trained_again(checkout):
    before = digests(checkout)
    add(checkout / "asel_lib/training/supervised.py", "CHANGED = True")
    assert set(TRAININGS) <= changed(checkout, before)


def test_prose_counts_where_a_notebook_is_there_to_show(checkout):
    before = digests(checkout)
    for file in (checkout / "notebooks").glob("*.ipynb"):
        file.write_text(file.read_text().replace('"# ', '"# On ', 1))
    assert changed(checkout, before) == set(SHOWING)


def test_a_new_entry_of_a_registry_counts_where_the_registry_is_used(checkout):
    before = digests(checkout)
    (checkout / "asel_lib/training/recipes/mine.py").write_text("MINE = True\n")
    assert set(TRAININGS) <= changed(checkout, before)
    before = digests(checkout)
    (checkout / "asel_lib/selection/mine.py").write_text("MINE = True\n")
    assert {"00_quickstart", "05_benchmark", *TRAININGS} <= changed(checkout, before)


def test_an_entry_does_not_depend_on_the_other_entries(checkout):
    entries = checkout / "asel_lib/training/recipes"
    (entries / "one.py").write_text("from asel_lib.registry import RECIPES\n")
    (entries / "two.py").write_text("import json\n")
    library = layers.Library(checkout)
    used = library._imported_by(library.modules["asel_lib.training.recipes.one"].tree, "asel_lib.training.recipes.one")
    assert "asel_lib.registry" in used and "asel_lib.training.recipes.two" not in used


def test_no_module_that_a_training_loads_is_missed():
    """Against Python itself, which imports them."""
    code = (
        "import sys; from asel_lib.registry import RECIPES; from asel_lib.training import stages; RECIPES.names();"
        "print(*(name for name in sys.modules if name.startswith('asel_lib')))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    used = layers.Library(REPOSITORY).used_by(REPOSITORY / "notebooks/03_direct_training.ipynb", "trains")
    assert set(answer.stdout.split()) - used == set()


def test_a_comment_in_a_profile_changes_nothing(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("seed: 1\n")
    before = layers.settings_digest(file)
    file.write_text("# a comment\nseed:   1\n")
    assert layers.settings_digest(file) == before
    file.write_text("seed: 2\n")
    assert layers.settings_digest(file) != before
