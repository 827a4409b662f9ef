"""What a run measured becomes what is committed."""

import pandas as pd
import torch

from asel_lib import paths, tables
from asel_lib.evaluation import answers
from asel_lib.identity import ModelKey
from asel_lib.reporting.rows import COSTS
from tools import ship

A, B, C, D = (ModelKey("x", "direct", "line_guided:lines=xdog,choice=top", seed=seed) for seed in range(4))


def rows(key, accuracy):
    """Three rows of a model's results."""
    words = ("profile", "start", "policy", "split", "device", "dtype", "torch", "commit", "timestamp")
    counts = dict.fromkeys(("kept_patches", "n_images", "batch_size"), 8) | {"compiled": False}
    numbers = dict.fromkeys(set(tables.RESULTS.columns) - {*key.columns(), *words, *counts}, 0.5)
    values = key.columns() | dict.fromkeys(words, "text") | counts | numbers
    return pd.DataFrame([values | {"accuracy": accuracy}] * 3)


def kept(key, history, kind=""):
    record = key.columns() | {
        "name": key.name,
        "history": history,
        "model": {"selector": key.selector},
        "profile": "smoke",
        "start": "random",
        "dataset_fingerprint": "a",
        "split": {"fingerprint": "b"},
    }
    file = answers.file_of(key.name, "smoke", kind)
    file.parent.mkdir(parents=True, exist_ok=True)
    answers.write(file, {("random", 0.5): torch.tensor([0.0, 1.0])}, ["one", "two"], record)
    return file


def test_a_runs_rows_take_the_place_of_the_checkpoints_old_ones_and_of_no_others(workplace, capsys):
    table, run = paths.results() / "results.csv", paths.run("smoke")
    tables.write(pd.concat([rows(A, 0.1), rows(B, 0.2)], ignore_index=True), table)
    tables.write(rows(A, 0.9), run / "results" / f"{A.name}.csv")
    file = kept(A, [1])
    assert ship.main(["smoke", A.name, "--without-weights"]) == 0
    found = tables.read(table).groupby("checkpoint")["accuracy"].agg(["size", "median"])
    assert found.loc[A.name].tolist() == [3, 0.9] and found.loc[B.name].tolist() == [3, 0.2]
    assert (paths.results() / "answers" / file.name).read_bytes() == file.read_bytes()
    assert not paths.saved_models().exists()

    before = table.read_bytes()
    for more in ([], ["--without-weights"], ["--only-answers"]):  # no benchmark, no weights, no answers
        assert ship.main(["smoke", C.name, *more]) == 1
        assert f"{C.name}.csv" in (said := capsys.readouterr().err) or f"no answers of {C.name}" in said
    assert table.read_bytes() == before


def test_rows_without_times_keep_those_of_the_same_network_on_the_same_machine(workplace):
    table, file = paths.results() / "results.csv", paths.run("smoke") / "results" / f"{A.name}.csv"
    ratios = {"keep_ratio": [0.1, 0.5, 1.0]}
    tables.write(rows(A, 0.1).assign(**ratios, throughput=[3.0, 2.0, 1.0]), table)
    untimed = rows(A, 0.9).assign(**ratios, gmacs=[0.5, 0.7, 0.5], **dict.fromkeys(COSTS))
    tables.write(untimed, file)
    assert ship.main(["smoke", A.name, "--without-weights"]) == 0
    found = tables.read(table).sort_values("keep_ratio")
    assert found["accuracy"].tolist() == [0.9] * 3
    assert found["throughput"].fillna(-1).tolist() == [3.0, -1, 1.0], "one has other operations"


def test_answers_of_an_ablation_are_shipped_alone_and_those_of_two_trainings_never_together(workplace, capsys):
    committed = paths.results() / "answers"
    first = kept(D, [1], kind="policies")
    assert ship.main(["smoke", D.name, "--only-answers"]) == 0
    assert (committed / first.name).read_bytes() == first.read_bytes() and answers.names("smoke") == {D.name}
    assert not (paths.results() / "results.csv").exists()

    benchmarked = kept(D, [1, 2])  # trained again: its benchmark takes the other answers away, here and there
    assert not first.is_file()
    assert ship.main(["smoke", D.name, "--only-answers"]) == 0
    assert [file.name for file in committed.iterdir()] == [benchmarked.name]
    kept(D, [1], kind="policies")
    assert ship.main(["smoke", D.name, "--only-answers"]) == 1
    assert "not of one training" in capsys.readouterr().err
