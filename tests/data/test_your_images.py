"""docs/your_images.md: what it says can be done is done, block by block."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from asel_lib.data.layout import part_of

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "your_images.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S)


@pytest.fixture
def here(workplace, image_folder, monkeypatch):
    """The folders of which the page speaks, and the shipped checkpoints."""
    (workplace / "saved_models").symlink_to(REPOSITORY / "saved_models")
    monkeypatch.chdir(workplace)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # which the page changes
    chance = np.random.default_rng(0)
    for name in ("scenes", "north/views", "south/views"):
        made = image_folder({"beach": 5, "forest": 60}, name=name.replace("/", "_"), seed=len(name) + (name[0] == "n"))
        (workplace / name).parent.mkdir(exist_ok=True)
        made.rename(workplace / name)
    (workplace / "scenes" / "beach" / "notes.txt").touch()
    (workplace / "scenes" / "list.csv").touch()
    for label in ("field", "town"):
        (workplace / "satellite" / label).mkdir(parents=True)
        for number in range(10):
            values = chance.integers(0, 4000, (64, 64)).astype(np.uint16)
            Image.fromarray(values).save(workplace / "satellite" / label / f"{number}.png")
    for label in ("beach", "forest"):
        for number in range(6):
            (workplace / "scenes" / label / f"{number}.png").write_bytes(
                (workplace / "scenes" / label / "000.png").read_bytes()
            )
    Image.fromarray(chance.integers(0, 255, (300, 500, 3), dtype=np.uint8)).save(workplace / "mosaic.tif")
    return workplace


@pytest.mark.filterwarnings("ignore:1 of 3 images cannot be read")
def test_every_block_runs_in_order(here, capsys):
    held: dict = {}
    for number, block in enumerate(BLOCKS):
        if "broken.png" in block:
            (here / "scenes" / "beach" / "broken.png").write_bytes(b"no image")
        exec(compile(block, f"{PAGE.name}, block {number + 1}", "exec"), held)
    told = capsys.readouterr().out
    assert "2 files are left out: 1 ending in .txt, 1 outside of the class folders" in told
    assert "grey levels of 20 images of more than 8 bits" in told and "white 4095 (12 bits)" in told
    assert "0.95 0.5" in told and "['views', 'south_views']" in told
    assert len(held["corners"]) == 6 and len(BLOCKS) == 8


def test_the_page_is_short_and_holds_no_block_that_is_not_run():
    text = PAGE.read_text()
    assert len(text.split()) < 900
    assert text.count("```") == 2 * len(BLOCKS)


def test_the_parts_that_it_names_are_parts():
    named = ("Training", "test_images", "Validation", "Dev Set", "val2017")
    assert all(f"`{name}`" in PAGE.read_text() and part_of(name) for name in named)
