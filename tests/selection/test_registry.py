"""A selector is one file: found, known by name everywhere, and shown as it says itself."""

import re
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest
import torch
from matplotlib.markers import MarkerStyle

import asel_lib
from asel_lib import selection
from asel_lib.selection import registry

ONE_FILE = """
from asel_lib.selection import PatchSelector, register


@register({name!r})
class Brightest(PatchSelector):
    def __init__(self, dim, power: float = 1.0):
        super().__init__()
        self.power = power

    def forward(self, view):
        return view.patches.norm(dim=-1) ** self.power
"""


@pytest.fixture
def registered(monkeypatch):
    """The selectors of a test of its own."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    return registry._ENTRIES


def test_a_module_in_the_folder_is_found_and_a_private_one_is_not(tmp_path, registered, monkeypatch, tiny):
    for name in ("brightest", "_draft"):
        (tmp_path / f"{name}.py").write_text(ONE_FILE.format(name=name.strip("_")))
    monkeypatch.setattr(selection, "__path__", [*selection.__path__, str(tmp_path)])
    monkeypatch.setitem(sys.modules, "asel_lib.selection.brightest", None)
    del sys.modules["asel_lib.selection.brightest"]  # and it is forgotten again after the test
    selection._discover()
    assert "brightest" in selection.names() and "draft" not in selection.names()
    model, images = tiny(selector="brightest:power=2"), torch.randn(2, 3, 32, 32)
    norms = model.patch_tokens(images).norm(dim=-1)
    assert torch.equal(model.select(images, 0.5), norms.argsort(dim=1, descending=True)[:, :8])


def test_every_selector_says_how_it_is_shown():
    assert {entry.name for entry in selection.entries()} == set(selection.names())
    assert len({entry.label for entry in selection.entries()}) == len(selection.names())
    looks = {(entry.color, entry.marker) for entry in selection.entries()}
    assert len(looks) == len(selection.names())
    for entry in selection.entries():
        assert re.fullmatch("#[0-9A-Fa-f]{6}", entry.color) and MarkerStyle(entry.marker)
        weights = next(selection.create(entry.name, 48).parameters(), None) is not None or entry.name == "agent"
        assert entry.selector.trained == bool(entry.recipes) == weights
        assert selection.kind(entry.name) is entry.selector
    assert selection.entry("glance").label == "glance (ours)"
    with pytest.raises(FrozenInstanceError):
        selection.entry("glance").label = "another"
    with pytest.raises(ValueError, match="unknown policy 'glanse'.*Did you mean 'glance'"):
        selection.entry("glanse")


def test_a_name_is_enough_and_the_look_is_picked_the_same_every_time(registered):
    class Mine(selection.PatchSelector):
        pass

    selection.register("my_selector")(Mine)
    first = selection.entry("my_selector")
    assert first.label == "my selector" and first.recipes == () and not Mine.trained
    del registered["my_selector"]
    selection.register("my_selector")(Mine)
    assert selection.entry("my_selector") == first
    del registered["my_selector"]
    look = dict(label="Mine", color="#123456", marker="d", recipes=("dropped",))
    selection.register("my_selector", **look)(Mine)
    assert {key: getattr(selection.entry("my_selector"), key) for key in look} == look and Mine.trained


def test_a_name_is_registered_once(registered):
    with pytest.raises(ValueError, match="already registered"):
        selection.register("random")(selection.PatchSelector)


def test_nobody_asks_what_kind_a_selector_is():
    sources = Path(asel_lib.__file__).parent.rglob("*.py")
    assert not [file for file in sources if re.search(r"isinstance\(.*TokenReducer", file.read_text())]


def test_the_policy_of_a_selector_makes_one_like_it():
    for policy in ("central", "line_guided:lines=sobel,choice=top,sigma=0.5,size=32", "glance:width=4,choice=sample"):
        assert selection.policy_string(selection.create(policy, 8)) == policy
    assert selection.draws_at_random("random") and not selection.draws_at_random("central")
