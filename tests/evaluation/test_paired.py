import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import ttest_ind

from asel_lib.evaluation import adaptive, cost
from asel_lib.evaluation.accuracy import evaluate
from asel_lib.evaluation.paired import differences, non_inferior, outcomes
from asel_lib.models import SelectiveViT


@pytest.fixture
def vit():
    torch.manual_seed(0)
    made = SelectiveViT("vit_tiny_patch16_224", 5, "glance", img_size=64, depth=2, embed_dim=24, num_heads=3)
    torch.nn.init.normal_(made.selector.network[-1].weight, std=30)
    return made.eval()


@pytest.fixture
def batches(vit):
    noise = torch.Generator().manual_seed(0)
    images = torch.randn(60, 3, 64, 64, generator=noise)
    return [(part, vit(part, 0.4).argmax(dim=1)) for part in images.split(25)]


@pytest.mark.parametrize("policy", [None, "random", "central"])
def test_outcomes_of_all_images_average_to_the_accuracy(vit, batches, policy):
    found = outcomes(vit, batches, (0.2, 0.4, 1.0), policy, draws=3, progress=False)
    expected = evaluate(vit, batches, (0.2, 0.4, 1.0), [policy or "glance"], draws=3, progress=False)
    np.testing.assert_allclose(found.mean().to_numpy(), expected["accuracy"].to_numpy(), atol=1e-6)
    assert found.shape == (60, 3)
    if policy is None:
        assert (found[0.4] == 1).all()


def test_a_paired_interval_is_that_of_the_mean_difference_and_covers_the_truth():
    rng, inside = np.random.default_rng(0), []
    for _ in range(300):
        easy = rng.random(400)  # what images have in common does not widen the interval
        ours = [pd.DataFrame({0.1: (easy < 0.75).astype(float)}) for _ in range(2)]
        flips = rng.random((2, 400)) < 0.1  # each seed of theirs loses a tenth of all answers
        theirs = [ours[0] * (1 - pd.DataFrame({0.1: flip.astype(float)})) for flip in flips]
        row = differences(ours, theirs).iloc[0]
        inside.append(row["low"] < 0.075 < row["high"])
        assert row["high"] - row["low"] < 0.045 and row["difference"] == pytest.approx(row["ours"] - row["theirs"])
    assert 0.9 < np.mean(inside) < 0.99


def outcome(accuracy, images=400):
    return pd.DataFrame({0.1: (np.arange(images) < accuracy * images).astype(float)})


def test_the_interval_over_trainings_is_welchs_and_needs_two_on_each_side():
    ours, theirs = ([outcome(level) for level in levels] for levels in ((0.70, 0.74, 0.75), (0.60, 0.66)))
    row = differences(ours, theirs).iloc[0]
    expected = ttest_ind([0.70, 0.74, 0.75], [0.60, 0.66], equal_var=False).confidence_interval(0.95)
    assert (row["seeds_low"], row["seeds_high"]) == pytest.approx((expected.low, expected.high))
    assert row["seeds_low"] < row["low"], "seeds that differ leave more open than images do"
    alone = differences(ours, theirs[:1]).iloc[0]
    assert np.isnan(alone["seeds_low"]) and np.isnan(alone["seeds_high"])


def test_no_worse_means_that_no_interval_reaches_beyond_the_margin():
    gaps = pd.DataFrame({"low": [-0.005, -0.03, -0.05, -0.005], "high": [0.01, 0.02, -0.02, 0.01]})
    gaps = gaps.assign(seeds_low=[np.nan, np.nan, np.nan, -0.04], seeds_high=[np.nan, np.nan, np.nan, 0.05])
    assert non_inferior(gaps, 0.01).tolist() == ["yes", "undecided", "no", "undecided"]
    assert non_inferior(gaps, 0.1).tolist() == ["yes"] * 4
    with pytest.raises(ValueError, match="margin is 0: expected a share above 0"):
        non_inferior(gaps, 0)


def test_outcomes_that_do_not_belong_together_are_refused():
    one, two = pd.DataFrame({0.1: [1.0, 0.0]}), pd.DataFrame({0.1: [1.0]})
    with pytest.raises(ValueError, match="same images"):
        differences([one], [two])
    with pytest.raises(ValueError, match="0 seeds of ours"):
        differences([], [two])
    other = one.copy()
    one.attrs, other.attrs = {"split": "a"}, {"split": "b"}
    with pytest.raises(ValueError, match="unlike split.*'a', 'b'"):
        differences([one], [other])


def test_auto_is_compared_at_a_cost_that_is_never_below_its_own(vit, batches):
    vit.calibrate(batches, [0.2, 0.5])
    frame = adaptive.compare(vit, batches, rounds=1)
    assert frame["choice"].tolist() == ["auto", "fixed"] * 2 and (frame["n_images"] == 60).all()
    macs = {count: cost.gmacs(vit, 64, (count + 0.5) / 16) for count in range(1, 16)}
    for average, rows in frame.groupby("keep_ratio"):
        auto, fixed = rows.to_dict("records")
        answers = [vit(images, f"auto:{average}", return_selection=True) for images, _ in batches]
        kept = torch.cat([(selection.kept >= 0).sum(1) for _, selection in answers])
        assert auto["kept"] == pytest.approx(kept.float().mean().item())
        whole = cost.gmacs(vit, 64, 1.0).total + macs[1].selector
        spent = np.mean([macs[count].total if count < 16 else whole for count in kept.tolist()])
        assert auto["gmacs"] == pytest.approx(spent) and fixed["gmacs"] >= spent * (1 - 1e-6)
        count = int(fixed["kept"])
        assert count == 1 or macs[count - 1].total < spent  # no dearer than need be
        right = [
            (logits.argmax(1) == labels).float() for (logits, _), (_, labels) in zip(answers, batches, strict=True)
        ]
        assert auto["accuracy"] == pytest.approx(torch.cat(right).mean().item())
        assert auto["difference"] == pytest.approx(auto["accuracy"] - fixed["accuracy"], abs=1e-6)
        assert auto["low"] <= auto["difference"] <= auto["high"] and auto["throughput"] > 0
