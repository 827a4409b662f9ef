"""What is said of speeds: each row of the tables of one profile, image size and machine."""

import numpy as np
import pandas as pd
import pytest

from asel_lib import paths, tables
from asel_lib.reporting import speed_tables as speed
from asel_lib.reporting.figures import plot_speed
from asel_lib.tables.kinds import PLAIN


@pytest.fixture
def committed(monkeypatch):
    monkeypatch.delenv("ASEL_ROOT", raising=False)
    return tables.read(paths.results() / "speed.csv", tables.SPEED)


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
    assert len(plot_speed.inference(committed).axes) == len(panels)


@pytest.fixture
def trainings(committed):
    """Made-up speeds of the authors' loop and two recipes, one of which nobody listed."""
    row = committed.iloc[0].to_dict() | {"task": "training", "dataset": "aid", "latency_iqr_ms": 0.1, "floor_ms": 1.0}
    return pd.DataFrame([row | {"recipe": name} for name in ("masked", "author_loop", "strange")])


def test_of_two_data_sets_both_trainings_stay(trainings):
    both = pd.concat([trainings, trainings.assign(dataset="other")])
    assert len(speed.training_table(both)) == 2 * len(speed.training_table(trainings)) == 6


def test_the_authors_loop_stands_first_and_every_recipe_beside_it(trainings):
    names = ["the authors' loop", "masked", "strange"]
    assert speed.training_table(trainings)["training"].tolist() == names
    assert [text.get_text() for text in plot_speed.training(trainings).axes[0].get_xticklabels()] == names


def test_what_was_measured_twice_counts_as_measured_last(committed):
    rows = committed[committed["task"] == "memory"]
    again = rows.assign(peak_memory_mb=1.0, timestamp="2999-01-01T00:00:00+00:00")
    assert (speed.latest(pd.concat([again, rows]), "memory")["peak_memory_mb"] == 1).all()
    assert plot_speed.memory(committed).axes


def test_the_power_of_growth_is_that_of_the_last_points():
    assert speed.exponent([1, 10, 100], [3, 300, 30_000]) == pytest.approx(2)
    assert speed.exponent([1, 10, 100, 1000], [5, 5, 50, 500], last=3) == pytest.approx(1)  # not the constant
    assert np.isnan(speed.exponent([1], [1]))
