"""Figures register themselves: the workflow knows their files before there are results, and one more is one file."""

import subprocess
import sys

import pandas as pd

from asel_lib.identity import ModelKey
from asel_lib.registry import FIGURES
from asel_lib.reporting import figures
from tests.made_up import results

NAMES = ("aid_finetuned", "agentvit_aid", "aid-direct-glance-anytime-s0", "aid-direct-random-s0", "b_anytime")
KEYS = [ModelKey.parse(name) for name in NAMES]


def test_every_data_set_gets_its_figures_and_only_those_that_its_models_make():
    names = figures.files(keys=KEYS)
    assert len(set(names)) == len(names)
    assert {"aid_1_strategies.png", "b_1_strategies.pdf", "aid_7_methods.csv", "gflops_scaling.png"} <= set(names)
    assert "b_7_methods.png" not in names and "b_asel_vs_agentvit_1_acc_keep.png" not in names
    assert not any(name.startswith("aid_") for name in figures.files(datasets=["b"], keys=KEYS))


def test_speeds_and_exports_have_figures_of_their_own():
    assert figures.files(table="speed")[:3] == (
        "speed_1_inference.png",
        "speed_1_inference.pdf",
        "speed_1_inference.csv",
    )
    assert figures.files(keys=KEYS[-1:], table="deployed") == (
        "b_anytime_export.png",
        "b_anytime_export.pdf",
        "b_anytime_export.csv",
    )


def test_the_workflow_learns_the_files_without_loading_torch():
    script = "import sys; from asel_lib.reporting import figures; figures.files(); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


def test_what_is_drawn_of_rows_is_what_was_said_of_their_models(tmp_path, monkeypatch):
    entries = [entry for entry in FIGURES if entry.name in ("1_strategies", "7_methods", "paper_1_architecture")]
    monkeypatch.setattr(figures, "FIGURES", entries)
    frame = pd.concat([results(key, (key.selector, "random")) for key in KEYS], ignore_index=True)
    made = figures.save_all(frame, tmp_path)
    assert {path.name for path in made} == set(figures.files(keys=KEYS))
    assert set(figures.keys_of(frame)) == set(KEYS)


NEW = """
from matplotlib.figure import Figure

from asel_lib.registry import FIGURES, FigureEntry


def draw(frame, dataset):
    figure = Figure()
    figure.subplots().plot(frame["keep_ratio"], frame["top5"], label=dataset)
    return figure


FIGURES.add("8_top5", FigureEntry("8_top5", draw, lambda keys: sorted({key.dataset for key in keys}), rows=False))
"""


def test_a_figure_is_one_file(tmp_path):
    """In a process of its own, with a folder of figures more."""
    (tmp_path / "top5.py").write_text(NEW)
    script = f"""
from asel_lib.reporting import figures
figures.__path__.append({str(tmp_path)!r})
from tests.made_up import results
frame = results()
assert {{"aid_8_top5.png", "aid_8_top5.pdf"}} <= set(figures.files(keys=figures.keys_of(frame)))
assert figures.draw("8_top5", frame, "aid").axes[0].get_lines()[0].get_label() == "aid"
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
