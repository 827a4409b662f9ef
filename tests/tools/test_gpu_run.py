"""The paper's chain in one call: what it begins, what it leaves, and what comes out of it."""

import subprocess
import tarfile
from types import SimpleNamespace

import pytest

from asel_lib import configs
from tools import gpu_run


@pytest.fixture
def chain(workplace):
    def make(minutes=10.0, out="out"):
        return gpu_run.Chain(configs.load("smoke"), "masked", 0, workplace / out, minutes)

    return make


def test_a_training_that_could_not_end_in_time_is_not_begun(chain, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, "run", lambda *given, **options: pytest.fail("begun"))
    late = chain(minutes=1.0)
    late.rate = 0.1  # images a second
    assert not late.train("synthetic")
    assert "synthetic_finetuned: not begun, it takes 2800 s" in capsys.readouterr().out


def test_out_of_time_is_told_and_the_rest_is_left_for_the_next_call(chain, monkeypatch, capsys):
    def slow(command, timeout):
        raise subprocess.TimeoutExpired(command, timeout)

    monkeypatch.setattr(subprocess, "run", slow)
    assert gpu_run.run(chain(), ["synthetic"]) == ["synthetic_closeups", "synthetic"]
    assert "synthetic_closeups_warmup: out of time; called again here it goes on" in capsys.readouterr().out


def test_a_warm_up_that_fails_is_no_start_for_a_transfer(chain, monkeypatch):
    calls = []
    monkeypatch.setattr(
        subprocess, "run", lambda command, timeout: calls.append(command) or SimpleNamespace(returncode=1)
    )
    assert gpu_run.run(chain(), ["synthetic"]) == ["synthetic_closeups", "synthetic"]
    assert len(calls) == 1 and "warm_up" in calls[0]


@pytest.mark.slow
def test_the_rehearsal_leaves_what_can_be_shipped(workplace, monkeypatch):
    monkeypatch.setenv("OUT", str(workplace / "out"))
    asked = ["--profile", "smoke", "--datasets", "synthetic", "--minutes", "5"]
    assert gpu_run.main(asked) == 0
    with tarfile.open(workplace / "out" / "synthetic_finetuned.tar") as packed:
        assert packed.getnames() == [
            "checkpoints/synthetic_finetuned.safetensors",
            "checkpoints/synthetic_finetuned.json",
            "results/synthetic_finetuned.csv",
            "answers/synthetic_finetuned.csv.gz",
        ]
    assert gpu_run.main(asked) == 0  # what is there is not trained again
