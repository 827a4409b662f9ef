"""The same numbers again, also after kills: by the library's calls here; the whole pipeline of profile demo by hand,
see docs/faults.md."""

import json

import pytest

from tools import determinism


@pytest.mark.soak
@pytest.mark.slow
def test_two_runs_and_one_killed_three_times_give_the_same_weights_and_accuracies(capsys):
    status = determinism.main(["--profile", "smoke", "--library", "--interruptions", "3"])
    said = capsys.readouterr().out
    assert status == 0, said
    assert "killed 3 times" in said or "killed 2 times" in said  # it may end early where the machine was busy before
    assert "compared: 2 checkpoints, 9 rows" in said
    assert "the second run: identical" in said and "the interrupted run: identical" in said


def left(root, weights=b"weights", accuracy=0.5, loss=0.25, seconds=1.0):
    run = root / "benchmarks_results/runs/smoke"
    (run / "checkpoints").mkdir(parents=True)
    (run / "results").mkdir()
    (run / "checkpoints/a.safetensors").write_bytes(weights)
    record = {"budgets": {}, "history": [{"epoch": 1, "train_loss": loss, "seconds": seconds}]}
    (run / "checkpoints/a.json").write_text(json.dumps(record))
    row = (
        dict.fromkeys(determinism.WHICH, "x") | dict.fromkeys(determinism.ACCURACY, accuracy) | {"latency_ms": seconds}
    )
    (run / "results/a.csv").write_text(",".join(row) + "\n" + ",".join(map(str, row.values())) + "\n")
    return determinism.numbers(root, "smoke")


def test_only_timings_may_differ(tmp_path):
    first = left(tmp_path / "1")
    assert determinism.differences(first, left(tmp_path / "2", seconds=2.0)) == []
    for number, change in enumerate(({"weights": b"other"}, {"accuracy": 0.51}, {"loss": 0.26})):
        assert len(determinism.differences(first, left(tmp_path / f"other {number}", **change))) == 1
    assert len(determinism.differences(first, {})) == len(first) == 4
