"""docs/your_model.md: its blocks run in order, and its table is what timm's models answer."""

import re
from pathlib import Path

import pytest
import timm
import torch

import asel_lib
from tools import timm_families

PAGE = Path(__file__).parents[2] / "docs" / "your_model.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), flags=re.M | re.S)
TINY = dict(img_size=32, patch_size=8, embed_dim=48, depth=2, num_heads=3)


def test_every_block_runs_in_order(workplace, image_folder, monkeypatch, capsys):
    """At tiny size, from random weights."""
    pytest.importorskip("onnx", reason="the extra 'export' is not installed: pip install -e '.[export]'")
    image_folder({"beach": 10, "forest": 10}, name="scenes").rename(workplace / "scenes")
    monkeypatch.chdir(workplace)
    create = timm.create_model
    monkeypatch.setattr(
        timm,
        "create_model",
        lambda name, **given: create(name, **given if ":" in name else TINY | given | {"pretrained": False}),
    )
    held: dict = {}
    for number, block in enumerate(BLOCKS):
        exec(compile(block, f"{PAGE.name}, block {number + 1}", "exec"), held)
    told = capsys.readouterr().out
    assert "make it with patch_drop_rate=0" in told and "torch.Size([4, 5, 48])" in told
    assert torch.equal(held["whole"], held["model"](held["images"])) and len(held["answer"].kept) == 8
    assert held["files"].float32.is_file() and len(BLOCKS) == 9
    assert set(held["plain"].state_dict()) <= set(held["again"].state_dict())


def test_the_page_is_short_and_holds_no_block_that_is_not_run():
    text = PAGE.read_text()
    assert len(text.split()) < 900 and text.count("```") == 2 * len(BLOCKS)


@pytest.mark.slow
def test_the_table_is_what_timms_models_answer():
    assert timm_families.written(PAGE.read_text()) == PAGE.read_text()


@pytest.mark.parametrize(
    ("name", "selector", "found"),
    [
        ("vit_base_patch16_18x2_224", "agent", "ParallelThingsBlock"),
        ("vit_base_patch16_xp_224", "agent", "ParallelScalingBlock"),
        ("vit_dwee_patch16_reg1_gap_256", "tome", "Block with DiffAttention"),
        ("vit_dwee_patch16_reg1_gap_256", "agent", "Block with DiffAttention"),
    ],
)
def test_unusual_blocks_are_named(name, selector, found):
    model = timm.create_model(name, num_classes=3, **TINY).eval()
    with pytest.raises(ValueError, match=f"{selector} works on timm's plain blocks.*{name}.* has {found}"):
        asel_lib.make_selective(model, selector)
    asel_lib.make_selective(model, "glance")
    assert model(torch.randn(2, 3, 32, 32), 0.5).shape == (2, 3)
    if selector == "tome":
        with pytest.raises(ValueError, match="tome works on timm's plain blocks"):
            model(torch.randn(2, 3, 32, 32), 0.5, "tome")
