import json
import pickle

import pytest
import torch
from PIL import Image

import asel_lib
from asel_lib import checkpoints, files, paths
from asel_lib.errors import CheckpointError
from tests import made_up

RECORD = made_up.RECORD | {"name": "tiny_warmup"}


@pytest.fixture
def saved(workplace, tiny):
    model = tiny()
    return model, checkpoints.save(model, paths.saved_models() / "tiny_warmup", RECORD)


def test_a_checkpoint_loads_as_it_was_saved(saved):
    model, _ = saved
    loaded = asel_lib.load("tiny_warmup")
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(loaded(images, 0.5), model(images, 0.5))
    assert not loaded.training
    assert loaded.classes == ("a", "b", "c", "d")
    assert loaded.transform(Image.new("RGB", (40, 50))).shape == (3, 32, 32)


def test_half_precision_halves_the_file_and_barely_moves_the_logits(saved):
    model, file = saved
    full = file.stat().st_size
    half = checkpoints.save(model, file.with_name("half"), RECORD, half=True)
    assert half.stat().st_size < 0.6 * full
    loaded = asel_lib.load(half)
    assert loaded.head.weight.dtype == torch.float32
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), model(images), atol=5e-3, rtol=0)


def test_an_unknown_name_lists_what_there_is(saved):
    with pytest.raises(
        CheckpointError, match="no checkpoint 'tiny_warmpu': there are tiny_warmup.*Did you mean 'tiny_warmup'"
    ):
        asel_lib.load("tiny_warmpu")


def test_a_truncated_checkpoint_is_refused(saved):
    _, file = saved
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="tiny_warmup.safetensors: not a whole safetensors file"):
        asel_lib.load("tiny_warmup")


def test_weights_of_another_run_under_the_same_record_are_refused(saved, tiny):
    _, file = saved
    record = file.with_suffix(".json").read_text()
    checkpoints.save(tiny(), file.with_suffix(""), RECORD | {"fingerprint": "f2"}, half=True)
    file.with_suffix(".json").write_text(record)
    with pytest.raises(CheckpointError, match="not those of the record"):
        asel_lib.load("tiny_warmup")


def test_another_architecture_is_named(saved):
    _, file = saved
    record = json.loads(file.with_suffix(".json").read_text())
    record["model"]["timm"]["embed_dim"] = 96
    file.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(
        CheckpointError, match="of another architecture: blocks.0.attn.proj.bias is .48,., this model has .96,."
    ):
        asel_lib.load("tiny_warmup")


def test_a_pickle_where_safetensors_is_due_is_refused_unread(saved):
    _, file = saved

    class Bomb:
        def __reduce__(self):
            return pytest.fail, ("the pickle was executed",)

    file.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="not a whole safetensors file"):
        asel_lib.load("tiny_warmup")
    with pytest.raises(CheckpointError, match="load_published"):
        asel_lib.load("weights.pth")


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 99, "fingerprint": "x"}'])
def test_a_damaged_record_is_named(saved, content):
    _, file = saved
    file.with_suffix(".json").write_text(content)
    with pytest.raises(CheckpointError, match="tiny_warmup.json"):
        asel_lib.load("tiny_warmup")


def test_only_a_matching_fingerprint_is_reused(saved, capsys):
    _, file = saved
    assert checkpoints.reuse("tiny_warmup", "f1", file.parent) == file
    assert checkpoints.reuse("tiny_warmup", "f9", file.parent) is None
    assert "made with other settings" in capsys.readouterr().out
    file.write_bytes(b"junk")
    assert checkpoints.reuse("tiny_warmup", "f1", file.parent) is None
    assert "not a whole safetensors file" in capsys.readouterr().out


@pytest.mark.parametrize("files_that_fit", [0, 1])
def test_a_full_disk_leaves_the_old_checkpoint(saved, tiny, monkeypatch, files_that_fit):
    _, file = saved
    before, flushed = file.read_bytes(), []

    def full(handle):
        flushed.append(handle)
        if len(flushed) > files_that_fit:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(CheckpointError, match="could not be written.*No space left"):
        checkpoints.save(tiny(), file.with_suffix(""), RECORD | {"fingerprint": "f2"}, half=True)
    assert file.read_bytes() == before
    assert asel_lib.load("tiny_warmup").record["fingerprint"] == "f1"
    assert [f.name for f in file.parent.iterdir() if f.name.startswith(".")] == []


def test_a_folder_that_cannot_be_written_is_a_named_error(workplace, tiny):
    (workplace / "blocked").write_text("a file where the folder should be")
    with pytest.raises(CheckpointError, match="blocked.*could not be written"):
        checkpoints.save(tiny(), workplace / "blocked" / "name", RECORD)
