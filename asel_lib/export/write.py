"""The files of a deployed model: ONNX in float32 and int8, the script that predicts with them, how to use them."""

import copy
import importlib.util
import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import torch

from asel_lib import __version__, checkpoints, paths, reproducibility
from asel_lib.data import pixels
from asel_lib.data.batches import Transform, normalised
from asel_lib.errors import ExportError
from asel_lib.export.calibration import IMAGES, calibration_images
from asel_lib.export.describe import metadata, readme
from asel_lib.export.graph import Deployed
from asel_lib.export.int8 import quantised
from asel_lib.export.onnx_graph import traced
from asel_lib.files import replace_files
from asel_lib.models import SelectiveViT

NEEDED = ("onnx", "onnxruntime", "onnxscript")
SCRIPT = Path(__file__).with_name("predict.py")


class Exported(NamedTuple):
    """The files that were written; int8 and licence None where it was not asked for, or is not there."""

    float32: Path
    int8: Path | None
    script: Path
    readme: Path
    licence: Path | None = None


def export(
    model: SelectiveViT | str | Path,
    keep_ratio: float,
    folder: str | Path,
    *,
    policy: str | None = None,
    int8: bool = False,
    preprocessing: bool = True,
    calibration: int | Sequence = IMAGES,
    data: str | Path = "",
    name: str = "",
) -> Exported:
    """Write `<name>[_<policy>]_<ratio>.onnx`, with int8 also `..._int8.onnx`, and what a user needs beside them:
    predict.py, pixels.py, README.md, the licence.

    Any number of images goes in; an image's answer does not depend on the others.

    Args:
        model: a checkpoint's name or path, or a model with `classes`.
        keep_ratio: a number in (0, 1].
        folder: where to.
        policy: None: the model's own selector; one that draws at random keeps, in the file, each image's first draw.
        int8: whether the smaller file is written too.
        preprocessing: whether the file takes uint8 images (B, H, W, 3) of the model's size and normalises them; else
            float32 (B, 3, H, W), normalised. Resizing is predict.py's, by Pillow.
        calibration: of int8: how many images of the checkpoint's own val part, spread over it (its training part, where
            the split has no val), never of test; or a list of images or paths.
        data: where the image set lies, if it moved.
        name: of a model without a record.

    Raises:
        ExportError: where the extra `export` is not installed, a graph cannot be captured, or onnxruntime's logits are
            not those of `model(images, keep_ratio, policy)` to 1e-4, or predict.py could not prepare its images.
        ValueError: for a bad ratio or policy.
        CheckpointError: as of `checkpoints.load` and `open_recorded`.
    """
    require()
    model = model if isinstance(model, SelectiveViT) else checkpoints.load(model)
    if model.classes is None or len(model.classes) != model.num_classes:
        raise ValueError(
            f"model.classes is {model.classes!r}: expected the names of its {model.num_classes} classes, which go into "
            "the file; set them, or load the model with asel_lib.load(name)"
        )
    _check_images(model)
    held = copy.deepcopy(model).cpu().float().eval()
    graph = Deployed(held, keep_ratio, policy, preprocessing).eval()
    name = name or (model.record or {}).get("name") or "model"
    about = metadata(model, graph, name)
    # First of all, so that a missing image set is an error before any work.
    images, source = calibration_images(model, graph, calibration, data) if int8 else ([], "")

    def asked(images: torch.Tensor) -> torch.Tensor:
        """What the model itself answers, to whose parts the graph may not do justice."""
        if preprocessing:
            images = normalised(images.permute(0, 3, 1, 2), held.patch_drop.mean, held.patch_drop.std)
        return held(images, keep_ratio, policy)

    plain = traced(graph, _noise(graph), f"{name} with {about['selector']!r} at keep ratio {keep_ratio:g}", asked)
    chosen_by = "_" + re.sub(r"[^A-Za-z0-9.]+", "_", policy) if policy else ""
    file = Path(folder, f"{name}{chosen_by}_{keep_ratio:g}.onnx")
    small = file.with_name(f"{file.stem}_int8.onnx") if int8 else None
    models = {file: _with(plain, about | {"dtype": "float32"})}
    if small:
        made = quantised(plain, images, same_choice=graph.reducer is None)
        models[small] = _with(made, about | {"dtype": "int8", "calibrated_on": source})
    beside = {
        file.with_name(SCRIPT.name): SCRIPT.read_text(),
        file.with_name("README.md"): readme(about, file, sorted({*file.parent.glob("*.onnx"), *models})),
    }
    if (licence := paths.root() / "LICENSE").is_file():
        beside[file.with_name("LICENSE")] = licence.read_text()
    held = {path: made.SerializeToString() for path, made in models.items()}
    held |= {path: text.encode() for path, text in beside.items()}
    held[file.with_name("pixels.py")] = Path(pixels.__file__).read_bytes()  # what predict.py opens images with
    try:
        replace_files({path: partial(_fill, content=content) for path, content in held.items()})
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written to ({error}); free space or choose another folder") from error
    return Exported(file, small, *beside)


def require() -> None:
    """ExportError names what exporting needs and is not installed."""
    if missing := [name for name in NEEDED if importlib.util.find_spec(name) is None]:
        raise ExportError(
            f"exporting needs {', '.join(missing)}, of the extra 'export': pip install 'asel[export]', or in a "
            "checkout pip install -e '.[export]'"
        )


def _check_images(model: SelectiveViT) -> None:
    """ExportError where predict.py could not prepare images as this model has them."""
    if model.in_chans != 3:
        raise ExportError(
            f"the model takes images of {model.in_chans} channels, and the exported predict.py reads RGB: export "
            "asel_lib.models.at_ratio.AtRatio(model, keep_ratio) with torch.onnx.export yourself"
        )
    if model.transform is not None and not isinstance(model.transform, Transform):
        raise ExportError(
            f"model.transform is a {type(model.transform).__name__}, which the exported predict.py cannot repeat: it "
            "resizes by Pillow's bicubic to a square and normalises; set model.transform = "
            "asel_lib.data.batches.transform(size, mean, std), if that is what the model was trained with"
        )


def _noise(graph: Deployed) -> torch.Tensor:
    """Three images as the graph takes them."""
    chance, (height, width) = reproducibility.generator("export"), graph.model.patch_embed.img_size
    if graph.preprocessing:
        return torch.randint(0, 256, (3, height, width, 3), dtype=torch.uint8, generator=chance)
    return torch.randn(3, 3, height, width, generator=chance)


def _with(model, about: dict[str, str]):
    """The ModelProto with that metadata, and no other."""
    del model.metadata_props[:]
    for key, value in about.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "asel", __version__
    return model


def _fill(opened: BinaryIO, content: bytes) -> None:
    opened.write(content)
