"""Make a run's checkpoints the shipped ones: python pipeline/ship.py PROFILE NAME ...

Weights are rounded to half precision, and the rounded model is compared with the measured one on the test images at
three keep ratios: what is shipped is what the results table says, or nothing is written.
"""

import sys

import torch

from asel_lib import checkpoints, paths
from asel_lib.data.sets import open_recorded, recorded_batches
from asel_lib.devices import default_device, resolve_precision
from asel_lib.evaluation.accuracy import evaluate

RATIOS = (1.0, 0.5, 0.2)
MOST = 0.005  # difference in accuracy


def ship(profile: str, name: str) -> None:
    device = default_device()
    precision = resolve_precision("auto", device)
    measured = checkpoints.load(name, device, profile)
    record = measured.record
    rounded = checkpoints.load(name, device, profile)
    rounded.load_state_dict({k: v.half().float() for k, v in measured.state_dict().items()})
    images, split = open_recorded(record)
    batches = recorded_batches(images, split.test, record, 256, device)
    own = [record["model"]["selector"]]
    before, after = (evaluate(m, batches, RATIOS, own, precision=precision) for m in (measured, rounded))
    difference = (before["accuracy"] - after["accuracy"]).abs().max()
    print(f"{name}: rounding to half precision moves accuracy by at most {difference:.4f} of {len(split.test)} images")
    if difference > MOST:
        raise SystemExit(f"error: {name} loses too much to half precision ({difference:.4f} > {MOST})")
    with torch.inference_mode():
        file = checkpoints.save(measured, paths.saved_models() / name, record, half=True)
    print(f"{file.name}: {file.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    for wanted in sys.argv[2:]:
        ship(sys.argv[1], wanted)
