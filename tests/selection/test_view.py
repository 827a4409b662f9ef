"""What a selector does not touch is not made."""

import pytest
import torch

from asel_lib import selection
from asel_lib.evaluation import cost
from asel_lib.selection import PatchSelector, View, registry


def refuse():
    raise AssertionError("nobody asked for this")


def test_each_part_is_made_when_it_is_touched_and_once():
    made = []

    def part(name, value):
        return lambda: made.append(name) or value

    images = torch.rand(2, 3, 8, 8)
    view = View(
        images, (2, 2), part("patches", torch.rand(2, 5, 6)), 1, draw_lines=part("lines", torch.rand(2, 1, 4, 4))
    )
    assert view.num_patches == 4 and view.batch_size == 2 and view.images is images and made == []
    assert view.patches.shape == (2, 4, 6) and view.patches is view.patches and made == ["patches"]
    assert view.lines is view.lines and made == ["patches", "lines"]
    assert view.seeds is view.seeds
    assert not torch.equal(View(images, (2, 2), draw_index=1).seeds, view.seeds)


def test_brought_lines_are_not_drawn_and_missing_parts_are_named():
    lines = torch.rand(2, 1, 4, 4)
    assert View(torch.rand(2, 3, 8, 8), (2, 2), refuse, lines=lines, draw_lines=refuse).lines is lines
    with pytest.raises(ValueError, match="scores line drawings, and got none: pass lines"):
        _ = View(torch.rand(2, 3, 8, 8), (2, 2)).lines
    with pytest.raises(ValueError, match="no patches to look at"):
        _ = View(torch.rand(2, 3, 8, 8), (2, 2)).patches


@pytest.fixture
def looking(tiny, monkeypatch):
    """make(look) -> a tiny model whose selector does nothing but `look(view)` -> scores."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    def make(look):
        name = f"looking{len(registry._ENTRIES)}"

        @selection.register(name)
        class Looking(PatchSelector):
            def __init__(self, dim: int = 0):
                super().__init__()

            def forward(self, view):
                return look(view)

        return tiny(selector=name)

    return make


def test_only_the_kept_patches_are_embedded_unless_somebody_looks_at_them(looking):
    images = torch.rand(2, 3, 32, 32)
    for look, embedded in ((lambda view: view.images.flatten(1)[:, :16], 4), (lambda view: view.patches[..., 0], 16)):
        model, seen = looking(look), []
        model.patch_embed.register_forward_hook(lambda _, inputs, tokens, seen=seen: seen.append(tokens.shape[1]))
        with torch.no_grad():
            model(images, 0.25)
        assert seen == [embedded]


def test_a_selector_scores_in_single_precision_and_the_embedding_runs_as_the_model_does(looking):
    seen = {}

    def look(view):
        seen.update(
            patches=view.patches.dtype, product=(view.patches @ view.patches.mT).dtype, images=view.images.dtype
        )
        return view.patches[..., 0]

    model = looking(look)
    model.patch_embed.register_forward_hook(lambda _, inputs, tokens: seen.update(embedding=tokens.dtype))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        model(torch.rand(2, 3, 32, 32).bfloat16(), 0.25)
    assert seen.pop("embedding") == torch.bfloat16 and set(seen.values()) == {torch.float32}


def test_looking_at_patches_can_leave_their_embedding_untrained(tiny):
    model, images = tiny(selector="learned").train(), torch.rand(2, 3, 32, 32)
    model.log_weights(images, train_embedding=False).sum().backward()
    assert model.patch_embed.proj.weight.grad is None and model.selector.mlp[0].weight.grad is not None
    model.log_weights(images).sum().backward()
    assert model.patch_embed.proj.weight.grad is not None


def test_products_with_vectors_are_counted_too(looking):
    model = looking(lambda view: view.patches @ torch.ones(48))
    assert cost.gmacs(model, 32, 0.5).selector * 1e9 == 16 * 48
