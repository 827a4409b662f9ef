"""What a run measured becomes what is committed."""

import pandas as pd

from asel_lib import paths
from asel_lib.evaluation import answers
from asel_lib.reporting import tables
from pipeline import ship


def rows(checkpoint, accuracy):
    values = {name: "text" if name in tables.TEXT else 0.5 for name in tables.COLUMNS}
    return pd.DataFrame([values | {"checkpoint": checkpoint, "accuracy": accuracy}] * 3)


def test_a_runs_rows_take_the_place_of_the_checkpoints_old_ones_and_of_no_others(workplace, capsys):
    table, run = paths.results() / "results.csv", paths.run("smoke")
    speed = rows("a", 0.0).assign(task="training")
    tables.write(tables.with_speed(pd.concat([rows("a", 0.1), rows("b", 0.2)], ignore_index=True), speed), table)
    tables.write(rows("a", 0.9), run / "results" / "a.csv")
    file = answers.file_of("a", "smoke")
    file.parent.mkdir(parents=True)
    file.write_bytes(b"kept")
    assert ship.main(["smoke", "a", "--without-weights"]) == 0
    found = tables.read(table).groupby("checkpoint")["accuracy"].agg(["size", "median"])
    assert found.loc["a"].tolist() == [3, 0.9] and found.loc["b"].tolist() == [3, 0.2]
    assert len(tables.read(table, speed=True)) == 3
    assert (paths.results() / "answers" / file.name).read_bytes() == b"kept"
    assert not paths.saved_models().exists()

    before = table.read_bytes()
    assert ship.main(["smoke", "c", "--without-weights"]) == 1
    assert "c.csv" in capsys.readouterr().err and table.read_bytes() == before

    # An ablation is compared without a benchmark: its answers are all there is.
    file = answers.file_of("d", "smoke", policies=True)
    file.write_bytes(b"kept too")
    assert ship.main(["smoke", "d", "--without-weights"]) == 0
    assert (paths.results() / "answers" / file.name).read_bytes() == b"kept too" and table.read_bytes() == before
    assert answers.names("smoke") == {"a", "d"}
