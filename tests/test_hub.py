"""A checkpoint as a folder that timm and this library load, its model card, and its upload."""

import json

import huggingface_hub
import numpy as np
import pandas as pd
import pytest
import timm
import torch
import yaml
from PIL import Image

import asel_lib
from asel_lib import checkpoints, hub, paths, tables
from asel_lib.errors import CheckpointError, ExportError
from asel_lib.evaluation.answers import file_of, training_of
from asel_lib.hub import __main__ as command
from asel_lib.identity import ModelKey
from tests.made_up import results

KEY = ModelKey("beach", "direct", "glance", "anytime")
RECORD = {
    "name": KEY.name,
    "fingerprint": "f1",
    "classes": ["sand", "rock", "wald", "森"],
    "model": {
        "architecture": "vit_tiny_patch16_224",
        "selector": "glance",
        "timm": {"patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "drop_path_rate": 0.1},
    },
    "transform": {"size": 32, "mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3], "white": 4095.0, "black": 0.0},
    "split": {"train": 70, "val": 10, "test": 500},
    "metrics": {"val_accuracy": 0.875, "val_ratios": [0.2, 1.0], "best_epoch": 3, "epochs": 4},
    "history": [{"epoch": 1, "loss": 2.0}],
    "dataset": "beach",
    "profile": "compact",
    "start": "random",
}


@pytest.fixture
def saved(workplace, tiny):
    """A checkpoint of random weights, among them the selector's."""
    model = tiny(selector="glance")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    checkpoints.save(model, paths.saved_models() / KEY.name, RECORD)
    return model


def put(rows, place):
    return tables.write(rows, place / "results.csv")


def test_timm_loads_the_folder_and_gives_the_logits_of_all_patches(saved, tmp_path):
    folder = hub.write(KEY.name, tmp_path / "shared")
    plain = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(plain(images), saved(images), atol=1e-5, rtol=0)
    assert type(plain).__name__ == "VisionTransformer" and plain.pretrained_cfg["label_names"] == RECORD["classes"]
    data = timm.data.resolve_model_data_config(plain)
    prepared = [tuple(data[name]) for name in ("mean", "std", "input_size")]
    assert prepared == [(0.4, 0.5, 0.6), (0.2, 0.25, 0.3), (3, 32, 32)]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 70, 3), dtype=np.uint8))
    ours, theirs = (
        prepare(picture)
        for prepare in (asel_lib.load(KEY.name).transform, timm.data.create_transform(**data, is_training=False))
    )
    assert (ours - theirs).abs().max() < 0.03  # a step of 255 levels: the whole image, not its middle


def test_the_library_loads_the_folder_with_its_selector(saved, tmp_path):
    folder = hub.write(KEY.name, tmp_path / "shared")
    again, images = asel_lib.load(f"local-dir:{folder}"), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(again(images, 0.3), saved(images, 0.3))
    assert again.classes == tuple(RECORD["classes"]) and again.record["split"] == RECORD["split"]
    assert again.transform.reading.white == 4095


def test_half_precision_halves_the_networks_file_and_leaves_the_selector(saved, tmp_path):
    full, half = hub.write(KEY.name, tmp_path / "full"), hub.write(KEY.name, tmp_path / "half", half=True)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (full, half)]
    assert sizes[1] < 0.6 * sizes[0]
    assert (full / "selector.safetensors").read_bytes() == (half / "selector.safetensors").read_bytes()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        kept = [asel_lib.load(f"local-dir:{folder}").select(images, 0.3) for folder in (full, half)]
    assert torch.equal(*kept) or (kept[0] == kept[1]).float().mean() > 0.5


def test_the_card_has_the_rows_of_this_model_and_says_what_was_left_out(saved, workplace, tmp_path):
    of_it = results(KEY, ("glance", "random"), start="random")
    other = results(KEY, ("glance",), (0.5,), start="imagenet", accuracy=0.99)
    fewer = results(KEY, ("central",), (0.5,), n_images=20, accuracy=0.99)
    table = tables.joined([of_it, other, fewer, results("beach_anytime", accuracy=0.99)])
    put(table, paths.results())
    text = (hub.write(KEY.name, tmp_path / "shared") / "README.md").read_text()
    about = yaml.safe_load(text.split("---")[1])
    metrics = about["model-index"][0]["results"][0]["metrics"]
    assert [one["value"] for one in metrics] == [0.55, 0.625, 0.75] and about["library_name"] == "timm"
    assert "| `glance` | 0.5 | 62.5 % (57.5 % to 67.5 %) |" in text and text.count("| `random` |") == 3
    assert "99.0 %" not in text and "Left out: 2 rows of the results are of another profile, start or test" in text
    assert "top-1 87.5 %, the mean over keep ratios 0.2, 1" in text and "森" in text
    assert "0 is black and 4095 white" in text and "OWNER/NAME" in text


def test_rows_of_another_training_of_that_name_are_left_out(saved, tmp_path):
    run = paths.run("compact")
    put(results(KEY, ("glance",)), run)
    file = file_of(KEY.name, "compact")
    about = KEY.columns() | {"profile": "compact", "start": "random", "dataset_fingerprint": "d", "split": "s"}
    row = about | {"training": training_of({"history": []}), "part": "test", "policy": "glance", "image": "1", "0.5": 1}
    file.parent.mkdir()
    pd.DataFrame([row]).to_csv(file, index=False)
    folder = hub.write(KEY.name, tmp_path / "shared")
    text = (folder / "README.md").read_text()
    assert "it has not been measured" in text and "Left out: 3 are of another training of that name" in text
    row["training"] = training_of(RECORD)
    pd.DataFrame([row]).to_csv(file, index=False)
    assert "62.5 %" in (hub.write(KEY.name, tmp_path / "shared") / "README.md").read_text()


def test_a_network_that_is_none_of_timms_is_refused(workplace, tmp_path):
    from asel_lib.models import AgentViT

    network = dict(patch_size=8, dim=48, depth=1, heads=2, dim_head=8, mlp_dim=32)
    model = AgentViT(4, "agent", 32, **network)
    described = {"architecture": "agentvit", "selector": "agent", "timm": network}
    checkpoints.save(model, paths.saved_models() / "own", RECORD | {"name": "own", "model": described})
    with pytest.raises(ExportError, match="'agentvit', which is none of timm's"):
        hub.write("own", tmp_path / "shared")
    assert not (tmp_path / "shared").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "asel.json").unlink(), r"no asel.json in .*asel_lib.make_selective\("),
        (lambda folder: (folder / "asel.json").write_text("{}"), "no readable record"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no model.safetensors"),
        (lambda folder: (folder / "selector.safetensors").write_bytes(b"x"), "not a whole safetensors file"),
        (
            lambda folder: (folder / "asel.json").write_text(
                (folder / "asel.json").read_text().replace('"selector.safetensors"', '"../other.safetensors"')
            ),
            "names a file '../other.safetensors' that is none",
        ),
    ],
)
def test_a_folder_that_is_not_whole_is_named(saved, tmp_path, damage, message):
    folder = hub.write(KEY.name, tmp_path / "shared")
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        asel_lib.load(f"local-dir:{folder}")
    with pytest.raises(CheckpointError, match=message):
        hub.push(folder, "somebody/beach")  # before any talk with a hub


def test_weights_of_another_folder_are_refused(saved, tmp_path):
    folder, other = hub.write(KEY.name, tmp_path / "one"), hub.write(KEY.name, tmp_path / "two", half=True)
    (folder / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="not those of asel.json beside them"):
        asel_lib.load(f"local-dir:{folder}")


class FakeHub:
    """What `push` asks of huggingface_hub.HfApi."""

    calls: list[tuple] = []

    def __init__(self, **options):
        self.calls.append(("api", options["library_name"]))

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("repository", repo_id, private, exist_ok))
        return huggingface_hub.RepoUrl(f"https://hub.example/{repo_id}", endpoint="https://hub.example")

    def upload_folder(self, *, repo_id, folder_path, allow_patterns, commit_message):
        self.calls.append(("upload", repo_id, folder_path, sorted(allow_patterns), commit_message))
        return f"https://hub.example/{repo_id}/commit/1"


def test_the_folder_is_pushed_where_that_is_asked_for(saved, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "calls", [])
    folder = tmp_path / "shared"
    assert command.main([KEY.name, "--output", str(folder)]) == 0 and FakeHub.calls == []
    assert command.main([KEY.name, "--output", str(folder), "--push", "somebody/beach"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "https://hub.example/somebody/beach/commit/1"
    files = ["README.md", "asel.json", "config.json", "model.safetensors", "selector.safetensors"]
    assert FakeHub.calls == [
        ("api", "asel"),
        ("repository", "somebody/beach", True, True),
        ("upload", "somebody/beach", str(folder), files, f"Add {KEY.name}"),
    ]
    assert sorted(file.name for file in folder.iterdir()) == files
    assert 'asel_lib.load("hf-hub:somebody/beach")' in (folder / "README.md").read_text()


def test_a_hub_that_refuses_is_one_line_that_says_what_to_do(saved, tmp_path, monkeypatch, capsys):
    def refused(*arguments, **options):
        raise OSError("401 Unauthorized")

    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "create_repo", refused)
    assert command.main([KEY.name, "--output", str(tmp_path / "shared"), "--push", "somebody/beach"]) == 1
    assert "error: somebody/beach: the hub took nothing (OSError: 401 Unauthorized): log in" in capsys.readouterr().err


def test_a_model_on_a_hub_is_loaded_file_by_file(saved, tmp_path, monkeypatch):
    folder, asked = hub.write(KEY.name, tmp_path / "shared"), []

    def download(repo_id, filename, revision=None):
        asked.append((repo_id, filename, revision))
        return str(folder / filename)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert asel_lib.load("hf-hub:somebody/beach@main").classes == tuple(RECORD["classes"])
    assert asked == [
        ("somebody/beach", file, "main") for file in ("asel.json", "model.safetensors", "selector.safetensors")
    ]

    def offline(*arguments, **options):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", offline)
    with pytest.raises(CheckpointError, match="asel.json is not to be had .OSError: no network.*the hub's cache"):
        asel_lib.load("hf-hub:somebody/beach")


def test_timms_configuration_says_nothing_of_other_weights(saved, tmp_path):
    config = json.loads((hub.write(KEY.name, tmp_path / "shared") / "config.json").read_text())
    assert config["architecture"] == "vit_tiny_patch16_224" and config["num_classes"] == 4
    assert config["model_args"]["depth"] == 2 and config["pretrained_cfg"]["crop_mode"] == "squash"
    assert not {"tag", "url", "hf_hub_id", "license"} & set(config["pretrained_cfg"])
