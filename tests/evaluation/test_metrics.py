"""Metrics: each is computed as it says, and one more is one file."""

import subprocess
import sys

import numpy as np
import pytest

from asel_lib.evaluation.accuracy import measured
from asel_lib.evaluation.outcome import Outcome
from asel_lib.registry import METRICS

LABELS = np.array([0, 0, 0, 1])


def outcome(*answers, object_area_kept=None):
    """Of so many draws, each with its first answers; the second answer is another class."""
    first = np.array(answers)
    return Outcome(LABELS, np.stack([first, (first + 1) % 3], axis=2), object_area_kept)


def test_balanced_accuracy_counts_classes_of_few_images_as_much():
    found = measured(outcome([0, 0, 0, 0]))
    assert found["accuracy"] == 0.75 and found["balanced_accuracy"] == 0.5
    assert measured(outcome([0, 0, 0, 0], [0, 1, 1, 1]))["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_metrics_are_means_over_draws_and_accuracy_has_its_interval():
    found = measured(outcome([0, 0, 0, 1], [1, 1, 1, 1]))
    assert found["accuracy"] == 0.625 and found["accuracy_low"] < 0.625 < found["accuracy_high"]
    assert found["top5"] == pytest.approx((1 + 0.25) / 2)


def test_the_objects_share_is_the_mean_over_images_with_one():
    shares = np.array([[0.5, 1.0, np.nan, np.nan]])
    assert measured(outcome(LABELS, object_area_kept=shares))["object_area_kept"] == 0.75
    assert np.isnan(measured(outcome(LABELS))["object_area_kept"])
    assert np.isnan(measured(outcome(LABELS, object_area_kept=shares * np.nan))["object_area_kept"])


def test_every_metric_says_what_it_is():
    for metric in METRICS:
        assert metric.purpose and metric.unit and set(metric.columns) <= set(measured(outcome(LABELS)))


NEW = """
from asel_lib.registry import METRICS, Metric

METRICS.add("worst", Metric("worst", "images", lambda outcome: float((~outcome.right).sum()), "wrong answers"))
"""


def test_a_metric_is_one_file_and_older_tables_still_read(tmp_path):
    """In a process of its own, with a folder of metrics more."""
    (tmp_path / "wrong_answers.py").write_text(NEW)
    script = f"""
import asel_lib.evaluation.metrics as metrics
metrics.__path__.append({str(tmp_path)!r})
from asel_lib import paths, tables
from asel_lib.evaluation.accuracy import measured
from tests.evaluation.test_metrics import LABELS, outcome
from tests.made_up import results
assert measured(outcome([0, 0, 0, 0]))["worst"] == 1
assert "worst" in tables.RESULTS.columns
assert tables.read(paths.results() / "results.csv")["worst"].isna().all()
path = tables.write(results(worst=3.0), {str(tmp_path / "new.csv")!r})
assert tables.read(path)["worst"].tolist() == [3.0] * 6
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
