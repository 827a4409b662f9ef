import pytest
import torch

from asel_lib import selection
from asel_lib.selection import View, stable_topk


@pytest.mark.parametrize(
    ("patches", "ratio", "kept"),
    [(196, 1.0, 196), (196, 0.5, 98), (196, 0.3, 58), (196, 0.001, 1), (256, 0.4, 102), (64, 1, 64)],
)
def test_keep_count_is_the_floor_and_at_least_one(patches, ratio, kept):
    assert selection.keep_count(patches, ratio) == kept


@pytest.mark.parametrize("ratio", [0, -1, 1.1, float("nan"), float("inf"), "0.5", None, True])
def test_keep_count_names_a_bad_ratio(ratio):
    with pytest.raises(ValueError, match="keep_ratio is") as error:
        selection.keep_count(196, ratio)
    assert repr(ratio) in str(error.value)


def test_equal_scores_keep_raster_order():
    assert stable_topk(torch.zeros(2, 9), 4).tolist() == [[0, 1, 2, 3]] * 2


def test_an_unknown_policy_is_named_with_a_suggestion():
    with pytest.raises(ValueError, match="'centrall'.*Did you mean 'central'"):
        selection.create("centrall", 8)


SELECTORS = [name for name in selection.names() if selection.kind(name).keeps_patches()]


@pytest.mark.parametrize("name", [*SELECTORS, "line_guided:choice=top", "glance:choice=sample"])
def test_every_selector_scores_each_image_by_itself(name, tiny):
    torch.manual_seed(0)
    model = tiny(selector=name, img_size=(32, 40), embed_dim=16, num_heads=2).eval()
    images, patches, lines = torch.randn(3, 3, 32, 40), torch.randn(3, 20, 16), torch.rand(3, 1, 64, 64)

    def scored(some: slice):
        return model.selector(View(images[some], (4, 5), lambda: patches[some], lines=lines[some], model=model))

    together = scored(slice(None))
    assert together.shape == (3, 20)
    torch.testing.assert_close(together, torch.cat([scored(slice(i, i + 1)) for i in range(3)]))
