"""A selector, a recipe, a data set, a figure and a metric are one file each: added to a copy of the checkout, they are
known, named, trained, measured, tabulated and drawn, and nothing else is touched."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

REPOSITORY = Path(__file__).parents[1]
NEEDED = ("asel_lib", "pipeline", "notebooks", "Snakefile", "pyproject.toml", "run_all.sh", "bootstrap.sh")
SMOKE = "asel_lib/configs/smoke.yaml"
METHODS = 'methods: ["line_guided:lines=xdog,choice=sample"]'
MORE = "methods: [glance/anytime, contrast/brisk]"

SELECTOR = '''"""The patches whose tokens vary most."""

import torch
from torch import nn

from asel_lib.selection.base import PatchSelector
from asel_lib.selection.registry import register


@register("contrast", label="Patch contrast", recipes=("brisk",))
class ContrastSelector(PatchSelector):
    """sigmoid(gain * standard deviation of the patch's token)."""

    def __init__(self, dim: int):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def log_weights(self, view):
        return self.gain * view.patches.std(dim=-1)

    def forward(self, view):
        return torch.sigmoid(self.log_weights(view))
'''
RECIPE = '''"""The recipe `brisk`."""

from asel_lib.registry import RECIPES, Recipe
from asel_lib.training.recipes.dropped import DroppedRun


class BriskRun(DroppedRun):
    """As `dropped`."""


RECIPES.add("brisk", Recipe("brisk", "Brisk training", BriskRun, purpose="In a hurry.", selectors=("learned",)))
'''
METRIC = '''"""How many images are answered wrongly, mean over draws."""

from asel_lib.registry import METRICS, Metric


def wrong_answers(outcome) -> float:
    return float((~outcome.right).sum(axis=1).mean())


METRICS.add("wrong_answers", Metric("wrong_answers", "images", wrong_answers, "images answered wrongly"))
'''
FIGURE = '''"""Wrong answers against the keep ratio."""

from matplotlib.figure import Figure

from asel_lib import methods
from asel_lib.registry import FIGURES, FigureEntry


def draw(frame, dataset):
    figure = Figure()
    axes = figure.subplots()
    for (selector, recipe), rows in frame[frame["dataset"] == dataset].groupby(["selector", "recipe"]):
        axes.plot(rows["keep_ratio"], rows["wrong_answers"], "o", label=methods.method(selector, recipe).label)
    axes.legend()
    return figure


FIGURES.add("8_wrong", FigureEntry("8_wrong", draw, lambda keys: sorted({key.dataset for key in keys}), rows=False))
'''
ENTRY = 'DatasetSpec("synthetic", '  # the data set that the catalogue gets stands before this one
FARM = 'DatasetSpec("farm", "scenes of a seed of their own", 10, seed=7),\n        '


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """A copy of what a run needs, with profile smoke at its smallest."""
    place = tmp_path_factory.mktemp("checkout")
    for name in NEEDED:
        copied = shutil.copytree if (REPOSITORY / name).is_dir() else shutil.copy
        options = {"ignore": shutil.ignore_patterns("__pycache__")} if (REPOSITORY / name).is_dir() else {}
        copied(REPOSITORY / name, place / name, **options)
    values = yaml.safe_load((place / SMOKE).read_text())
    values |= {"benchmark_warmup": False, "synthetic_images": 100}
    for stage in ("warmup", "transfer", "direct"):
        values[stage] |= {"epochs": 1, "full_epochs": 0}
    values["evaluation"] |= {"ratios": [0.5, 1.0], "policies": ["learned"], "draws": 1}
    smallest = {key: value for key, value in values.items() if key not in ("agentvit_runs", "methods")}
    (place / SMOKE).write_text(yaml.safe_dump(smallest) + METHODS + "\n")
    return place


@pytest.fixture(scope="module")
def touched(checkout) -> dict[str, list[str]]:
    """What is added -> the files that it takes, in a checkout that then has all of it."""
    return {
        "selector": change(checkout, "asel_lib/selection/contrast.py", SELECTOR),
        "recipe": change(checkout, "asel_lib/training/recipes/brisk.py", RECIPE),
        "metric": change(checkout, "asel_lib/evaluation/metrics/wrong_answers.py", METRIC),
        "figure": change(checkout, "asel_lib/reporting/figures/wrong.py", FIGURE),
        "generated data set": change(checkout, "asel_lib/data/catalog.py", instead=(ENTRY, FARM + ENTRY)),
        "data set of one's own": image_folder(checkout / "data/my views"),
        "its training by smoke": change(checkout, SMOKE, instead=(METHODS, MORE)),
    }


def change(checkout: Path, name: str, text: str = "", instead: tuple[str, str] | None = None) -> list[str]:
    """Write a file, or one text in it instead of another -> the files of the checkout that are others after that."""
    old, file = digests(checkout), checkout / name
    if instead:
        assert file.read_text().count(instead[0]) == 1
        text = file.read_text().replace(*instead)
    file.write_text(text)
    new = digests(checkout)
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def image_folder(folder: Path) -> list[str]:
    """Images of two classes; no file of the project is one of them."""
    old, rng = digests(folder.parents[1]), np.random.default_rng(0)
    for label in ("meadow", "wood"):
        (folder / label).mkdir(parents=True)
        for number in range(4):
            image = Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8))
            image.save(folder / label / f"{number}.png")
    assert digests(folder.parents[1]) == old
    return []


def digests(checkout: Path) -> dict[str, str]:
    files = [file for top in NEEDED for file in [checkout / top, *(checkout / top).rglob("*")] if file.is_file()]
    files = [file for file in files if "__pycache__" not in file.parts]
    return {str(file.relative_to(checkout)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def python(checkout: Path, *command: str) -> str:
    """What a Python of the checkout prints."""
    there = {"PYTHONPATH": checkout, "ASEL_ROOT": checkout, "ASEL_DATA": checkout / "data"}
    environment = os.environ | {name: str(path) for name, path in (there | {"ASEL_CACHE": checkout / "cache"}).items()}
    done = subprocess.run([sys.executable, *command], env=environment, cwd=checkout, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_each_is_one_file_and_a_folder_of_images_none(touched):
    assert touched == {
        "selector": ["asel_lib/selection/contrast.py"],
        "recipe": ["asel_lib/training/recipes/brisk.py"],
        "metric": ["asel_lib/evaluation/metrics/wrong_answers.py"],
        "figure": ["asel_lib/reporting/figures/wrong.py"],
        "generated data set": ["asel_lib/data/catalog.py"],
        "data set of one's own": [],
        "its training by smoke": [SMOKE],
    }


def test_a_new_selector_and_recipe_are_known_by_name_label_and_what_trains_what(checkout, touched):
    python(
        checkout,
        "-c",
        """
from asel_lib import configs, methods, selection
from asel_lib.registry import RECIPES
from asel_lib.training.stages import check_trains
assert "contrast" in selection.names() and "brisk" in RECIPES
assert methods.parse("contrast/brisk").label == "Patch contrast"
assert methods.parse("learned/brisk").label == "ASEL, Brisk training"
assert methods.parse("random/brisk").label == "random, Brisk training"
check_trains("brisk", "contrast")
check_trains("brisk", "learned")  # which names other recipes: this one names it
assert "contrast/brisk" in configs.load("smoke").methods
assert "learned/brisk" in [one.text for one in methods.parse("contrast/brisk").compared_with]
try:
    check_trains("dropped", "contrast")
except ValueError as error:
    assert "use recipe 'brisk'" in str(error)
else:
    raise AssertionError("a recipe that does not train it")
""",
    )


PLANNED = """
import json
from pathlib import Path
from asel_lib import configs
from asel_lib.data import catalog
from pipeline.plan import figure_files, make_plan
mine = catalog.find("my views")
datasets = {"synthetic_closeups": "synthetic_closeups", "farm": "farm", mine.name: str(mine.root)}
plan = make_plan(configs.load("smoke"), datasets, ["brisk"], [0])
print(json.dumps([[one.name for one in plan.trainings], figure_files(plan)]))
"""


@pytest.mark.slow
def test_a_new_data_set_method_and_figure_are_planned_before_there_are_results(checkout, touched):
    trainings, files = json.loads(python(checkout, "-c", PLANNED))
    assert "synthetic_closeups-warmup-learned-brisk-s0" in trainings
    for dataset in ("farm", "my_views"):
        methods = ("published-learned-brisk", "direct-glance-anytime", "direct-contrast-brisk")
        assert {f"{dataset}-{method}-s0" for method in methods} <= set(trainings)
        assert {f"{dataset}_8_wrong.png", f"{dataset}_7_methods.png"} <= set(files)


def test_a_new_generated_data_set_is_another_one(checkout, touched):
    python(
        checkout,
        "-c",
        """
import numpy as np
from asel_lib.data import samples
from asel_lib.data.decode import load
farm, known = (load(name, 32, synthetic_images=20) for name in ("farm", "synthetic"))
assert farm.name == "farm" and farm.fingerprint != known.fingerprint and farm.masks[0].any()
assert not np.array_equal(farm.pixels[3], known.pixels[3])
again = samples.named_images("farm", farm.names[3:4], farm.digests[3:4], 32)
assert np.array_equal(again[farm.names[3]], farm.pixels[3])
""",
    )


def test_tables_from_before_a_metric_still_read(checkout, touched):
    python(
        checkout,
        "-c",
        f"""
import sys
sys.path.append({str(REPOSITORY)!r})
from asel_lib import tables
from tests.made_up import results
results().to_csv("older.csv", index=False)
assert tables.read("older.csv")["wrong_answers"].isna().all()
assert len(tables.read(tables.write(results(wrong_answers=3.5), "newer.csv"))) == 6
""",
    )


# As pipeline/run.py starts it, up to the figures: what only shows or reports is not waited for.
RUN = """
import subprocess, sys
from asel_lib import paths
from pipeline import options, workflow
asked = options.parse(["--profile", "smoke", "--datasets", "farm", "--recipes", "brisk"])
datasets = {name: name for name in ("synthetic_closeups", "farm")}
paths.run("smoke").mkdir(parents=True)
with workflow.warm_kernels(here=True):
    command = workflow.command("smoke", datasets, asked, ["--until", "figures"])
    sys.exit(subprocess.run(command).returncode)
"""
SHOWN = """
import json
from asel_lib import tables
from asel_lib.reporting import figures, method_tables, rows, summaries
results = rows.pooled(tables.read("benchmarks_results/runs/smoke/results.csv"))
drawn = {name: figures.draw(name, results, "farm").axes[0] for name in ("7_methods", "8_wrong")}
legends = {name: axes.get_legend_handles_labels()[1] for name, axes in drawn.items()}
compared, selectors = method_tables.table(results, "farm"), summaries.selectors(results)
print(json.dumps([legends, list(compared["method"]), list(selectors["selector"])]))
"""


@pytest.mark.slow
def test_profile_smoke_trains_measures_tabulates_and_draws_what_was_added(checkout, touched):
    python(checkout, "-c", RUN)
    run, name = checkout / "benchmarks_results/runs/smoke", "farm-direct-contrast-brisk-s0"

    record = json.loads((run / f"checkpoints/{name}.json").read_text())
    wanted = {"name": name, "dataset": "farm", "schedule": "direct", "selector": "contrast", "recipe": "brisk"}
    assert {key: record[key] for key in wanted} == wanted
    assert json.loads((run / "checkpoints/farm-published-learned-brisk-s0.json").read_text())["recipe"] == "brisk"

    results = pd.read_csv(run / "results.csv")
    rows = results[(results["selector"] == "contrast") & (results["recipe"] == "brisk")]
    assert {"contrast", "random", "even"} == set(rows["policy"]) and set(rows["checkpoint"]) == {name}
    assert results["wrong_answers"].to_numpy() == pytest.approx((1 - results["accuracy"]) * results["n_images"])

    _, planned = json.loads(python(checkout, "-c", PLANNED))
    assert {file for file in planned if file.startswith("farm_")} <= {file.name for file in (run / "figures").iterdir()}
    assert (run / "figures/farm_8_wrong.png").stat().st_size > 1000
    legends, compared, selectors = json.loads(python(checkout, "-c", SHOWN))
    assert "Patch contrast" in legends["7_methods"]
    assert {"Patch contrast", "ASEL, Brisk training"} <= set(legends["8_wrong"])
    assert "Patch contrast" in compared and "contrast" in selectors
    assert "| Patch contrast" in (run / "notebooks/06_paper_figures.ipynb").read_text()
