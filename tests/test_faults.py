"""What goes wrong on a user's machine, provoked for real: kills, full disks, forbidden folders.

docs/results/faults.md lists all of it with the test of each; that those tests exist is the first one here."""

import contextlib
import errno
import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import asel_lib
from asel_lib import checkpoints, configs, files, paths, tables
from asel_lib.data import decode
from asel_lib.errors import AselError, CheckpointError
from asel_lib.training import jobs, objectives, stages, supervised
from asel_lib.training.state import read_state
from tests.made_up import RECORD, results

REPOSITORY = Path(__file__).parents[1]


def named_tests() -> list[str]:
    return re.findall(r"`(tests/[\w/]+\.py::test_\w+)`", (REPOSITORY / "docs/results/faults.md").read_text())


def test_every_row_of_the_table_of_faults_names_a_test_that_is_there():
    rows = [line for line in (REPOSITORY / "docs/results/faults.md").read_text().splitlines() if line.startswith("| ")]
    rows = [line for line in rows if not line.startswith(("| ---", "| fault |", "| file |"))]
    assert len(rows) > 25
    for row in rows:
        assert re.search(r"`tests/[\w/]+\.py::test_\w+`", row), f"names no test: {row}"
        assert len(row.split("|")) == 7, f"not five cells: {row}"
    for name in named_tests():
        file, _, function = name.partition("::")
        source = (REPOSITORY / file).read_text()
        assert re.search(rf"^def {function}\(", source, re.M), f"there is no {name}"


# --- killed ---

TRAIN = """
import sys, time
from asel_lib import configs
from asel_lib.training import stages, supervised
from tests.made_up import results

updated = supervised.SupervisedRun.update
def slowly(self, step):
    updated(self, step)
    print("step", self.state.epoch, self.state.step_in_epoch, flush=True)
    time.sleep(float(sys.argv[1]))

supervised.SupervisedRun.update = slowly
supervised.train.__kwdefaults__["save_seconds"] = 0.0
print("done", stages.warm_up(configs.load("smoke"), recipe="dropped", progress=False).file)
"""


@contextlib.contextmanager
def training(seconds: float):
    command = [sys.executable, "-W", "ignore", "-c", TRAIN, str(seconds)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.slow
def test_a_training_process_killed_in_mid_epoch_goes_on_and_ends_as_if_it_had_not_been(workplace, monkeypatch):
    """kill -9 of a real process, in the second epoch: 3 steps each, with a state after every step."""
    with training(0.5) as process:
        next(line for line in process.stdout if line == "step 1 1\n")
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    run = paths.run("smoke")
    assert not list(run.rglob("checkpoints/*.safetensors"))
    state = read_state(run / "state/synthetic_closeups-warmup-learned-s0.safetensors")
    assert (state["epoch"], len(state["history"])) == (1, 1)

    with training(0.0) as process:
        said = process.stdout.read()
    assert "going on from epoch 2" in said and "step 0 0" not in said
    resumed = asel_lib.load("synthetic_closeups-warmup-learned-s0", profile="smoke")
    assert not list((run / "state").iterdir())

    monkeypatch.setenv("ASEL_ROOT", str(workplace / "again"))
    whole = stages.warm_up(configs.load("smoke"), recipe="dropped", progress=False)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


def test_what_a_killed_writer_left_is_cleared_and_what_another_holds_is_not(tmp_path):
    path, long_ago = tmp_path / "results.csv", time.time() - 3600
    left, held, young = (tmp_path / f".results.csv.{name}" for name in ("leftover", "heldbyon", "justmade"))
    other = tmp_path / ".results2.csv.leftover"
    for file in (left, held, young, other):
        file.write_text("half")
    for file in (left, held, other):
        os.utime(file, (long_ago, long_ago))
    with open(held) as opened:
        import fcntl

        fcntl.flock(opened, fcntl.LOCK_EX)
        files.replace_text(path, "whole")
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted([path.name, held.name, young.name, other.name])


# --- full disks ---


@contextlib.contextmanager
def room_for(size: int):
    """No file may grow beyond `size` bytes: the kernel breaks off the write that would, as on a full disk (with EFBIG
    for ENOSPC)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def hidden(folder: Path) -> list[str]:
    return [file.name for file in folder.rglob(".*") if file.is_file() and not file.name.endswith(".lock")]


@pytest.mark.parametrize("offset", [0, 1, 4096, 100_000])
def test_a_disk_that_fills_at_any_byte_leaves_the_old_checkpoint(workplace, tiny, offset):
    file = checkpoints.save(tiny(), paths.saved_models() / "tiny", RECORD)
    before = file.read_bytes()
    assert len(before) > 100_000
    with (
        room_for(offset),
        pytest.raises(CheckpointError, match=r"tiny\.safetensors could not be written.*free some space"),
    ):
        checkpoints.save(tiny(), paths.saved_models() / "tiny", RECORD | {"fingerprint": "f2"})
    assert file.read_bytes() == before and asel_lib.load("tiny").record["fingerprint"] == "f1"
    assert hidden(paths.saved_models()) == []


@pytest.mark.parametrize("offset", [0, 4096, 100_000])
def test_a_disk_that_fills_while_a_shipped_checkpoint_is_taken_over_leaves_the_own_one(workplace, tiny, offset):
    checkpoints.save(tiny(), paths.saved_models() / "tiny", RECORD | {"fingerprint": "wanted"})
    own = checkpoints.save(tiny(), workplace / "run" / "tiny", RECORD)
    before = own.read_bytes(), own.with_suffix(".json").read_bytes()
    with (
        contextlib.redirect_stdout(io.StringIO()),  # pytest's log is a file too
        room_for(offset),
        pytest.raises(CheckpointError, match="could not be written.*free some space"),
    ):
        checkpoints.reuse("tiny", "wanted", own.parent)
    assert (own.read_bytes(), own.with_suffix(".json").read_bytes()) == before and hidden(own.parent) == []
    assert checkpoints.reuse("tiny", "wanted", own.parent) == own
    assert checkpoints.read_record(own)["fingerprint"] == "wanted"


def row(**changes):
    return results(ratios=(0.5,) * 25, **{"accuracy": 0.5} | changes)


@pytest.mark.parametrize("offset", [0, 1, 4096])
def test_a_disk_that_fills_at_any_byte_leaves_the_old_results(tmp_path, offset):
    path = tables.write(row(), tmp_path / "results.csv")
    with room_for(offset), pytest.raises(AselError, match=r"results\.csv could not be written.*free some space"):
        tables.write(row(accuracy=0.9), path)
    assert tables.read(path)["accuracy"].eq(0.5).all() and len(tables.read(path)) == 50
    assert hidden(tmp_path) == []


@pytest.mark.parametrize("offset", [0, 100, 4096])
def test_a_disk_that_fills_while_images_are_kept_is_a_warning_and_no_cache(image_folder, monkeypatch, offset):
    root = image_folder({"a": 10, "b": 10})
    monkeypatch.setattr(decode, "tqdm", lambda images, *_, **__: images)  # pytest's log is a file too
    with room_for(offset), pytest.warns(UserWarning, match="not kept for next time.*pixels.npy.*"):
        images = decode.load(root, 16)
    assert len(images) == 20 and images.pixels.std() > 0
    assert not list(paths.cache().rglob("about.json")) and hidden(paths.cache()) == []
    assert np.array_equal(decode.load(root, 16).pixels, images.pixels)
    assert len(list(paths.cache().rglob("about.json"))) == 1


def test_a_disk_that_is_full_of_other_things_is_a_named_error_too(tiny):
    """A real ENOSPC, of a small file system of its own: only root may mount one."""
    with tempfile.TemporaryDirectory() as place:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", place], capture_output=True).returncode:
            pytest.skip("a small tmpfs cannot be mounted here: needs root")
        try:
            stem = Path(place, "tiny")
            with pytest.raises(CheckpointError, match="No space left on device; free some space"):
                for number in range(9):
                    checkpoints.save(tiny(), stem, RECORD | {"fingerprint": str(number)}, half=True)
                    Path(place, f"other {number}").write_bytes(bytes(60_000))
            assert checkpoints.load(stem.with_suffix(".safetensors")).record["fingerprint"].isdigit()
            assert hidden(Path(place)) == []
        finally:
            subprocess.run(["umount", place], check=True)


def test_a_disk_that_fills_in_training_costs_the_chance_to_go_on_and_nothing_else(workplace, monkeypatch):
    """The checkpoint at the end is what counts: it is written where there is room again."""
    original = supervised.SupervisedRun.save

    def save(self):
        with room_for(2000):
            original(self)

    monkeypatch.setattr(supervised.SupervisedRun, "save", save)
    with pytest.warns(UserWarning, match="training goes on, but .*state.* could not be written.*free some space"):
        stage = stages.warm_up(configs.load("smoke"), recipe="dropped", progress=False)
    assert checkpoints.read_weights(stage.file)
    assert hidden(paths.run("smoke")) == []


# --- forbidden folders ---


@pytest.fixture
def forbidden():
    """A folder that may be read and not written, by a user who is not root."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "results")
        folder.mkdir()
        os.chmod(place, 0o755)
        os.chmod(folder, 0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            yield folder
        finally:
            if root:
                os.seteuid(0)


def test_a_folder_that_may_not_be_written_is_an_error_before_any_training(forbidden, monkeypatch):
    monkeypatch.setenv("ASEL_ROOT", str(forbidden))
    monkeypatch.setattr(jobs, "train", lambda *_, **__: pytest.fail("trained first"))
    with pytest.raises(AselError, match="cannot write into .*results.*Permission denied.*make the folder writable"):
        stages.warm_up(configs.load("smoke"), recipe="dropped")


def test_results_that_may_not_be_written_are_a_named_error(forbidden):
    with pytest.raises(
        AselError, match="results.csv could not be written.*Permission denied.*make the folder writable"
    ):
        tables.write(row(), forbidden / "results.csv")
    with pytest.raises(AselError, match="cannot write into .*results.*ASEL_ROOT"):
        files.check_writable(forbidden)


def test_the_benchmark_looks_first_whether_it_may_write():
    """Before minutes of measuring: in the cell in which its parameters are checked."""
    held = json.loads((REPOSITORY / "notebooks/05_benchmark.ipynb").read_text())
    code = ["".join(cell["source"]) for cell in held["cells"] if cell["cell_type"] == "code"]
    (checked,) = [number for number, source in enumerate(code) if "files.check_writable(" in source]
    (measured,) = [number for number, source in enumerate(code) if "benchmark(\n" in source]
    assert checked < measured


def test_advice_fits_the_error():
    for number, words in ((errno.ENOSPC, "free some space"), (errno.EROFS, "ASEL_ROOT"), (errno.EACCES, "writable")):
        assert words in files.advice(OSError(number, "x"))


# --- losses that are none ---


def test_a_loss_that_is_not_finite_keeps_the_last_good_checkpoint(workplace, monkeypatch):
    smoke = configs.load("smoke")
    good = stages.warm_up(smoke, recipe="dropped", progress=False)
    before = good.file.read_bytes()
    original = objectives.loss

    def broken(*arguments, **options):
        loss, logits = original(*arguments, **options)
        steps.append(1)
        return (loss * float("nan") if len(steps) == 4 else loss), logits

    steps = []
    monkeypatch.setattr(objectives, "loss", broken)
    with pytest.raises(supervised.TrainingError, match=r"loss is nan in epoch 2, step 3 .*learning rate 0.001"):
        stages.warm_up(smoke, recipe="dropped", retrain=True, progress=False)
    assert good.file.read_bytes() == before
    assert checkpoints.load(good.file).record["fingerprint"] == good.record["fingerprint"]
    state = read_state(paths.run("smoke") / "state" / good.file.name)
    assert (state["epoch"], len(state["history"])) == (1, 1)  # of the epoch before, whole
