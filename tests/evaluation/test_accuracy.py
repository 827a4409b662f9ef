import numpy as np
import pytest
import torch

from asel_lib.errors import AselError
from asel_lib.evaluation.accuracy import evaluate, per_class, predict_labels
from asel_lib.evaluation.metrics.accuracy import interval
from asel_lib.evaluation.metrics.balanced_accuracy import balanced_accuracy
from asel_lib.evaluation.outcome import Outcome
from asel_lib.selection import Selection


class Counting(torch.nn.Module):
    """A stand-in whose answer is decided by policy, ratio and draw, so that the right accuracy is known by hand: at
    ratio 1 it is always right, `central` below 1 never, `random` in every draw but draw 0, `learned` on even images."""

    training, num_classes = True, 7

    class patch_embed:
        @staticmethod
        def dynamic_feat_size(size):
            return 2, 2

    def __init__(self):
        super().__init__()
        self.calls = []

    def forward(self, images, keep_ratio, policy=None, lines=None, draw_index=0, kept=None, return_selection=False):
        self.calls.append((policy, keep_ratio, draw_index))
        labels = images[:, 0, 0, 0].long()
        right = torch.full_like(labels, keep_ratio == 1 or (policy == "random" and draw_index > 0), dtype=torch.bool)
        if policy == "learned" and keep_ratio < 1:
            right = images[:, 1, 0, 0].long() % 2 == 0
        answer = torch.where(right, labels, (labels + 1) % 7)
        logits = torch.nn.functional.one_hot(answer, 7).float() + 0.01 * torch.arange(7)
        return logits, Selection(None, torch.tensor([[0, 1]]).expand(len(images), -1))


def batches(count=10, size=4):
    images = torch.zeros(count, 3, 8, 8)
    images[:, 0], images[:, 1] = (torch.arange(count) % 7).view(-1, 1, 1), torch.arange(count).view(-1, 1, 1)
    labels = torch.arange(count) % 7
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, count, size)]


def accuracy(frame, policy, ratio):
    return frame[(frame["policy"] == policy) & (frame["keep_ratio"] == ratio)].iloc[0]


def test_each_policy_gets_its_own_accuracy_over_all_images():
    model = Counting()
    frame = evaluate(model, batches(), [1.0, 0.5], ["learned", "random", "central"], draws=4, progress=False)
    assert accuracy(frame, "learned", 0.5)["accuracy"] == 0.5
    assert accuracy(frame, "random", 0.5)["accuracy"] == 0.75  # the mean of draws 0, 1, 1, 1
    assert accuracy(frame, "central", 0.5)["accuracy"] == 0.0
    assert set(frame.loc[frame["keep_ratio"] == 1, "accuracy"]) == {1.0}
    assert set(frame["n_images"]) == {10}  # the last, smaller batch counts
    assert set(frame.loc[frame["keep_ratio"] == 0.5, "kept_patches"]) == {2}
    assert model.training


def test_all_patches_are_one_forward_for_every_policy():
    model = Counting()
    evaluate(model, batches(4), [1.0, 0.5], ["learned", "random", "central"], draws=3, progress=False)
    assert len([call for call in model.calls if call[1] == 1.0]) == 1
    assert len([call for call in model.calls if call[0] == "random"]) == 3


def test_the_share_of_the_object_that_is_kept():
    fractions = np.array([[0.5, 0.0, 0.5, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    frame = evaluate(Counting(), batches(3), [1.0, 0.5], ["central"], object_fraction=fractions, progress=False)
    # Of the two images with an object.
    assert accuracy(frame, "central", 0.5)["object_area_kept"] == pytest.approx(0.75)
    assert accuracy(frame, "central", 1.0)["object_area_kept"] == 1.0
    with pytest.raises(ValueError, match="3 rows"):
        evaluate(Counting(), batches(4), [0.5], ["central"], object_fraction=fractions, progress=False)


@pytest.mark.parametrize("policy", ["evit", "tome"])
def test_of_tokens_made_of_several_patches_none_counts_as_kept(policy, tiny):
    model = tiny(selector=policy)
    images = [(torch.randn(4, 3, 32, 32), torch.zeros(4, dtype=torch.long))]
    patches = model.patch_embed.num_patches
    frame = evaluate(model, images, [0.5], [policy], object_fraction=np.ones((4, patches)), progress=False)
    if policy == "tome":
        assert np.isnan(frame["object_area_kept"].iloc[0])
    else:  # one of the kept tokens is the fused one, or two, where an earlier one stays
        single = (model.select(images[0][0], 0.5) >= 0).sum(dim=1)
        assert single.max() < patches // 2
        assert frame["object_area_kept"].iloc[0] == pytest.approx((single / patches).mean().item())


@pytest.mark.parametrize(
    ("correct", "n", "low", "high"), [(50, 100, 0.4038, 0.5962), (0, 10, 0.0, 0.2775), (95, 100, 0.8882, 0.9785)]
)
def test_the_interval_is_wilsons(correct, n, low, high):
    assert interval(correct, n) == pytest.approx((low, high), abs=1e-4)


@pytest.mark.parametrize(
    ("ratios", "policies", "draws"),
    [
        ([], ["learned"], 1),
        ([0.5], [], 1),
        ([0.5], ["random"], 0),
        ([0.0], ["learned"], 1),
        ([1.1], ["learned"], 1),
        ([float("nan")], ["learned"], 1),
    ],
)
def test_a_sweep_of_nothing_or_a_bad_ratio_is_an_error_before_any_work(ratios, policies, draws):
    model = Counting()
    with pytest.raises(ValueError, match="expected|keep_ratio"):
        evaluate(model, batches(), ratios, policies, draws, progress=False)
    assert not model.calls


def test_logits_that_are_not_finite_are_no_accuracy(tiny):
    model = tiny(7)
    with torch.no_grad():
        model.head.bias.fill_(float("nan"))
    with pytest.raises(AselError, match="logits of 4 image.s. are not finite"):
        evaluate(model, [(torch.randn(4, 3, 32, 32), torch.zeros(4).long())], [0.5], ["learned"], progress=False)


def test_line_guided_sampling_is_averaged_over_draws_and_top_is_run_once(tiny):
    model, seen = tiny(selector="line_guided"), []
    model.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append((args[2], kwargs["draw_index"])), with_kwargs=True
    )
    policies = ["line_guided:choice=sample", "line_guided:choice=top"]
    drawn = torch.rand(5, 1, 64, 64)
    frame = evaluate(
        model, [(torch.randn(5, 3, 32, 32), torch.arange(5) % 4, drawn)], [0.5], policies, 3, progress=False
    )
    assert frame["policy"].tolist() == policies
    assert seen == [*((policies[0], draw) for draw in range(3)), (policies[1], 0)]


def test_answers_come_with_their_labels_in_order(tiny):
    model, images = tiny(), torch.randn(5, 3, 32, 32)
    batches = [(images[:3], torch.tensor([0, 1, 2])), (images[3:], torch.tensor([3, 0]))]
    labels, found = predict_labels(model, batches, 0.5, "central")
    assert labels.tolist() == [0, 1, 2, 3, 0]
    assert found.tolist() == model(images, 0.5, "central").argmax(1).tolist()


def test_the_table_of_classes_says_what_each_is_taken_for():
    table = per_class(np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1]), ["river", "road", "sea"])
    assert table.index.tolist() == ["river", "road", "sea"]
    assert table["images"].tolist() == [3, 1, 0]
    assert table["recall"].tolist() == pytest.approx([1 / 3, 1, 0])
    assert table["precision"].tolist() == pytest.approx([1, 1 / 3, 0])
    assert table["taken for"].tolist() == ["road", "-", "-"]


def test_balanced_accuracy_counts_each_class_the_same():
    from sklearn.metrics import balanced_accuracy_score

    def of(labels, *draws):
        return balanced_accuracy(Outcome(np.asarray(labels), np.stack([np.asarray(one)[:, None] for one in draws])))

    labels = np.array([0] * 95 + [1] * 5)
    assert of(labels, np.zeros(100, int)) == 0.5  # top-1 would be 0.95
    chance = np.random.default_rng(0)
    labels, answered = chance.integers(0, 5, 200), chance.integers(0, 5, 200)
    assert of(labels, answered) == pytest.approx(balanced_accuracy_score(labels, answered))
    # Two draws; classes 1 and 2 have no image.
    assert of([0, 0, 3], [0, 1, 3], [1, 0, 3]) == 0.75
