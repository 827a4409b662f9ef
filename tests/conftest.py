"""Shared small things. Every test that writes does so in a checkout of its own (`workplace`)."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

REPOSITORY = Path(__file__).parent.parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# No sandbox, since tests may run as root in a container; and no talk with the browser's makers.
BROWSER_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """An empty checkout: paths.root(), data() and cache() lie below it."""
    monkeypatch.setenv("ASEL_ROOT", str(tmp_path))
    monkeypatch.setenv("ASEL_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ASEL_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.fixture
def image_folder(workplace):
    """make(classes={"name": count}, size=(h, w)) -> an image folder of seeded noise, each class with its own tint."""

    def make(classes, size=(32, 32), name="pictures", seed=0) -> Path:
        root, rng = workplace / "data" / name, np.random.default_rng(seed)
        for number, (label, count) in enumerate(classes.items()):
            (root / label).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(0, 120, (*size, 3), dtype=np.uint8)
                pixels[..., number % 3] += 100
                Image.fromarray(pixels).save(root / label / f"{index:03d}.png")
        return root

    return make


@pytest.fixture
def real_data():
    """The folder with the real image sets; the test is skipped where they are not there."""
    folder = Path(os.environ.get("ASEL_DATA") or REPOSITORY / "data")

    def need(name: str) -> Path:
        if not (folder / name).is_dir():
            pytest.skip(f"{name} is not in {folder}: unpack it there, or set ASEL_DATA")
        return folder / name

    return need


@pytest.fixture
def tiny():
    """`tiny_model`, which processes that a test launches can find too."""
    return tiny_model


def tiny_model(num_classes=4, selector="learned", architecture="vit_tiny_patch16_224", **changes):
    """-> a SelectiveViT of 2 blocks, D 48, 16 patches, in eval mode, from a fixed seed."""
    from asel_lib.models import SelectiveViT
    from asel_lib.reproducibility import seeded

    settings = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3) | changes
    with seeded("tiny"):
        return SelectiveViT(architecture, num_classes, selector, **settings).eval()


@pytest.fixture(scope="session")
def browser():
    """playwright's Browser, on the Chromium of this machine or the one that playwright has fetched; the test is skipped
    where there is neither."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[test]'")
    with api.sync_playwright() as playwright:
        own, fetched = next(filter(None, map(shutil.which, BROWSERS)), None), playwright.chromium.executable_path
        file = own or (fetched if Path(fetched).is_file() else None)
        if file is None:
            pytest.skip("no Chromium here: install chromium, or run 'playwright install chromium'")
        running = playwright.chromium.launch(executable_path=file, args=BROWSER_FLAGS)
        yield running
        running.close()


def pytest_collection_modifyitems(items):
    """The slow ones first, so that no core waits at the end for one that another has just begun."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
