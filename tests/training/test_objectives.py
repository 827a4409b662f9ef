import numpy as np
import pytest
import torch
import torch.nn.functional as F

from asel_lib import configs
from asel_lib.reproducibility import generator
from asel_lib.training import losses, objectives
from asel_lib.training.recipes.dropped import DroppedRun
from asel_lib.training.recipes.masked import MaskedRun


def test_the_keep_ratio_is_one_at_first_and_then_uniform_in_the_published_range():
    settings = configs.load("paper").warmup
    assert {objectives.keep_ratio(settings, 0, epoch, 7) for epoch in range(5)} == {1.0}
    drawn = torch.tensor([objectives.keep_ratio(settings, 0, 5, step) for step in range(2000)])
    assert 0.15 <= drawn.min() < 0.16
    assert 0.74 < drawn.max() <= 0.75
    assert drawn.mean().item() == pytest.approx(0.45, abs=0.01)
    assert objectives.keep_ratio(settings, 0, 5, 3) == objectives.keep_ratio(settings, 0, 9, 3)


@pytest.mark.parametrize("mode", [MaskedRun.mode, DroppedRun.mode])
def test_the_loss_is_cross_entropy_plus_the_sparsity_term(tiny, mode):
    model, images, labels = tiny(), torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    with torch.no_grad():
        loss, logits = objectives.loss(model, images, labels, mode=mode, ratio=0.5, sparsity=0.02, noise=generator(0))
        scores = model.scores(images)
    expected = F.cross_entropy(logits, labels) + 0.02 * scores.mean()
    torch.testing.assert_close(loss, expected)


def test_the_two_recipes_spend_as_their_names_say(tiny):
    """masked: every token enters the blocks; dropped: only the kept ones."""
    model, seen = tiny(), []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    for run_class in (MaskedRun, DroppedRun):
        objectives.loss(
            model,
            torch.randn(2, 3, 32, 32),
            torch.tensor([0, 1]),
            mode=run_class.mode,
            ratio=0.25,
            sparsity=0.0,
            noise=generator(0),
        )
    assert seen == [17, 5]


@pytest.mark.parametrize("selector", ["random", "line_guided:lines=sobel,choice=sample"])
def test_a_selector_without_weights_is_trained_on_the_kept_patches_alone(tiny, selector):
    model, images, labels = tiny(selector=selector), torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 2, 3])
    options = dict(ratio=0.25, sparsity=0.5, noise=generator(0))
    model.train()
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape[1]))
    loss, logits = objectives.loss(model, images, labels, mode=DroppedRun.mode, draw=3, **options)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels))  # no score to make sparse
    assert seen == [5]
    loss.backward()
    assert model.patch_embed.proj.weight.grad.abs().sum() > 0
    again, other = (objectives.loss(model, images, labels, mode=DroppedRun.mode, draw=n, **options)[1] for n in (3, 4))
    assert torch.equal(again, logits) and not torch.equal(other, logits)
    with pytest.raises(ValueError, match="dropped"):
        objectives.loss(model, images, labels, mode=MaskedRun.mode, **options)


def test_an_unknown_mode_is_named(tiny):
    with pytest.raises(ValueError, match="unknown mode 'gumble'.*Did you mean 'gumbel'"):
        objectives.loss(
            tiny(),
            torch.zeros(1, 3, 32, 32),
            torch.tensor([0]),
            mode="gumble",
            ratio=0.5,
            sparsity=0.0,
            noise=generator(0),
        )


def test_with_class_weights_each_class_weighs_the_same():
    from sklearn.utils.class_weight import compute_class_weight

    labels = torch.tensor([0] * 90 + [1] * 8 + [2] * 2)
    weights = losses.class_weights(labels, 3)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels.numpy())
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float32))
    assert weights[labels].mean().item() == pytest.approx(1)
    shares = torch.zeros(3).index_add_(0, labels, weights[labels])
    torch.testing.assert_close(shares, shares[:1].expand(3))
    assert losses.class_weights(labels, 4)[3] == 1  # of a class that is not there


def test_the_weighted_loss_of_a_batch_is_the_sum_of_its_parts():
    logits, labels = torch.randn(8, 3, generator=generator(0)), torch.tensor([0, 1, 2, 2, 2, 2, 2, 2])
    weights = torch.tensor([3.0, 2.0, 0.5])
    whole = losses.cross_entropy(logits, labels, weights)
    parts = [losses.cross_entropy(logits[i : i + 4], labels[i : i + 4], weights, "sum") for i in (0, 4)]
    torch.testing.assert_close(whole, sum(parts) / 8)
    by_hand = -(logits.log_softmax(1)[torch.arange(8), labels] * weights[labels])
    torch.testing.assert_close(losses.cross_entropy(logits, labels, weights, "none"), by_hand)
    torch.testing.assert_close(losses.cross_entropy(logits, labels), F.cross_entropy(logits, labels))


def test_the_loss_takes_class_weights(tiny):
    model, images, labels = tiny(), torch.randn(4, 3, 32, 32), torch.tensor([0, 0, 0, 1])
    weights = losses.class_weights(labels, 4)
    options = dict(mode="gumbel", ratio=0.5, sparsity=0.0, weights=weights)
    with torch.no_grad():
        loss, logits = objectives.loss(model, images, labels, noise=generator(0), **options)
    torch.testing.assert_close(loss, losses.cross_entropy(logits, labels, weights))
    assert loss != F.cross_entropy(logits, labels)


@pytest.mark.parametrize("ratio", [1.0, 0.9])
def test_with_all_patches_both_ways_of_training_give_the_selector_the_same_gradient(tiny, ratio):
    """With all patches nothing is left out: in whichever order they were drawn, each is weighed by its own score."""
    images, labels, gradients = torch.randn(8, 3, 32, 32, generator=generator(1)), torch.arange(8) % 4, []
    for mode in (MaskedRun.mode, DroppedRun.mode):
        model = tiny().train()
        objectives.loss(model, images, labels, mode=mode, ratio=ratio, sparsity=0.0, noise=generator(0))[0].backward()
        gradients.append(model.selector.mlp[0].weight.grad)
    same = torch.allclose(*gradients, rtol=1e-3, atol=1e-7)
    assert same == (ratio == 1), "at fewer patches the two are different methods"
