"""Classify images: python predict.py [model.onnx] image.jpg folder/ ... prints each one's label and its probability.
It needs onnxruntime, numpy and Pillow. Without a model it takes the one beside it: of its two files the int8 one (the
smaller and faster), and says so; models of several names or keep ratios must be chosen from.
--white=4095 says which number is white in images of more than 8 bits that do not say it, --black=-1 which is black."""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image
from pixels import PAPER, image_files, read_rgb  # what the training read its images with


def read(file, size, resized, preprocessing, mean, std, white=None, black=0.0, background=PAPER, **_):
    image, (height, width), box = read_rgb(file, white, black, background), size, None
    if (frames := image.info["frames"]) > 1:
        print(f"{file}: of {frames} frames the first is read", file=sys.stderr)
    if resized:  # the shorter side to that many pixels, then the middle
        image = image.resize([int(resized * side / min(image.size)) for side in image.size], Image.BICUBIC)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        box = (left, top, left + width, top + height)
    pixels = np.asarray(image.resize((width, height), Image.BICUBIC, box))
    return pixels if preprocessing else ((pixels - 255 * np.float32(mean)) / (255 * np.float32(std))).transpose(2, 0, 1)


given = [argument for argument in sys.argv[1:] if argument.startswith(("--white=", "--black="))]
named = [argument for argument in sys.argv[1:] if argument not in given and not argument.endswith(".onnx")]
beside = {file.stem.removesuffix("_int8"): file for file in sorted(Path(__file__).parent.glob("*.onnx"))}
models = [file for file in sys.argv[1:] if file.endswith(".onnx")] or list(beside.values())
if not named or len(models) != 1:
    sys.exit(f"{__doc__}\nHere: {', '.join(file.name for file in beside.values()) or 'no model'}")
session = onnxruntime.InferenceSession(str(models[0]))
if str(models[0]) not in sys.argv and models[0].stem.endswith("_int8"):
    print(f"{models[0].name} answers, the smaller and faster file; name another to have that", file=sys.stderr)
about, failed = json.loads(session.get_modelmeta().custom_metadata_map["prediction"]), []
about |= ({"black": 0.0} if "--white" in str(given) else {}) | {option[2:7]: float(option[8:]) for option in given}
files, others = image_files(*named)
if others:
    print(f"{others} files left out: neither their ending nor their content says image", file=sys.stderr)
for file in files:
    try:
        logits = session.run(None, {"images": read(file, **about)[None]})[0][0]
        odds = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
        print(f"{file}\t{about['classes'][odds.argmax()]}\t{odds.max():.4f}", flush=True)
    except Exception as error:  # whatever a broken file does to its reader: the others go on
        failed.append(print(f"error: {file}: not a readable image ({error})", file=sys.stderr, flush=True))
sys.exit(len(failed) > 0)
