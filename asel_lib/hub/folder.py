"""The folder: timm's weights and configuration, a model card, and what makes the selective model again."""

import hashlib
import json
import tempfile
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import timm
import torch
from safetensors.torch import save as save_safetensors
from timm.models import save_for_hf

from asel_lib import checkpoints
from asel_lib.errors import ExportError
from asel_lib.files import replace_files
from asel_lib.hub.card import card, measured
from asel_lib.sources import RECORD, SELECTOR, WEIGHTS

CONFIG, CARD = "config.json", "README.md"
FILES = (WEIGHTS, CONFIG, CARD, RECORD, SELECTOR)
OWN = "patch_drop."  # what a selector's weights begin with


def write(
    checkpoint: str | Path,
    folder: str | Path | None = None,
    *,
    results: str | Path | pd.DataFrame | None = None,
    half: bool = False,
) -> Path:
    """Write a checkpoint as a folder that timm loads. Nothing is sent anywhere.

    Args:
        checkpoint: a name from saved_models/ or of a run, or the path of a .safetensors file. What is written is what
            the file holds, not what a program made of it since.
        folder: where to; None: into the working folder, by the checkpoint's name.
        results: the table of results for the model card; None: that of its profile's run, and the committed one. Rows
            of other models, or of another training of that name, are left out.
        half: weights as 16-bit floats; with them timm's logits differ in the third digit.

    Returns:
        The folder: model.safetensors and config.json as timm has them, README.md, and for `asel_lib.load("local-dir:
        folder")` asel.json (the record) and selector.safetensors (where the selector has weights).

    Raises:
        CheckpointError: there is no such checkpoint, or it is damaged.
        ExportError: timm has no such network, or the folder cannot be written to.
        AselError: the table of results is damaged.
    """
    file = checkpoints.locate(checkpoint)
    model = checkpoints.load(file)
    plain = _plain(model, file)
    record = model.record = {"name": file.stem} | model.record
    selector = {name: value.contiguous() for name, value in model.state_dict().items() if name.startswith(OWN)}
    contents = _timm_files(plain.half() if half else plain, model)
    if selector:  # not halved: scores of few bits would tie
        contents[SELECTOR] = save_safetensors(selector, {"format": "pt"})
    weights = [name for name in (WEIGHTS, SELECTOR) if name in contents]
    digests = {name: hashlib.sha256(contents[name]).hexdigest() for name in weights}
    contents[RECORD] = _json({"record": record, "sha256": digests})
    contents[CARD] = card(model, *measured(record, results), half).encode()
    folder = Path(folder or record["name"]).expanduser()
    try:
        replace_files({folder / name: partial(_fill, content=content) for name, content in contents.items()})
        if not selector:
            (folder / SELECTOR).unlink(missing_ok=True)  # another model's, which lay there before
    except OSError as error:
        raise ExportError(f"{folder}: cannot be written to ({error}); free space or choose another folder") from error
    return folder


def _plain(model, file: Path) -> torch.nn.Module:
    """timm's own model with these weights."""
    described, size = model.record["model"], model.record["transform"]["size"]
    architecture = described["architecture"]
    if not timm.is_model(architecture):
        raise ExportError(
            f"{file}: its network is {architecture!r}, which is none of timm's, and timm could not load the folder: "
            "share the two files of the checkpoint instead"
        )
    made = timm.create_model(architecture, num_classes=model.num_classes, img_size=size, **described["timm"])
    made.load_state_dict({name: value for name, value in model.state_dict().items() if not name.startswith(OWN)})
    return made


def _timm_files(plain: torch.nn.Module, model) -> dict[str, bytes]:
    """What timm writes of its model: the weights, and in config.json the network, its classes, and how its images are
    prepared."""
    size, resized = model.transform.size, model.transform.resized
    prepared = {
        "input_size": (3, size, size),
        "interpolation": "bicubic",
        "mean": tuple(model.transform.mean),
        "std": tuple(model.transform.std),
        "crop_pct": size / resized if resized else 1.0,
        "crop_mode": "center" if resized else "squash",  # squash: the whole image
    }
    # What timm says of the weights that it has of this name is not true of these.
    other = dict.fromkeys(("tag", "license", "description", "origin_url", "paper_name", "paper_ids", "notes"))
    about = {"label_names": list(model.classes), "pretrained_cfg": other}
    with tempfile.TemporaryDirectory() as place:
        save_for_hf(plain, place, model_config=about, data_config=prepared, safe_serialization=True)
        config, weights = json.loads(Path(place, CONFIG).read_text()), Path(place, WEIGHTS).read_bytes()
    kept = {name: value for name, value in config["pretrained_cfg"].items() if value is not None}
    return {WEIGHTS: weights, CONFIG: _json(config | {"pretrained_cfg": kept})}


def _json(value: dict) -> bytes:
    return (json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n").encode()


def _fill(opened: BinaryIO, content: bytes) -> None:
    opened.write(content)
