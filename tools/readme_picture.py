"""Draw the README's first picture: the patches that a shipped model keeps of real scenes. Run it after that model was
shipped anew:

    python -m tools.readme_picture [--checkpoint rsscn7_finetuned]

It takes the first test image of each class, so nobody picks the scenes, and writes
benchmarks_results/figures/<checkpoint>_scenes.png in ten seconds. The data set must lie in data/ (data/README.md).
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin

from asel_lib import checkpoints, paths
from asel_lib.data.sets import open_recorded, recorded_batches
from asel_lib.errors import AselError
from asel_lib.reporting import figures
from asel_lib.viewer.sheets import kept_patches_sheet

RATIOS = (1.0, 0.5, 0.2)
COLORS = 256  # of the file: photographs in full colour take three times the room


def draw(checkpoint: str) -> Path:
    """The picture's file. AselError where the checkpoint or its images are not here."""
    model = checkpoints.load(checkpoint)
    images, split = open_recorded(model.record)
    labels = np.asarray(images.labels)[split.test]
    shown = split.test[np.unique(labels, return_index=True)[1]]
    batch, numbers, *_ = recorded_batches(images, shown, model.record).take(range(len(shown)))
    sheet = kept_patches_sheet(model, batch, images.pixels[shown], numbers.tolist(), images.classes, RATIOS)
    to = paths.results() / "figures" / f"{checkpoint}_scenes.png"
    with tempfile.TemporaryDirectory() as folder:
        made = figures.save(sheet, folder, to.stem)[0]
        with Image.open(made) as picture:
            said = PngImagePlugin.PngInfo()
            for name, text in picture.info.items():
                if isinstance(text, str):
                    said.add_itxt(name, text)
            to.parent.mkdir(parents=True, exist_ok=True)
            picture.convert("RGB").quantize(COLORS).save(to, optimize=True, pnginfo=said)
    return to


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.readme_picture", description=__doc__.partition("\n")[0])
    parser.add_argument("--checkpoint", default="rsscn7_finetuned", help="a name in saved_models/")
    try:
        to = draw(parser.parse_args(arguments).checkpoint)
    except AselError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{to}: {to.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
