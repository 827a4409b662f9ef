"""What is said of speeds: each row of the tables of one profile, image size and machine."""

import pandas as pd
import pytest

from asel_lib import paths
from asel_lib.evaluation.speed import PLAIN
from asel_lib.reporting import speed, tables


@pytest.fixture
def committed(monkeypatch):
    monkeypatch.delenv("ASEL_ROOT", raising=False)
    return tables.read(paths.results() / "results.csv", speed=True)


def test_profiles_and_sizes_stand_in_rows_and_panels_of_their_own(committed):
    measured = speed.latest(committed, "inference")
    assert measured["profile"].nunique() > 1  # else this would test nothing
    table = speed.inference_table(committed).set_index(["profile", "px", "precision", "compiled", "batch"])
    assert table.index.is_unique and speed.roofline_table(committed).shape[0] == len(table)
    for (profile, side, dtype, compiled, batch), row in table.iterrows():
        here = measured[
            (measured["profile"] == profile)
            & (measured["image_size"] == side)
            & (measured["dtype"] == dtype)
            & (measured["compiled"] == (compiled == "yes"))
            & (measured["batch_size"] == batch)
        ]
        assert row["plain timm, ms"] == f"{here[here['policy'] == PLAIN]['latency_ms'].iloc[0]:.2f}"
        half = here[(here["policy"] == "glance") & (here["keep_ratio"] == 0.5)].iloc[0]
        assert row["at 0.5"].startswith(f"{half['speed_up']:.2f}x")
    panels = measured.groupby(["profile", "image_size", "dtype", "batch_size"])
    assert len(speed.inference(committed).axes) == len(panels)


def test_of_two_data_sets_both_trainings_stay(committed):
    rows = committed[committed["task"] == "training"]
    both = pd.concat([rows, rows.assign(dataset="other")])
    assert len(speed.training_table(both)) == 2 * len(speed.training_table(committed)) > 0


def test_what_was_measured_twice_counts_as_measured_last(committed):
    rows = committed[committed["task"] == "memory"]
    again = rows.assign(peak_memory_mb=1.0, timestamp="2999-01-01T00:00:00+00:00")
    assert (speed.latest(pd.concat([again, rows]), "memory")["peak_memory_mb"] == 1).all()
    assert speed.memory(committed).axes
