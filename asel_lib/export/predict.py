"""Classify images: python predict.py [model.onnx] image.jpg folder/ ... prints each one's label and its probability.
It needs onnxruntime, numpy and Pillow. Without a model it takes the .onnx file beside it, if there is just one."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read(file, size, resized, preprocessing, mean, std, **_):
    image, (height, width) = ImageOps.exif_transpose(Image.open(file)), size
    if image.mode[0] in "IF":  # 16 bits: white is 65535
        values = np.asarray(image, np.float64)
        values = values / 257 if image.mode.startswith("I;16") or values.max() > 255 else values
        image = Image.fromarray(values.round().clip(0, 255).astype(np.uint8))
    image, box = image.convert("RGB"), None
    if resized:  # the shorter side to that many pixels, then the middle
        image = image.resize([int(resized * side / min(image.size)) for side in image.size], Image.BICUBIC)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        box = (left, top, left + width, top + height)
    pixels = np.asarray(image.resize((width, height), Image.BICUBIC, box))
    return pixels if preprocessing else ((pixels - 255 * np.float32(mean)) / (255 * np.float32(std))).transpose(2, 0, 1)


named = [Path(argument) for argument in sys.argv[1:] if not argument.endswith(".onnx")]
models = [file for file in sys.argv[1:] if file.endswith(".onnx")] or sorted(Path(__file__).parent.glob("*.onnx"))
session = onnxruntime.InferenceSession(str(models[0])) if named and len(models) == 1 else sys.exit(__doc__)
about, failed = json.loads(session.get_modelmeta().custom_metadata_map["prediction"]), []
for file in sum([sorted(each.rglob("[!.]*.*")) if each.is_dir() else [each] for each in named], []):
    try:
        logits = session.run(None, {"images": read(file, **about)[None]})[0][0]
        odds = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        print(f"{file}\t{about['classes'][odds.argmax()]}\t{odds.max():.4f}", flush=True)
    except Exception as error:  # whatever a broken file does to its reader: the others go on
        failed.append(print(f"error: {file}: not a readable image ({error})", file=sys.stderr, flush=True))
sys.exit(len(failed) > 0)
