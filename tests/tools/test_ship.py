"""What a run measured becomes what is committed."""

from dataclasses import asdict

import pandas as pd
import torch

from asel_lib import paths, tables
from asel_lib.evaluation import answers
from asel_lib.identity import ModelKey
from asel_lib.reporting.rows import COSTS
from tests.made_up import results
from tools import ship


def rows(checkpoint, accuracy, **columns):
    """Three keep ratios of a checkpoint."""
    found = results("aid_finetuned", ("learned",), (0.1, 0.5, 1.0), accuracy=accuracy)
    return found.assign(checkpoint=checkpoint, **columns)


def kept(checkpoint, history, policies=False):
    record = asdict(ModelKey("aid", "direct", "random")) | {
        "name": checkpoint,
        "history": history,
        "profile": "smoke",
        "start": "random",
        "dataset_fingerprint": "a",
        "split": {"fingerprint": "b"},
    }
    file = answers.file_of(checkpoint, "smoke", policies)
    file.parent.mkdir(parents=True, exist_ok=True)
    answers.write(file, {("random", 0.5): torch.tensor([0.0, 1.0])}, ["one", "two"], record)
    return file


def test_a_runs_rows_take_the_place_of_the_checkpoints_old_ones_and_of_no_others(workplace, capsys):
    table, run = paths.results() / "results.csv", paths.run("smoke")
    tables.write(pd.concat([rows("a", 0.1), rows("b", 0.2)], ignore_index=True), table)
    tables.write(rows("a", 0.9), run / "results" / "a.csv")
    file = kept("a", [1])
    assert ship.main(["smoke", "a", "--without-weights"]) == 0
    found = tables.read(table).groupby("checkpoint")["accuracy"].agg(["size", "median"])
    assert found.loc["a"].tolist() == [3, 0.9] and found.loc["b"].tolist() == [3, 0.2]
    assert (paths.results() / "answers" / file.name).read_bytes() == file.read_bytes()
    assert not paths.saved_models().exists()

    before = table.read_bytes()
    for more in ([], ["--without-weights"], ["--only-answers"]):  # no benchmark, no weights, no answers
        assert ship.main(["smoke", "c", *more]) == 1
        assert "c.csv" in (said := capsys.readouterr().err) or "no answers of c" in said
    assert table.read_bytes() == before


def test_rows_without_times_keep_those_of_the_same_network_on_the_same_machine(workplace):
    table, file = paths.results() / "results.csv", paths.run("smoke") / "results" / "a.csv"
    tables.write(rows("a", 0.1, gmacs=0.5, throughput=[3.0, 2.0, 1.0]), table)
    untimed = rows("a", 0.9, gmacs=[0.5, 0.7, 0.5], **dict.fromkeys(COSTS))
    tables.write(untimed, file)
    assert ship.main(["smoke", "a", "--without-weights"]) == 0
    found = tables.read(table).sort_values("keep_ratio")
    assert found["accuracy"].tolist() == [0.9] * 3
    assert found["throughput"].fillna(-1).tolist() == [3.0, -1, 1.0], "one has other operations"


def test_answers_of_an_ablation_are_shipped_alone_and_those_of_two_trainings_never_together(workplace, capsys):
    committed = paths.results() / "answers"
    first = kept("d", [1], policies=True)
    assert ship.main(["smoke", "d", "--only-answers"]) == 0
    assert (committed / first.name).read_bytes() == first.read_bytes() and answers.names("smoke") == {"d"}
    assert not (paths.results() / "results.csv").exists()

    benchmarked = kept("d", [1, 2])  # trained again: its benchmark takes the other answers away, here and there
    assert not first.is_file()
    assert ship.main(["smoke", "d", "--only-answers"]) == 0
    assert [file.name for file in committed.iterdir()] == [benchmarked.name]
    kept("d", [1], policies=True)
    assert ship.main(["smoke", "d", "--only-answers"]) == 1
    assert "two trainings" in capsys.readouterr().err
