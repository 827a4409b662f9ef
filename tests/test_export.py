"""Exported files answer as the model does, in onnxruntime alone, and say what they are."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import papermill
import pytest
import torch
from PIL import Image

import asel_lib
from asel_lib import checkpoints, tables
from asel_lib.data.batches import Batches, transform
from asel_lib.data.decode import ImageArray, load
from asel_lib.data.read_image import Reading
from asel_lib.data.sets import open_recorded, recorded_batches, split_of
from asel_lib.errors import ExportError
from asel_lib.evaluation import cost
from asel_lib.evaluation.deployed import compare, onnx_gmacs
from asel_lib.export import __main__ as command
from asel_lib.export import export
from asel_lib.export.calibration import calibration_images
from asel_lib.export.graph import Deployed
from asel_lib.export.int8 import quantised
from asel_lib.export.onnx_graph import answers, traced
from asel_lib.identity import ModelKey
from asel_lib.reporting import deployed
from asel_lib.reporting.figures.exported import latency
from asel_lib.selection import names

onnx = pytest.importorskip("onnx", reason="the extra 'export' is not installed: pip install -e '.[export]'")
REPOSITORY = Path(__file__).parent.parent
CLASSES = ("field", "forest", "river", "town")
SCRIPT = REPOSITORY / "asel_lib/export/predict.py"


@pytest.fixture
def named(tiny):
    """make(...) -> a tiny model that can predict."""

    def make(**changes):
        model = tiny(**changes)
        model.classes = CLASSES
        model.transform = transform(32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
        model.patch_drop.mean, model.patch_drop.std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
        return model

    return make


def assert_same_logits(model, ratio, policy=None):
    """Traced with three images, asked for other numbers of others."""
    size, chance = model.patch_embed.img_size, torch.Generator().manual_seed(5)
    graph = Deployed(model, ratio, policy).eval()
    made = traced(graph, torch.randn(3, 3, *size, generator=chance), "this")
    images = torch.randn(4, 3, *size, generator=chance)
    with torch.inference_mode():
        expected = model(images, ratio, policy).numpy()
    assert expected.std() > 1e-3  # else anything would be close
    alone = np.concatenate([answers(made, one.numpy()) for one in images.split(1)])
    three = answers(made, images[1:].numpy())
    np.testing.assert_allclose(alone, expected, atol=1e-4, rtol=0)
    np.testing.assert_allclose(three, expected[1:], atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    ("selector", "policy", "ratio"),
    [
        ("learned", None, 1.0),
        ("learned", None, 0.5),
        ("glance", None, 0.2),
        ("learned", "random", 0.5),
        *(pytest.param("learned", "central", ratio, marks=pytest.mark.slow) for ratio in (0.5, 0.2)),
        pytest.param("learned", None, 0.2, marks=pytest.mark.slow),
        pytest.param("glance", None, 1.0, marks=pytest.mark.slow),
        pytest.param("glance", None, 0.5, marks=pytest.mark.slow),
    ],
)
def test_onnxruntime_answers_as_the_model(tiny, selector, policy, ratio):
    model = tiny(selector=selector)
    with torch.no_grad():
        for parameter in model.parameters():  # a selector that has learned nothing chooses alike
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    assert_same_logits(model, ratio, policy)


@pytest.mark.slow
@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.2])
def test_onnxruntime_answers_as_the_shipped_checkpoint(ratio):
    assert_same_logits(asel_lib.load("synthetic_anytime"), ratio)


@pytest.mark.slow
@pytest.mark.parametrize("policy", names())
def test_every_registered_policy_can_be_exported(tiny, policy):
    assert_same_logits(tiny(selector=policy, depth=4), 0.4)


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"class_token": False, "global_pool": "avg"},
        {"qk_norm": True, "reg_tokens": 2, "img_size": (32, 48)},
        {"dynamic_img_size": True},
    ],
)
def test_other_shapes_of_the_backbone(tiny, changes):
    assert_same_logits(tiny(selector="glance", **changes), 0.4)


def test_a_graph_that_answers_otherwise_is_no_file(tiny, monkeypatch):
    class Batched(torch.nn.Module):
        def forward(self, images):
            return torch.rand(images.shape[0], 3)

    with pytest.raises(ExportError, match="this model: onnxruntime's logits differ from torch's by"):
        traced(Batched(), torch.zeros(3, 2), "this model")

    class Unclear(torch.nn.Module):
        def forward(self, images):
            return images if images.sum() > 0 else -images

    with pytest.raises(ExportError, match="this one cannot be laid out as one ONNX graph .*; export it with another"):
        traced(Unclear(), torch.zeros(3, 2), "this one")


def pictures(folder: Path, count: int = 4, size=(45, 39)) -> list[Path]:
    """Smooth pictures, which resizing by another library hardly changes."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, files = np.random.default_rng(3), []
    for number in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
        files.append(folder / f"{number}.png")
        coarse.resize(size, Image.BICUBIC).save(files[-1])
    return files


def predicted(script: Path, *arguments) -> tuple[dict[str, tuple[str, float]], subprocess.CompletedProcess]:
    """file name -> (label, probability), by the script in a Python that may import the three packages alone."""
    only = (
        "import runpy, sys; sys.argv = sys.argv[1:]; code = 0\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit as end: code = end.code\n"
        "there = {'torch', 'torchvision', 'timm', 'asel_lib', 'onnx', 'scipy'} & set(sys.modules)\n"
        "sys.exit(f'imported {there}' if there else code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", only, script, *arguments], capture_output=True, text=True, cwd=script.parent, timeout=120
    )
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return {Path(file).name: (label, float(probability)) for file, label, probability in rows}, done


@pytest.mark.parametrize("preprocessing", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_script_beside_the_model_predicts_as_the_model(named, tmp_path, preprocessing):
    model, files = named(), pictures(tmp_path / "images")
    ready = export(model, 0.5, tmp_path / "out", preprocessing=preprocessing, name="scenes")
    assert ready.float32.name == "scenes_0.5.onnx"
    assert len(ready.script.read_text().splitlines()) < 50
    found, done = predicted(ready.script, tmp_path / "images")
    assert done.returncode == 0, done.stderr
    for file, answer in zip(files, model.predict(files, 0.5), strict=True):
        label, probability = found[file.name]
        assert label == answer.label
        assert probability == pytest.approx(answer.probability, abs=2e-3)


def test_the_script_reads_what_the_library_reads_and_names_what_it_cannot(named, tmp_path):
    model = named()
    ready = export(model, 0.5, tmp_path / "out")
    folder = tmp_path / "images"
    files = pictures(folder, 1, (32, 32))
    turned = Image.open(files[0]).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "turned.png", exif=exif)
    grey = np.asarray(Image.open(files[0]).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(folder / "deep.png")
    (folder / "broken.jpg").write_bytes(b"no image")
    (folder / ".hidden.png").write_bytes(b"no image")
    found, done = predicted(ready.script, folder, tmp_path / "absent.png")
    readable = [folder / name for name in ("0.png", "deep.png", "turned.png")]
    assert sorted(found) == [file.name for file in readable]
    for file, answer in zip(readable, model.predict(readable, 0.5), strict=True):
        assert found[file.name] == (answer.label, pytest.approx(answer.probability, abs=1e-4))
    assert done.returncode == 1
    errors = done.stderr.splitlines()
    assert len(errors) == 2 and all(line.startswith("error: ") for line in errors)
    assert "broken.jpg: not a readable image" in errors[0] and "absent.png" in errors[1]
    # Of two models beside it, it takes the one that is named.
    other = ready.float32.with_name("another.onnx")
    other.write_bytes(export(model, 1.0, tmp_path / "whole", preprocessing=False).float32.read_bytes())
    for named_first in ([], [ready.float32]):
        again, done = predicted(ready.script, *named_first, *readable)
        assert again == (found if named_first else {}) and bool(done.returncode) != bool(named_first)
    nothing = subprocess.run([sys.executable, ready.script], capture_output=True, text=True)
    assert nothing.returncode == 1 and "python predict.py [model.onnx] image.jpg folder/" in nothing.stderr


def test_of_the_float32_and_the_int8_file_of_one_model_the_script_takes_int8_and_says_so(named, tmp_path):
    model, files = named(), pictures(tmp_path / "images")
    ready = export(model, 0.5, tmp_path / "out", int8=True, calibration=files)
    said = {}
    for chosen in ([], [ready.int8], [ready.float32]):
        said[str(chosen)], done = predicted(ready.script, *chosen, *files)
        assert done.returncode == 0, done.stderr
        assert (ready.int8.name in done.stderr) == (not chosen)
    assert said["[]"] == said[str([ready.int8])] != said[str([ready.float32])]
    ready.float32.with_name("another.onnx").write_bytes(ready.float32.read_bytes())
    nothing, done = predicted(ready.script, *files)
    assert not nothing and done.returncode == 1
    assert f"Here: another.onnx, {ready.int8.name}" in done.stderr


def test_the_script_reads_more_than_8_bits_as_the_model_does_and_opens_images_alone(named, tmp_path):
    model, folder = named(), tmp_path / "images"
    model.transform = transform(32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), reading=Reading(white=4095, background="black"))
    ready = export(model, 0.5, tmp_path / "out")
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 4000, (32, 32)).astype(np.uint16)
    Image.fromarray(values).save(folder / "deep.png")
    Image.new("RGBA", (32, 32), (255, 0, 0, 0)).save(folder / "clear.gif")
    (folder / "notes.txt").write_text("no image")
    found, done = predicted(ready.script, folder)
    assert done.returncode == 0 and "1 files left out" in done.stderr
    files = [folder / name for name in sorted(found)]
    assert [file.name for file in files] == ["clear.gif", "deep.png"]
    answers = model.predict(files, 0.5)
    assert [found[file.name][1] for file in files] == pytest.approx([one.probability for one in answers], abs=1e-4)
    brighter, _ = predicted(ready.script, "--white=2000", folder / "deep.png")
    expected = model.predict([folder / "deep.png"], 0.5, white=2000)[0].probability
    assert brighter["deep.png"][1] == pytest.approx(expected, abs=1e-4) != answers[1].probability
    assert "4095 white" in ready.readme.read_text()


@pytest.mark.slow
def test_the_published_cut_is_made_by_the_script_too(named, tmp_path):
    model, files = named(), pictures(tmp_path / "images", 3, (90, 70))
    model.transform = transform(32, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), resized=40)
    ready = export(model, 1.0, tmp_path / "out")
    found, _ = predicted(ready.script, *files)
    whole = [answer.probability for answer in named().predict(files)]
    cut = [answer.probability for answer in model.predict(files)]
    assert max(abs(a - b) for a, b in zip(whole, cut, strict=True)) > 5e-3  # else this test says nothing
    assert [found[file.name][1] for file in files] == pytest.approx(cut, abs=2e-3)


def test_a_file_says_what_it_is(named, tmp_path):
    given = pictures(tmp_path / "images")
    ready = export(named(), 0.3, tmp_path / "out", policy="random", int8=True, calibration=given, name="scenes")
    assert [file.name for file in (ready.float32, ready.int8)] == [
        "scenes_random_0.3.onnx",
        "scenes_random_0.3_int8.onnx",
    ]
    held = [onnx.load(file) for file in (ready.float32, ready.int8)]
    plain, small = ({entry.key: entry.value for entry in model.metadata_props} for model in held)
    assert plain["checkpoint"] == "scenes" and plain["selector"] == "random" and plain["licence"] == "Apache-2.0"
    assert (plain["keep_ratio"], plain["kept_patches"], plain["patches"]) == ("0.3", "4", "16")
    assert plain["draw"].startswith("each image's first") and plain["commit"]
    assert (plain["dtype"], small["dtype"]) == ("float32", "int8")
    assert small["calibrated_on"] == "4 images that were given" and "calibrated_on" not in plain
    asked = json.loads(plain["prediction"])
    assert asked["classes"] == list(CLASSES) and asked["size"] == [32, 32] and asked["mean"] == [0.5, 0.4, 0.3]
    assert held[0].graph.input[0].type.tensor_type.shape.dim[0].dim_param  # any number of images
    for file in (ready.float32, ready.int8):
        assert str(REPOSITORY).encode() not in file.read_bytes()  # no trace of the machine that exported
    assert "scenes_random_0.3_int8.onnx" in ready.readme.read_text()


def test_int8_is_in_int8_but_chooses_by_what_float32_chooses_by(named):
    graph = Deployed(named(), 0.5).eval()
    images = torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plain = traced(graph, images[:3], "this")
    small = quantised(plain, list(images.numpy()))
    assert len(small.SerializeToString()) < 0.75 * len(plain.SerializeToString())
    weights = [
        tensor for tensor in small.graph.initializer if tensor.data_type == onnx.TensorProto.INT8 and tensor.dims
    ]
    assert max(abs(onnx.numpy_helper.to_array(one).astype(int)).max() for one in weights) <= 64  # seven bits
    # Both give out also the scores that they choose by.
    scores = []
    for model in (plain, small):
        (choice,) = (node for node in model.graph.node if node.op_type == "TopK")
        del model.graph.output[:]
        model.graph.output.append(onnx.helper.make_tensor_value_info(choice.input[0], onnx.TensorProto.FLOAT, None))
        scores.append(answers(model, images.numpy()))
    np.testing.assert_array_equal(*scores)
    with pytest.raises(ExportError, match="int8 needs images to be calibrated on"):
        quantised(plain, [])


def test_calibration_sees_val_images_alone(named, image_folder):
    folder = image_folder({name: 20 for name in CLASSES})
    images = load(folder, 32)
    split = split_of(images, "train-val-test", 42)
    model = named()
    model.record = {
        "name": "scenes",
        "source": str(folder),
        "images": len(images),
        "transform": {"size": 32},
        "dataset_fingerprint": images.fingerprint,
        "split": split.record(),
    }
    graph = Deployed(model, 0.5, preprocessing=True)
    found, source = calibration_images(model, graph, 5)
    val = {images.pixels[index].tobytes() for index in split.val}
    assert len(found) == 5 and {one.tobytes() for one in found} <= val
    assert source == f"5 images of the val part of {images.name} (split {split.fingerprint})"
    assert len(calibration_images(model, graph, 1000)[0]) == len(split.val)
    normalised, _ = calibration_images(model, Deployed(model, 0.5), 1)
    expected = model.transform(Image.fromarray(images.pixels[split.val[0]])).numpy()
    np.testing.assert_array_equal(normalised[0], expected)


def test_what_cannot_be_exported_is_said(named, tiny, tmp_path, monkeypatch, capsys):
    with pytest.raises(ValueError, match="keep_ratio is 'auto:0.2': a budget for each image has no fixed graph"):
        export(named(), "auto:0.2", tmp_path)
    with pytest.raises(ValueError, match="keep_ratio is 0"):
        export(named(), 0, tmp_path)
    with pytest.raises(ValueError, match="unknown policy 'rnadom'.*Did you mean 'random'"):
        export(named(), 0.5, tmp_path, policy="rnadom")
    with pytest.raises(ValueError, match="model.classes is None: expected the names of its 4 classes"):
        export(tiny(), 0.5, tmp_path)
    with pytest.raises(ExportError, match="this model has no record of one: pass calibration="):
        export(named(), 0.5, tmp_path, int8=True)
    with pytest.raises(ValueError, match="calibration is 0"):
        export(named(), 0.5, tmp_path, int8=True, calibration=0)
    assert command.main(["no_such_checkpoint", "--output", str(tmp_path)]) == 1
    assert capsys.readouterr().err.startswith("error: no checkpoint 'no_such_checkpoint'")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "onnx" else found(name, *rest))
    with pytest.raises(ExportError, match=r"exporting needs onnx, of the extra 'export': pip install 'asel\[export\]'"):
        export(named(), 0.5, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to_is_said(named, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ExportError, match="taken: cannot be written to"):
        export(named(), 1.0, tmp_path / "taken")


@pytest.mark.slow
def test_operations_are_counted_from_the_graph(tiny, tmp_path):
    for ratio in (1.0, 0.5):
        model = tiny(class_token=False, global_pool="avg")  # nothing to leave out in the last block
        made = traced(Deployed(model, ratio).eval(), torch.randn(3, 3, 32, 32), "this")
        onnx.save(made, tmp_path / "model.onnx")
        assert onnx_gmacs(tmp_path / "model.onnx") == pytest.approx(cost.gmacs(model, 32, ratio).total, rel=1e-6)


def test_exported_models_are_compared_in_rows_that_no_sweep_takes_for_its_own(named, tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(24) % 4
    images = ImageArray("noise", pixels, labels, CLASSES, tuple(map(str, range(24))), tuple(map(str, range(24))))
    model = named()
    model.record = asdict(ModelKey("noise", "direct", "learned")) | {"name": "n", "profile": "smoke", "start": "random"}
    batches = Batches(images, np.arange(20), image_size=32, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4), batch_size=8)
    frame = compare(
        model,
        batches,
        ratios=(1.0, 0.5),
        batch_sizes=(1, 2),
        threads=(1,),
        int8=False,
        seconds=0.01,
        rounds=3,
        progress=False,
    )
    assert len(frame) == 2 * 2 * 2 and set(tables.DEPLOYED.required) <= set(frame.columns)
    with torch.inference_mode():
        expected = [(model(x, 0.5).argmax(1) == y).sum() for x, y in batches]
    half = frame[frame["keep_ratio"] == 0.5]
    assert set(half["accuracy"]) == {int(sum(expected)) / 20} and set(half["agreement"]) == {1.0}
    assert ((half["accuracy_low"] < half["accuracy"]) & (half["accuracy"] < half["accuracy_high"])).all()
    base = frame[(frame["runtime"] == "torch") & (frame["keep_ratio"] == 1)]
    assert set(base["speed_up"]) == {1.0} and set(frame["n_images"]) == {20}
    file = tables.write(frame, tmp_path / "export.csv", tables.DEPLOYED)
    again = tables.read(file, tables.DEPLOYED)
    assert set(again["runtime"]) == {"torch", "onnxruntime"}
    assert len(deployed.table(again)) == 4
    assert len(latency(again).axes) == 2
    other = again.assign(checkpoint="another")
    assert len(deployed.replaced(frame, pd.concat([again, other]))) == 2 * len(frame)


@pytest.mark.slow
def test_the_command_exports_a_shipped_checkpoint(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "asel_lib.export",
            "synthetic_anytime",
            "--keep-ratio",
            "1",
            "0.3",
            "--output",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr
    assert {file.name for file in tmp_path.glob("*.onnx")} == {"synthetic_anytime_1.onnx", "synthetic_anytime_0.3.onnx"}
    assert "synthetic_anytime_0.3.onnx" in done.stdout


@pytest.mark.slow
def test_the_notebook_measures_and_keeps_what_it_measured(workplace):
    (workplace / "saved_models").symlink_to(REPOSITORY / "saved_models")
    given = {"profile": "smoke", "ratios": [0.2], "batch_sizes": [1], "seconds": 0.01}
    for _ in range(2):  # a second run takes the place of the first
        papermill.execute_notebook(
            REPOSITORY / "notebooks/10_export.ipynb",
            workplace / "out.ipynb",
            given,
            progress_bar=False,
            kernel_name="python3",
        )
        given["int8"] = False
    run = workplace / "benchmarks_results/runs/smoke"
    rows = tables.read(run / "deployed.csv", tables.DEPLOYED)
    assert set(rows["checkpoint"]) == {"synthetic_anytime"} and set(rows["dtype"]) == {"float32"}
    assert (rows["accuracy"] > 0.85).all() and (rows["n_images"] == 800).all()
    assert (run / "figures/synthetic_anytime_export.png").is_file()


@pytest.mark.slow
@pytest.mark.data
def test_int8_is_within_a_point_of_float32_on_real_test_images(real_data, tmp_path):
    real_data("rsscn7")
    if "rsscn7_anytime" not in checkpoints.available():
        pytest.skip("rsscn7_anytime is not shipped: its training from ImageNet weights is still to come")
    model = asel_lib.load("rsscn7_anytime")
    images, split = open_recorded(model.record)
    batches = recorded_batches(images, split.test, model.record)
    for ratio in (1.0, 0.5, 0.2):
        ready = export(model, ratio, tmp_path, int8=True, preprocessing=False)
        correct = {}
        for file in (ready.float32, ready.int8):
            held = onnx.load(file)
            correct[file] = sum((answers(held, x.numpy()).argmax(1) == y.numpy()).sum() for x, y in batches)
        assert abs(correct[ready.int8] - correct[ready.float32]) <= 0.01 * len(split.test)
        with torch.inference_mode():
            torchs = sum(int((model(x, ratio).argmax(1) == y).sum()) for x, y in batches)
        assert abs(correct[ready.float32] - torchs) <= 1  # an image whose two best scores are the same to 1e-5
