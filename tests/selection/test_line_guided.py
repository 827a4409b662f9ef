import numpy as np
import pytest
import torch
import torch.nn.functional as F

from asel_lib import selection
from asel_lib.selection import View, parse, registry, stable_topk
from asel_lib.selection.line_guided import centre, density, log_joint


def drawing(height=64, width=64, seed=0, count=1):
    return torch.rand(count, 1, height, width, generator=torch.Generator().manual_seed(seed))


def published(lines, side, sigma=0.25):
    """The joint distribution from the published equations, in numpy, for a square grid that divides the drawing."""
    line = lines[0, 0].double().numpy()
    cell = line.shape[0] // side
    pooled = line.reshape(side, cell, side, cell).mean((1, 3)).ravel()
    soft = np.exp(pooled) / np.exp(pooled).sum()
    y, x = np.meshgrid(np.linspace(0, 1, line.shape[0]), np.linspace(0, 1, line.shape[1]), indexing="ij")
    cy, cx = (line * y).sum() / line.sum(), (line * x).sum() / line.sum()
    py, px = np.meshgrid(np.linspace(0, 1, side), np.linspace(0, 1, side), indexing="ij")
    prior = np.exp(-((py - cy) ** 2 + (px - cx) ** 2) / (2 * sigma**2)).ravel()
    joint = soft * prior / prior.sum()
    return joint / joint.sum()


@pytest.mark.parametrize("sigma", [0.25, 0.5])
def test_the_joint_distribution_is_the_published_one(sigma):
    lines = drawing() ** 4
    lines[:, :, :20] = 0  # off the middle
    expected = published(lines, 16, sigma)
    np.testing.assert_allclose(log_joint(lines, (16, 16), sigma)[0].exp().numpy(), expected, rtol=1e-4)


def test_top_keeps_the_largest_of_the_joint_and_sample_draws_from_it():
    lines = drawing() ** 4
    joint = torch.from_numpy(published(lines, 4)).float()
    top = selection.create("line_guided:choice=top", 8)
    images = torch.arange(4000.0).view(-1, 1, 1, 1)  # different images, each with a draw of its own
    scores = top(View(images[:1], (4, 4), lines=lines))
    assert stable_topk(scores, 5)[0].tolist() == joint.argsort(descending=True)[:5].tolist()

    sample = selection.create("line_guided:choice=sample", 8)
    scores = sample(View(images, (4, 4), lines=lines.expand(4000, -1, -1, -1)))
    first = torch.bincount(stable_topk(scores, 1).flatten(), minlength=16) / 4000
    assert (first - joint).abs().max() < 4 * (0.25 / 4000) ** 0.5  # the first of K drawn is drawn from joint itself
    # the second, from what is left of it
    pairs = stable_topk(scores, 2)
    given = pairs[pairs[:, 0] == joint.argmax()][:, 1]
    left = joint.clone()
    left[joint.argmax()] = 0
    assert (torch.bincount(given, minlength=16) / len(given) - left / left.sum()).abs().max() < 0.1


@pytest.mark.parametrize(("size", "grid"), [((64, 64), (16, 16)), ((64, 32), (8, 16))])
def test_density_is_average_pooling_where_the_grid_divides_the_drawing(size, grid):
    lines = drawing(*size, count=3)
    pooled = F.adaptive_avg_pool2d(lines, grid).flatten(1)
    torch.testing.assert_close(density(lines, grid), pooled)


@pytest.mark.parametrize("grid", [(14, 14), (12, 20), (7, 5), (20, 20), (1, 3), (100, 90)])
def test_any_grid_gets_the_drawing_by_its_coordinates(grid):
    """An area integral: on any grid the mean is the drawing's, and a bright corner stays in its corner."""
    lines = torch.zeros(1, 1, 64, 64)
    lines[..., :16, 48:] = 1
    found = density(lines, grid).view(grid)
    assert found.mean().item() == pytest.approx(lines.mean().item(), abs=1e-5)
    rows, columns = (torch.arange(n) for n in grid)
    inside = ((rows + 1) / grid[0] <= 0.25)[:, None] & (columns / grid[1] >= 0.75)[None]
    outside = (rows / grid[0] >= 0.25)[:, None] | ((columns + 1) / grid[1] <= 0.75)[None]
    torch.testing.assert_close(found[inside], torch.ones(int(inside.sum())))
    assert found[outside].abs().sum() == 0


def test_the_centre_is_found_and_the_prior_is_around_it():
    lines = torch.zeros(1, 1, 64, 64)
    lines[..., 0, 63] = 1
    assert centre(lines).tolist() == [[0, 1]]
    assert log_joint(lines, (8, 8), 0.25).argmax() == 7


@pytest.mark.parametrize("choice", ["top", "sample"])
def test_a_blank_drawing_falls_back_to_the_prior_around_the_middle(choice):
    selector = selection.create(f"line_guided:choice={choice}", 8)
    scores = selector(View(torch.zeros(1, 3, 72, 72), (9, 9), lines=torch.zeros(1, 1, 64, 64)))
    assert scores.isfinite().all()
    if choice == "top":
        assert set(stable_topk(scores, 5)[0].tolist()) == {40, 31, 49, 39, 41}


def test_an_images_draw_never_changes_and_other_images_get_others(tiny):
    model, images = tiny(selector="line_guided:choice=sample"), torch.randn(6, 3, 32, 32)
    images[5] = images[0]
    kept = model.select(images, 0.5)
    assert torch.equal(kept, model.select(images, 0.5))
    assert torch.equal(kept[2:3], model.select(images[2:3], 0.5))
    assert kept[0].tolist() == kept[5].tolist()
    assert len({tuple(k) for k in kept.tolist()}) > 3
    assert not torch.equal(kept, model.select(images, 0.5, draw_index=1))


def test_drawings_that_a_call_brings_are_used_and_others_are_drawn(tiny):
    model, images = tiny(selector="line_guided:choice=top"), torch.rand(1, 3, 32, 32)
    corner = torch.zeros(1, 1, 64, 64)
    corner[..., 50:, 50:] = 1
    assert model.select(images, 0.1, lines=corner).tolist() == [[15]]
    from asel_lib.data import lines

    drawn = lines.draw(images * 0.5 + 0.5)
    torch.testing.assert_close(model.scores(images), model.scores(images, lines=drawn), atol=1e-5, rtol=0)
    given = tiny(selector="line_guided:lines=given")
    assert given(images, 0.5, lines=corner).isfinite().all()
    with pytest.raises(ValueError, match="brings .lines=given., and got none"):
        given(images, 0.5)
    assert given(images, 1.0).isfinite().all()  # nothing to choose, nothing needed


def test_options_are_read_by_type_and_a_wrong_one_is_named():
    kind, options = parse("line_guided:lines=sobel, sigma=0.5")
    assert options == {"lines": "sobel", "choice": "sample", "sigma": 0.5, "size": 64}
    assert kind is type(selection.create("line_guided", 8))
    for policy, message in (
        ("line_guided:colour=red", "cannot read 'colour=red'; 'line_guided' has lines=xdog, choice=sample"),
        ("line_guided:sigma", "cannot read 'sigma'"),
        ("line_guided:sigma=wide", "sigma is 'wide', expected float"),
        ("line_guided:lines=canny", "unknown lines of line_guided 'canny': expected one of xdog, sobel, informative"),
        ("line_guided:choice=best", "unknown choice of line_guided 'best': expected one of sample, top"),
        ("line_guided:sigma=0", "sigma is 0.0"),
        ("random:draws=3", "'random' has no options"),
    ):
        with pytest.raises(ValueError, match=message):
            selection.create(policy, 8)


def test_a_policy_with_other_options_than_the_models_own_is_another_policy(tiny):
    model, images = tiny(selector="line_guided:lines=sobel,choice=top"), torch.rand(2, 3, 32, 32)
    assert torch.equal(model.scores(images), model.scores(images, "line_guided:choice=top,lines=sobel"))
    assert not torch.equal(model.scores(images), model.scores(images, "line_guided:choice=top"))
    assert not torch.equal(model.scores(images), model.scores(images, "line_guided:choice=top,lines=sobel,sigma=1"))


@pytest.mark.parametrize("choice", ["sample", "top"])
def test_without_lines_the_prior_around_the_middle_chooses(tiny, choice):
    model, images = tiny(selector=f"line_guided:choice={choice}"), torch.rand(2, 3, 32, 32)
    blank = model.scores(images, f"line_guided:lines=blank,choice={choice}")
    assert torch.equal(blank, model.scores(images, lines=torch.zeros(2, 1, 64, 64)))  # the same noise, no lines
    assert not torch.equal(blank, model.scores(images))


def test_a_selector_need_not_keep_its_options_and_a_switch_is_read_as_one(tiny, monkeypatch):
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))

    @selection.register("loud")
    class Loud(selection.PatchSelector):
        def __init__(self, dim: int = 0, quiet: bool = False, power: float = 1.0):
            super().__init__()
            self.sign = -power if quiet else power

        def forward(self, view):
            return view.patches.norm(dim=-1) * self.sign

    model, images = tiny(selector="loud:power=2"), torch.rand(2, 3, 32, 32)
    assert torch.equal(model.scores(images, "loud:power=2,quiet=False"), model.scores(images))
    assert torch.equal(model.scores(images, "loud:power=2,quiet=True"), -model.scores(images))
    with pytest.raises(ValueError, match="quiet is 'maybe', expected bool"):
        model.scores(images, "loud:quiet=maybe")
