"""What a deployed model says of itself: the metadata in its files, and the README beside them."""

import json
from collections.abc import Sequence
from pathlib import Path

from asel_lib import __version__, reproducibility
from asel_lib.data.read_image import PLAIN
from asel_lib.export.graph import Deployed
from asel_lib.models import SelectiveViT
from asel_lib.selection import keep_count

LICENCE = "Apache-2.0"
README = """\
# {checkpoint}, deployed

A Vision Transformer that looks at {sees} (keep ratio {keep_ratio}).

    pip install onnxruntime numpy pillow
    python predict.py {file} image.jpg folder/  # label and probability of each

| file | |
|---|---|
{files}
| `predict.py`, `pixels.py` | need onnxruntime, numpy and Pillow, nothing else |

Input `images`: {input}. Output `logits`: float32 (B, {count}). B is any number.
Images are made to that size by `predict.py`: {resize}. Files are read by `pixels.py`, as in training: {reading}.
Classes: {classes}.
Trained on: {trained_on}. The rest is in each file's metadata (in onnxruntime
`session.get_modelmeta().custom_metadata_map`).

Licence: {licence}. The images that it was trained on keep their own terms.
"""


def metadata(model: SelectiveViT, graph: Deployed, name: str) -> dict[str, str]:
    """ "prediction": all that predict.py must know, as JSON. The rest is for people."""
    record, slot = model.record or {}, model.patch_drop
    reading = getattr(model.transform, "reading", PLAIN)
    size = [int(side) for side in model.patch_embed.img_size]
    resized = getattr(model.transform, "resized", None)
    prediction = {
        "classes": list(model.classes),
        "size": size,
        "resized": resized,
        "preprocessing": graph.preprocessing,
        "mean": list(slot.mean),
        "std": list(slot.std),
        **reading.record(),
    }
    levels = "more than 8 bits only where they say themselves what is white"
    if reading.white is not None:
        levels = f"in more than 8 bits {reading.black:g} is black and {reading.white:g} white"
    kept = keep_count(graph.patches, graph.asked) if graph.replacing is None else graph.replacing.count
    sees = f"{kept} of {graph.patches} patches of an image, chosen by `{graph.chosen_by}`"
    if graph.replacing is not None:
        sees = f"an image made smaller: {kept} patches in place of {graph.patches} (`{graph.chosen_by}`)"
    layout = "uint8 (B, {}, {}, 3), RGB" if graph.preprocessing else "float32 (B, 3, {}, {}), RGB in [0, 1], normalised"
    cut = f"the shorter side to {resized}, then the middle" if resized else "the whole image"
    normalisation = f"mean {', '.join(map(str, slot.mean))}; standard deviation {', '.join(map(str, slot.std))}"
    return {
        "checkpoint": name,
        "keep_ratio": f"{graph.asked:g}",
        "kept_patches": f"{kept}",
        "patches": f"{graph.patches}",
        "selector": graph.chosen_by,
        "sees": sees,
        "draw": "each image's first, made from its own pixels" if graph.chooser.stochastic else "none",
        "classes": ", ".join(model.classes),
        "input": layout.format(*size),
        "normalisation": normalisation + (" (in the graph)" if graph.preprocessing else ""),
        "resize": f"Pillow's bicubic, {cut}",
        "reading": f"{levels}; behind transparent pixels lies the colour {reading.background}",
        "trained_on": str(record.get("dataset", "unknown")),
        "recipe": str(record.get("recipe", "unknown")),
        "licence": LICENCE,
        "trained_at_commit": str(record.get("environment", {}).get("commit", "unknown")),
        "commit": reproducibility.commit(),
        "asel": __version__,
        "prediction": json.dumps(prediction),
    }


def readme(about: dict[str, str], file: Path, files: Sequence[Path]) -> str:
    """The README of a folder with these .onnx files; `file` is the one that it is about."""
    rows = "\n".join(f"| `{file.name}` | {'int8' if file.stem.endswith('_int8') else 'float32'} |" for file in files)
    count = len(json.loads(about["prediction"])["classes"])
    return README.format(**about, files=rows, file=file.name, count=count)
