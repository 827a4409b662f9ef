import itertools

import pytest
import torch

from asel_lib.evaluation import cost
from asel_lib.models import SelectiveViT
from asel_lib.selection import View, create
from asel_lib.selection.sampling import draw_order, spread_gumbel
from asel_lib.training.recipes.anytime import log_probability


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def vit():
    torch.manual_seed(0)
    made = SelectiveViT("vit_tiny_patch16_224", 5, "glance", img_size=64, depth=2, embed_dim=24, num_heads=3)
    torch.nn.init.normal_(made.selector.network[-1].weight, std=20)
    return made.eval()


@pytest.mark.parametrize(("size", "grid"), [((64, 64), (4, 4)), ((96, 32), (6, 2)), ((56, 56), (4, 4))])
def test_it_gives_one_weight_a_patch_and_starts_with_an_open_choice(size, grid):
    selector = create("glance", 24).eval()
    weights = selector.log_weights(View(noise(2, 3, *size), grid))
    assert weights.shape == (2, grid[0] * grid[1]) and weights.unique().numel() == 1


def test_a_patch_is_judged_by_what_is_around_its_middle(vit):
    images = noise(1, 3, 128, 128).requires_grad_()
    vit.selector.log_weights(View(images, (8, 8)))[
        0, 8 * 3 + 4
    ].backward()  # row 3, column 4: pixels 48 to 63, 64 to 79
    seen = images.grad[0].abs().sum(dim=0)
    rows, columns = (seen.sum(dim=axis).nonzero().flatten() for axis in (1, 0))
    assert (rows.min().item() + rows.max().item()) / 2 == pytest.approx(55.5, abs=1)
    assert (columns.min().item() + columns.max().item()) / 2 == pytest.approx(71.5, abs=1)
    assert columns.max() - columns.min() < 16 * 5
    assert seen[48:64, 64:80].mean() > seen[:16, :16].mean()


def test_only_the_kept_patches_are_embedded_and_the_weights_choose_by_either_choice(vit):
    images = noise(3, 3, 64, 64)
    weights = vit.log_weights(images)
    _, selection = vit(images, 0.25, return_selection=True)
    assert torch.equal(selection.kept, (weights + spread_gumbel((4, 4))).argsort(dim=1, descending=True)[:, :4])
    assert torch.equal(vit.select(images, 0.25), selection.kept)
    top = vit.select(images, 0.25, "glance:choice=top")
    assert torch.equal(top, weights.argsort(dim=1, descending=True)[:, :4])
    draws = [vit.select(images, 0.25, "glance:choice=sample", draw_index=draw) for draw in range(40)]
    assert torch.equal(draws[3], vit.select(images, 0.25, "glance:choice=sample", draw_index=3))
    assert len({tuple(one[0].tolist()) for one in draws}) > 1
    counts = torch.zeros(16).scatter_add(0, torch.stack(draws)[:, 0].flatten(), torch.ones(160))
    assert torch.corrcoef(torch.stack([counts, weights[0]]))[0, 1] > 0.5
    with pytest.raises(ValueError, match="trained weights"):
        vit(images, 0.25, "glance:width=16")


def test_blue_noise_has_the_quantiles_of_drawn_noise_and_covers_the_image():
    for grid in ((8, 8), (14, 14), (5, 9), (1, 1)):
        count = grid[0] * grid[1]
        found = spread_gumbel(grid)
        expected = -torch.log(-torch.log((torch.arange(count) + 0.5) / count))
        torch.testing.assert_close(found.sort().values, expected)
    drawn = torch.rand(2000, 64, generator=torch.Generator().manual_seed(0))

    def holes(scores, keep):  # distance from any patch to the nearest kept one, mean
        places = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))
        kept = scores.topk(keep, dim=1).indices
        return torch.cdist(places[None].expand(len(kept), -1, -1), places[kept]).min(dim=2).values.mean()

    for keep in (4, 8, 12, 16):
        assert holes(spread_gumbel((8, 8))[None], keep) < 0.93 * holes(drawn, keep)


def test_spread_covers_where_weights_are_flat_and_follows_them_where_they_are_not(vit):
    view, flat = View(noise(1, 3, 64, 64), (4, 4)), torch.zeros(1, 16)
    peaked = torch.tensor([[0.0] * 12 + [30.0] * 4])
    assert set(vit.selector.ranked(peaked, view).topk(4).indices[0].tolist()) == {12, 13, 14, 15}
    rows = vit.selector.ranked(flat, view).topk(4).indices[0] // 4
    columns = vit.selector.ranked(flat, view).topk(4).indices[0] % 4
    assert len(rows.unique()) > 1 and len(columns.unique()) > 1


def test_drawing_in_training_is_by_the_probabilities_of_plackett_and_luce():
    weights = torch.tensor([[0.3, -1.0, 1.2, 0.0]])
    probability = {}
    for first, second in itertools.permutations(range(4), 2):
        share = weights[0].softmax(0)
        probability[first, second] = (share[first] * share[second] / (1 - share[first])).item()
        rest = [i for i in range(4) if i not in (first, second)]
        found = log_probability(weights, torch.tensor([[first, second, *rest]]), 2)
        assert found.exp().item() == pytest.approx(probability[first, second], rel=1e-5)
    assert sum(probability.values()) == pytest.approx(1)
    orders = draw_order(weights.expand(20000, -1), torch.Generator().manual_seed(0))
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders[:50].tolist())
    for pair, expected in probability.items():
        share = ((orders[:, 0] == pair[0]) & (orders[:, 1] == pair[1])).float().mean().item()
        assert share == pytest.approx(expected, abs=4 * (expected / 20000) ** 0.5)


def test_looking_is_cheap():
    vit = SelectiveViT("vit_tiny_patch16_224", 7, "glance", img_size=128, depth=6)
    share = cost.gmacs(vit, 128, 0.5).selector / cost.gmacs(vit, 128, 1.0).total
    assert share == pytest.approx(0.0168, abs=1e-4)
    saved = cost.gmacs(vit, 128, 0.5).total - cost.gmacs(vit, 128, 0.5, "random").total
    assert saved == pytest.approx(cost.gmacs(vit, 128, 0.5).selector)  # choosing is all it adds to random patches


def test_errors_say_what_is_missing():
    with pytest.raises(ValueError, match="unknown choice of glance 'best'"):
        create("glance:choice=best", 8)
    with pytest.raises(ValueError, match="width of glance is 0"):
        create("glance:width=0", 8)


GRIDS = [((128, 128), (8, 8)), ((96, 192), (3, 6)), ((64, 64), (8, 8)), ((70, 70), (5, 5))]


@pytest.mark.parametrize(("size", "grid"), GRIDS)
def test_shrinking_and_the_first_convolution_in_one_are_the_two_after_one_another(size, grid):
    selector = create("glance", 8).eval()
    torch.nn.init.normal_(selector.network[-1].weight)
    images = torch.randn(3, 3, *size)
    with torch.no_grad():
        shrunk = torch.nn.functional.adaptive_avg_pool2d(images, tuple(8 * cells for cells in grid))
        expected = selector.network(shrunk).flatten(1)
        torch.testing.assert_close(selector.log_weights(View(images, grid)), expected, atol=1e-5, rtol=0)


def test_its_first_convolution_learns_as_if_it_came_after_the_shrinking():
    found = []
    for together in (True, False):
        torch.manual_seed(0)
        selector = create("glance", 8)
        torch.nn.init.normal_(selector.network[-1].weight)
        images = torch.randn(3, 3, 64, 64)
        shrunk = torch.nn.functional.adaptive_avg_pool2d(images, (32, 32))
        answers = selector.log_weights(View(images, (4, 4))) if together else selector.network(shrunk).flatten(1)
        answers.square().sum().backward()
        found.append(selector.network[0][0].weight.grad)
    torch.testing.assert_close(found[0], found[1], atol=1e-3, rtol=1e-3)
