"""README and docs: what they point at is there, their commands and their code run, and they are short."""

import ast
import importlib.util
import re
import shlex
import tomllib
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch

from asel_lib import configs, registry, tables
from asel_lib.evaluation.outcome import Outcome
from asel_lib.identity import ModelKey
from asel_lib.reporting import claimed
from asel_lib.selection import registry as selectors
from asel_lib.training.__main__ import parsed
from tests.made_up import result
from tools import documents

REPOSITORY = Path(__file__).parents[2]
DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md")), *sorted((DOCS / "results").glob("*.md"))]
GUIDES = [page for page in PAGES if page.parent == DOCS and page.name != "lab_notebook.md"]
# What tools write into a page: `tools.documents`, and `tools.timm_families`.
WRITTEN = re.compile(rf"{documents.MARK.pattern}|<!-- families: begin -->(?s:.*?)<!-- families: end -->")
# Files that a reader is told to make, in docs/add_a_selector.md.
MADE = ("selection/brightest", "training/recipes/mean", "reporting/figures/gap", "evaluation/metrics/worst_class")


def by_page(*pages):
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(REPOSITORY)))


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), flags=re.M | re.S)


def commands(page: Path) -> list[list[str]]:
    """The words of each command, of blocks and of lines of text."""
    text = page.read_text()
    found = re.findall(r"`((?:papermill|python -m|accelerate launch|\./run_\w+\.sh) [^`]+)`", text)
    found += [line for block in blocks(page, "bash") for line in block.replace("\\\n", " ").splitlines()]
    words = [shlex.split(re.sub(r"\s+#.*", "", " ".join(line.split("\n"))), comments=True) for line in found]
    return [command for command in words if command]


@by_page(*PAGES)
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


@by_page(*PAGES)
def test_notebooks_files_and_checkpoints_that_are_named_exist(page):
    text = page.read_text()
    for name in re.findall(r"notebooks/(\w+)\.ipynb", text) + re.findall(r"`(\d\d_\w+)`", text):
        assert (REPOSITORY / "notebooks" / f"{name}.ipynb").is_file(), name
    for name in re.findall(r"`((?:asel_lib|pipeline|tests|tools)/[\w/.]+\.\w+)", text):
        made = page.name == "add_a_selector.md" and name.removeprefix("asel_lib/").removesuffix(".py") in MADE
        assert (REPOSITORY / name).is_file() or made, name
    for name in re.findall(r'asel_lib\.load\("([^"<:]+)"\)', text) + re.findall(
        r"`(synthetic_\w+|\w+-\w+-[^`]+-s\d)`", text
    ):
        file = REPOSITORY / "saved_models" / f"{name}.safetensors"
        assert file.is_file() or name == "synthetic_closeups", name


def test_every_page_is_reached_from_the_readme_by_links():
    reached, new = set(), {PAGES[0]}
    while new:
        page = new.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#\s]+\.md)[)#]", page.read_text())
        new |= {(page.parent / link).resolve() for link in links if ":" not in link} - reached
    assert {*PAGES} <= reached


def prose(page: Path) -> list[str]:
    """A page's words, without its generated tables, which grow with what is measured, and without its blocks of code.
    Headings, captions, links and tables that are written by hand count."""
    return re.sub(r"^```.*?^```$", "", WRITTEN.sub("", page.read_text()), flags=re.M | re.S).split()


@by_page(PAGES[0], *GUIDES)
def test_a_page_is_short(page):
    assert len(prose(page)) <= (1200 if page == PAGES[0] else 900)


def test_what_counts_as_prose(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "# Two words\n\n<!-- table: methods rsscn7 -->\n\n| a | b |\n| - | - |\n\n```python\nx = 1\n```\n\n"
        "<!-- families: begin -->\n| c |\n<!-- families: end -->\n\n| by | hand |\n"
    )
    assert prose(page) == ["#", "Two", "words", "|", "by", "|", "hand", "|"]


def test_each_topic_has_a_page():
    topics = "paper anytime line_guided agentvit your_model your_images deploy speed cluster faults design".split()
    assert {page.stem for page in GUIDES} == {*topics, "add_a_selector"}
    assert (DOCS / "lab_notebook.md").is_file()


@by_page(*PAGES, REPOSITORY / "CONTRIBUTING.md")
def test_names_of_the_library_are_there(page):
    """`asel_lib.export.export(...)`, written out in the text: modules, and what they hold."""
    for name in re.findall(r"`(asel_lib(?:\.\w+)+)", page.read_text()):
        parts = name.split(".")
        there = importlib.import_module(parts[0])
        for place, part in enumerate(parts[1:], start=2):
            there = getattr(there, part, None) or importlib.import_module(".".join(parts[:place]))


@by_page(*PAGES, REPOSITORY / "CONTRIBUTING.md")
def test_extras_that_are_installed_are_those_of_the_package(page):
    known = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extras in re.findall(r"pip install -e '\.\[([\w,]+)\]'", page.read_text()):
        assert set(extras.split(",")) <= known.keys()


@by_page(*PAGES, REPOSITORY / "CONTRIBUTING.md")
def test_commands_are_of_programs_options_notebooks_and_parameters_that_there_are(page):
    for command in commands(page):
        if command[0] == "papermill":
            check_papermill(command[1:])
        elif "-m" in command[:-1] and command[0] in ("python", "accelerate"):
            module, *arguments = command[command.index("-m") + 1 :]
            if module == "asel_lib.training":
                parsed(arguments)
            else:
                check_options(Path(importlib.util.find_spec(module).origin), module, arguments)
        elif command[0] == "./run_all.sh":
            check_options(REPOSITORY / "pipeline/options.py", "", command[1:])
        elif command[0] == "./run_tests.sh":
            for path in (word.partition("::")[0] for word in command[1:] if word.startswith("tests/")):
                assert (REPOSITORY / path).exists(), path


def check_papermill(words: list[str]):
    file, _, *options = words
    cells = nbformat.read(REPOSITORY / file, 4).cells
    (cell,) = (cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    known = {node.targets[0].id for node in ast.parse(cell.source).body if isinstance(node, ast.Assign)}
    while options:
        option, name, *options = options
        assert option in ("-p", "-y"), words
        value = options.pop(0) if option == "-p" else ""
        assert name.partition(":")[0] in known, f"{file} has no parameter {name}"
        if name == "checkpoint":
            assert ModelKey.parse(value).name == value
        if name == "profile":
            assert value in configs.names()


def check_options(file: Path, module: str, words: list[str]):
    if file.name == "__init__.py":
        file = file.with_name("__main__.py")
    source = file.read_text()
    before = words[: words.index("--")] if "--" in words else words
    for option in (word for word in before if word.startswith("--") and word != "--help"):
        assert f'"{option}"' in source, f"{module or file.name} has no option {option}"
    if "--profile" in before and words[before.index("--profile") + 1] != "compact":
        assert words[before.index("--profile") + 1] in configs.names()


def test_the_readmes_first_python_predicts(capsys):
    exec(blocks(PAGES[0], "python")[0], {})
    assert re.match(r"[\w ]+ 0\.\d+ \[\d+(, \d+)*\]\n", capsys.readouterr().out)


def test_the_readmes_second_python_makes_a_model_of_ones_own():
    import asel_lib

    held = {"asel_lib": asel_lib, "images": torch.zeros(2, 3, 224, 224)}
    exec(blocks(PAGES[0], "python")[1].replace("pretrained=True", "pretrained=False"), held)
    assert held["model"] is held["mine"]
    assert held["logits"].shape == (2, 10)


@by_page(DOCS / "line_guided.md", DOCS / "speed.md")
def test_python_of_the_guides_runs(page):
    for block in blocks(page, "python"):
        exec(block, {})


def test_the_readme_says_how_many_claims_their_own_record_contradicts():
    found = claimed.claims()
    contradicted = [claim for claim in found if claim.contradicted]
    assert (len(contradicted), len(found)) == (6, 21)
    text = PAGES[0].read_text()
    assert "Six of the 21 claims are contradicted" in text
    part = text[text.index("Six of the 21") : text.index("Two claims about counted")]
    assert part.count("\n- ") == len(contradicted)


def test_what_the_page_of_additions_adds_works(monkeypatch):
    import asel_lib

    monkeypatch.setattr(selectors, "_ENTRIES", dict(selectors._ENTRIES))
    for each in (registry.RECIPES, registry.FIGURES, registry.METRICS):
        each.names()
        monkeypatch.setattr(each, "_entries", dict(each._entries))
    selector, use, recipe, dataset, figure, metric = blocks(DOCS / "add_a_selector.md", "python")

    exec(selector, {})
    held = {"asel_lib": asel_lib, "torch": torch}
    exec(use, held)
    assert held["logits"].shape == (1, 10) and held["model"].selector.power == 2.0

    exec(recipe, {})
    assert registry.RECIPES["mean"].run.mode == "gumbel"

    from asel_lib.data.catalog import DatasetSpec

    assert eval(dataset, {"DatasetSpec": DatasetSpec}).images == 31_500

    exec(figure, {})
    drawn = registry.FIGURES["8_gap"].draw(tables.read(REPOSITORY / "benchmarks_results/results.csv"), "synthetic")
    assert drawn.axes[0].lines

    exec(metric, {})
    outcome = Outcome(np.array([0, 0, 1, 1]), np.array([[[0], [0], [1], [0]]]))
    assert registry.METRICS["worst_class"].compute(outcome) == 0.5


def test_the_recipe_of_that_page_trains(workplace, monkeypatch):
    from dataclasses import replace

    from asel_lib.training import stages

    registry.RECIPES.names()
    monkeypatch.setattr(registry.RECIPES, "_entries", dict(registry.RECIPES._entries))
    exec(blocks(DOCS / "add_a_selector.md", "python")[2], {})
    smoke = configs.load("smoke")
    smoke = replace(smoke, direct=replace(smoke.direct, epochs=1), synthetic_images=100)
    done = stages.direct(smoke, selector="random", recipe="mean", seed=0)
    assert ModelKey.of(done.record).name == "synthetic-direct-random-mean-s0"


def test_rooms_import_only_rooms_that_the_picture_of_the_design_has_above_them():
    (picture,) = blocks(DOCS / "design.md", "text")
    rooms = {path.stem for path in (REPOSITORY / "asel_lib").iterdir() if path.suffix == ".py" or path.is_dir()}
    rooms -= {"__init__", "__pycache__"}
    height = {}
    for number, line in enumerate(picture.splitlines()):
        height |= {room: number for room in line[:72].split() if room in rooms}
    assert height.keys() == rooms
    for room in rooms:
        place = REPOSITORY / "asel_lib" / room
        for file in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
            for imported in imports(file) - {room}:
                assert height[imported] < height[room], f"{file.relative_to(REPOSITORY)} imports {imported}"


def imports(file: Path) -> set[str]:
    """The rooms that a file imports, not for its types alone."""
    tree = ast.parse(file.read_text())
    typing = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    left_out = {id(node) for part in typing for node in ast.walk(part)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in left_out or not isinstance(node, ast.Import | ast.ImportFrom):
            continue
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        if names == ["asel_lib"] and isinstance(node, ast.ImportFrom):
            names = [f"asel_lib.{alias.name}" for alias in node.names if not alias.name.startswith("__")]
        found |= {name.split(".")[1] for name in names if name.startswith("asel_lib.")}
    return found


def test_every_marked_table_is_what_the_committed_results_say(capsys):
    assert sum(page.read_text().count("<!-- table: ") for page in PAGES) >= 5
    assert documents.main(["--check"]) == 0, capsys.readouterr().out + "python -m tools.documents writes it anew"


def test_the_summary_sets_random_patches_and_the_smaller_image_beside_the_published_model(monkeypatch):
    there = tables.read(REPOSITORY / "benchmarks_results/results.csv")
    there = there[(there["dataset"] != "rsscn7") | (there["schedule"] != "direct")]
    random = there[there["checkpoint"] == "synthetic-direct-random-s0"].assign(dataset="rsscn7")
    smaller = random.assign(selector="smaller_image", policy="smaller_image")
    monkeypatch.setattr(documents, "_results", lambda: pd.concat([there, random, smaller]))
    found = documents.summary()
    assert list(found.loc[found["data set"] == "rsscn7", "recipe"]) == [
        "masked",
        "random, one stage",
        "smaller image, one stage",
        "masked, the authors' log",
    ]
    assert found["data set"].iloc[-1] == "synthetic" and "one stage" not in found["recipe"].iloc[-1]


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


def test_a_mark_without_a_table_gets_one_between_empty_lines(page):
    file = page("<!-- table: methods synthetic -->\n\nAfter.\n")
    assert documents.main([]) == 0
    text = file.read_text()
    assert text.startswith("<!-- table: methods synthetic -->\n\n| method |") and text.endswith(" |\n\nAfter.\n")
    assert documents.main(["--check"]) == 0


def test_the_embeddings_table_sets_kept_beside_new_for_each_keep_ratio(monkeypatch):
    keys = [
        ModelKey("imagenette", "direct", policy, variant=variant, keep_ratio=ratio)
        for policy, ratio in (("random", 0.3), ("line_guided:lines=xdog,choice=sample", 0.3), ("random", 1.0))
        for variant in ("", "reset_embeddings")
    ]
    rows = [result(key, key.keep_ratio, accuracy=0.9 - 0.2 * bool(key.variant)) for key in keys[:-1]]
    rows += [result(keys[0], 0.5)]  # at another ratio than it was trained for
    monkeypatch.setattr(documents, "_results", lambda: pd.DataFrame(rows))
    table = documents.embeddings("imagenette")
    assert table["keep ratio"].tolist() == ["1", "0.3", "0.3"] and table["patches"][0] == "all"
    assert all(cell.startswith("90.0") for cell in table["embeddings kept"])
    assert [cell[:4] for cell in table["embeddings new"]] == ["-", "70.0", "70.0"]


def test_the_untrained_table_reads_one_way_of_answering(monkeypatch):
    keys = [ModelKey("imagenette", "untrained", "none", "none", variant) for variant in ("", "own_classes")]
    rows = [
        result(key, ratio, policy, accuracy=0.5 + 0.4 * bool(key.variant), latency_ms=float("nan"))
        for key in keys
        for policy in ("random", "tome")
        for ratio in (0.3, 1.0)
    ]
    monkeypatch.setattr(documents, "_results", lambda: pd.DataFrame(rows))
    every, own = (documents.untrained("imagenette", among) for among in ("all", "own"))
    assert every["1"].tolist() == ["50.0"] * 2 and own["0.3"].tolist() == ["90.0"] * 2
    assert own["policy"].tolist() == ["random", "ToMe"] and own["GMACs at 0.3"].tolist() == ["0.30"] * 2


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
