"""Methods that stand in one figure are timed in one sitting."""

import pandas as pd

from asel_lib import paths, tables
from asel_lib.identity import ModelKey
from asel_lib.reporting.rows import COSTS
from asel_lib.reproducibility import environment
from tools import time_methods

HERE = environment()["device_name"]


def row(policy, ratio, **changes):
    key = ModelKey("x", changes.pop("schedule", "direct"), policy)
    words = dict.fromkeys(("start", "split", "torch", "commit", "timestamp"), "text")
    numbers = dict.fromkeys(tables.RESULTS.columns, 0.5) | dict.fromkeys(("kept_patches", "n_images"), 8)
    about = {"profile": "smoke", "device": HERE, "dtype": "float32", "compiled": False, "batch_size": 4}
    return numbers | words | about | {"policy": policy, "keep_ratio": ratio} | key.columns() | changes


def test_all_rows_of_the_profile_on_this_machine_get_times_of_one_sitting(workplace):
    table = paths.results() / "results.csv"
    policies = ("random", "learned", "smaller_image", "tome")
    rows = [row(policy, ratio) for policy in policies for ratio in (0.25, 1.0)]
    others = [row("random", 0.25, device="another machine"), row("random", 0.25, profile="demo")]
    tables.write(pd.DataFrame(rows + others), table)
    assert time_methods.main(["smoke", "--seconds", "0.02", "--rounds", "2", "--batch-size", "3"]) == 0
    found = tables.read(table)
    assert len(found) == len(rows) + len(others)
    kept = (found["device"] == "another machine") | (found["profile"] == "demo")
    assert (found.loc[kept, list(COSTS)] == 0.5).all(axis=None)
    new = found[~kept]
    assert (new["batch_size"] == 3).all() and (new["accuracy"] == 0.5).all()
    assert new.loc[new["keep_ratio"] == 1, "latency_ms"].nunique() == 1, "one time of all patches for all"
    assert new.loc[new["keep_ratio"] < 1, "latency_ms"].nunique() == len(policies)


def test_without_rows_there_is_nothing_to_time(workplace, capsys):
    tables.write(pd.DataFrame([row("random", 0.25, device="another machine")]), paths.results() / "results.csv")
    assert time_methods.main(["smoke"]) == 1
    assert "no rows of profile 'smoke'" in capsys.readouterr().err
