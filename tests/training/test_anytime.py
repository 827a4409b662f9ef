from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from asel_lib import configs
from asel_lib.data.batches import Batches
from asel_lib.data.decode import ImageArray
from asel_lib.errors import TrainingError
from asel_lib.models import SelectiveViT
from asel_lib.selection.sampling import draw_order
from asel_lib.training import supervised
from asel_lib.training.recipes.anytime import AnytimeRun, AnytimeSettings, Sets, group_ratios
from asel_lib.training.recipes.dropped import DroppedRun
from asel_lib.training.sharding import Shard
from asel_lib.training.state import TrainingFiles
from asel_lib.training.validation import validate

SETTINGS = replace(
    configs.load("smoke").warmup, epochs=8, batch_size=32, lr_backbone=2e-3, lr_selector=5e-3, schedule="cosine"
)


@pytest.fixture
def spots():
    """Grey images of 64 px whose class is the colour of one of 16 patches, anywhere; (batches, val), place of each."""
    rng = np.random.default_rng(0)
    labels, places = np.arange(600) % 2, rng.integers(0, 16, 600)
    pixels = rng.integers(90, 160, (600, 64, 64, 3)).astype(np.uint8)
    for image, (label, place) in enumerate(zip(labels, places, strict=True)):
        y, x = 16 * (place // 4), 16 * (place % 4)
        pixels[image, y : y + 16, x : x + 16] = (240, 20, 20) if label else (20, 20, 240)
    names = tuple(map(str, range(600)))
    images = ImageArray("spots", pixels, labels, ("blue", "red"), names, names)
    parts = [Batches(images, part, image_size=64, batch_size=32) for part in (np.arange(440), np.arange(440, 600))]
    return parts, places[440:]


def made(selector="glance", seed=0):
    torch.manual_seed(seed)
    return SelectiveViT("vit_tiny_patch16_224", 2, selector, img_size=64, depth=2, embed_dim=24, num_heads=3)


def run(model, parts, anytime=None, **changes):
    options = dict(seed=0, progress=False, settings=SETTINGS) | changes
    run_class = partial(AnytimeRun, recipe_settings=anytime or AnytimeSettings(ratio_low=0.07))
    return supervised.train(model, *parts, options.pop("settings"), run_class=run_class, **options)


def weights(model):
    return torch.cat([value.flatten().float() for value in model.state_dict().values()])


@pytest.mark.slow
def test_the_selector_finds_the_patch_that_decides_from_which_sets_did_better(spots):
    parts, places = spots
    model = made()
    run(model, parts, settings=replace(SETTINGS, epochs=14))
    images = torch.cat([images for images, _ in parts[1]])
    kept = model.select(images, 0.2).numpy()  # 3 of 16
    assert (kept == places[:, None]).any(axis=1).mean() > 0.9
    accuracy = validate(model, parts[1], (0.2, 1.0), "float32")
    assert min(accuracy.values()) > 0.9


def test_the_same_seed_gives_the_same_weights_also_after_a_kill(spots, tmp_path, monkeypatch):
    parts, _ = spots
    short = replace(SETTINGS, epochs=2)
    models = [made(), made(), made()]
    run(models[0], parts, settings=short)
    run(models[1], parts, settings=short, seed=1)
    assert not torch.equal(weights(models[0]), weights(models[1]))
    state = dict(settings=short, state_file=tmp_path / "state.pt", save_seconds=0.0)
    steps, plain = [], AnytimeRun.update

    def dying(self, *args):
        steps.append(1)
        if len(steps) == 18:
            raise KeyboardInterrupt
        return plain(self, *args)

    monkeypatch.setattr(AnytimeRun, "update", dying)
    with pytest.raises(KeyboardInterrupt):
        run(models[2], parts, **state)
    monkeypatch.setattr(AnytimeRun, "update", plain)
    again = made(seed=7)
    run(again, parts, **state)
    assert torch.equal(weights(models[0]), weights(again))


def test_the_state_of_another_recipe_or_of_other_settings_of_it_is_not_resumed(spots, tmp_path, capsys):
    parts, _ = spots
    state = dict(settings=replace(SETTINGS, epochs=1), state_file=tmp_path / "state.pt")
    run(made(), parts, **state)
    run(made(), parts, **state)
    assert "another run" not in capsys.readouterr().out
    run(made(), parts, AnytimeSettings(ratio_low=0.08), **state)
    assert "another run" in capsys.readouterr().out
    supervised.train(made(), *parts, state.pop("settings"), run_class=DroppedRun, seed=0, progress=False, **state)
    assert "another run" in capsys.readouterr().out


def started(model, settings=None, batch=4):
    one = ImageArray("x", np.zeros((4, 64, 64, 3), np.uint8), np.zeros(4, int), ("a", "b"), *[tuple("abcd")] * 2)
    batches = Batches(one, np.arange(4), image_size=64)
    options = dict(seed=0, precision="float32", val_ratios=(1.0,), identity="", files=TrainingFiles())
    return AnytimeRun(model, batches, None, SETTINGS, recipe_settings=settings or AnytimeSettings(), **options)


def loss_of(loop, images, labels, ratios):
    sets = Sets([[] for _ in ratios], *loop._drawn(images, None, torch.Generator().manual_seed(0), 0))
    return loop.loss(Shard(images, labels, None, np.arange(len(images)), len(images), 0, True), ratios, sets)


def test_where_memory_runs_out_the_batch_size_is_named(spots, monkeypatch):
    """Also of halves."""
    monkeypatch.setattr(AnytimeRun, "loss", lambda *_: torch.empty(2**60, dtype=torch.uint8))
    with pytest.raises(TrainingError, match="not enough memory on cpu .* batches of 32 images.*batch_size"):
        run(made(), spots[0])


def test_halves_of_a_batch_are_the_same_step(spots, monkeypatch, capsys):
    parts, _ = spots
    short, whole, halved, plain = replace(SETTINGS, epochs=1), made(), made(), AnytimeRun.loss
    run(whole, parts, settings=short)

    def small(self, shard, *others):
        if len(shard.images) > 20:
            raise torch.OutOfMemoryError("out of memory")
        return plain(self, shard, *others)

    monkeypatch.setattr(AnytimeRun, "loss", small)
    run(halved, parts, settings=short)
    assert capsys.readouterr().out.count("not enough memory for a batch of 32 images") == 1
    # Answers, not weights: Adam makes a step of the rounding error of the selector's last bias, which changes nothing.
    images = next(iter(parts[1]))[0]
    with torch.inference_mode():
        for ratio in (1.0, 0.3):
            torch.testing.assert_close(halved(images, ratio), whole(images, ratio), atol=5e-3, rtol=0)
        odds = [model.log_weights(images).log_softmax(dim=1) for model in (halved, whole)]
    torch.testing.assert_close(*odds, atol=5e-3, rtol=0)


def test_the_loss_where_nothing_is_learned_is_the_mean_cross_entropy_of_all_passes():
    model, images, labels = made("central").train(), torch.randn(4, 3, 64, 64), torch.tensor([0, 1, 1, 0])
    loop = started(model, AnytimeSettings(whole=0.5, distill=0.25, groups=2))
    loss, logits = loss_of(loop, images, labels, [0.25, 0.5])
    assert not loop.learns
    whole = model(images)[:2]
    low, high = model(images, 0.25), model(images, 0.5)
    fewer = torch.stack([low[0], high[1], low[2], high[3]])  # groups take turns, and each has one that passed whole
    taught = -(whole.softmax(1) * fewer[:2].log_softmax(1)).sum(1)
    errors = F.cross_entropy(fewer, labels, reduction="none")
    expected = F.cross_entropy(whole, labels[:2], reduction="sum") / 4
    expected = expected + (0.75 * errors[:2] + 0.25 * taught).sum() / 4 + errors[2:].sum() / 4
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(logits, fewer)


@pytest.mark.parametrize(("selector", "sets"), [("glance", 2), ("random", 2), ("central", 1), ("learned", 2)])
def test_every_image_passes_with_as_many_sets_as_there_is_a_choice(selector, sets):
    model, seen = made(selector).train(), []
    model.register_forward_pre_hook(lambda _, args, given: seen.append(given.get("kept")), with_kwargs=True)
    loss_of(started(model), torch.randn(16, 3, 64, 64), torch.zeros(16, dtype=torch.long), [0.1, 0.2, 0.3, 0.5])
    kept = [one for one in seen if one is not None]
    assert [len(one) for one in kept] == [4 * sets] * 4 and [one.shape[1] for one in kept] == [1, 3, 4, 8]
    if sets == 2:
        assert not torch.equal(kept[-1][:4].sort(dim=1).values, kept[-1][4:].sort(dim=1).values)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 13, 17])
@pytest.mark.parametrize("signal", ["policy_gradient", "against_random", "values"])
def test_a_last_batch_of_any_size_has_a_finite_loss(count, signal):
    model = made().train()
    images, labels = torch.randn(count, 3, 64, 64), torch.zeros(count, dtype=torch.long)
    loss, logits = loss_of(started(model, AnytimeSettings(signal=signal)), images, labels, [0.1, 0.2, 0.3, 0.5])
    loss.backward()
    assert torch.isfinite(loss) and logits.shape == (count, 2)
    assert all(torch.isfinite(p.grad).all() for p in model.selector.parameters() if p.grad is not None)


def test_the_selectors_loss_does_not_touch_the_backbone():
    for selector in ("glance", "learned"):
        model = made(selector).train()
        loop = started(model)
        weights, orders = loop._drawn(torch.randn(4, 3, 64, 64), None, torch.Generator().manual_seed(0), 0)
        loop._judged(weights, orders, [torch.rand(4), torch.rand(4)], keep=3).sum().backward()
        touched = {name.partition(".")[0] for name, p in model.named_parameters() if p.grad is not None}
        assert touched == {"patch_drop"}


def test_the_selectors_gradient_raises_the_better_set():
    loop = started(made().train(), AnytimeSettings(entropy=0.0))
    scores = torch.zeros(8, 16, requires_grad=True)
    orders = [torch.arange(16).roll(-4 * first).expand(8, -1) for first in (0, 1)]
    errors = [torch.linspace(0, 1, 8), torch.linspace(1, 0, 8)]  # of the first images the first set is the better
    loop._judged(scores, orders, errors, keep=4).sum().backward()
    assert (scores.grad[0, :4] < 0).all() and (scores.grad[0, 4:8] > 0).all()
    assert torch.sign(scores.grad[-1, 0]) == -torch.sign(scores.grad[0, 0])


def test_values_become_what_a_patch_adds_on_average():
    loop = started(made().train(), AnytimeSettings(signal="values"))
    worth = torch.linspace(-0.05, 0.05, 16)  # the error of a set is minus the sum of its patches' worth
    scores = torch.zeros(1, 16, requires_grad=True)
    optimizer, noise = torch.optim.Adam([scores], lr=0.3), torch.Generator().manual_seed(0)
    for _ in range(300):
        weights = scores.expand(64, -1)
        orders = [draw_order(weights, noise), draw_order(torch.zeros_like(weights), noise)]
        errors = [-worth[order[:, :5]].sum(dim=1) for order in orders]
        optimizer.zero_grad()
        loop._judged(weights, orders, errors, keep=5).sum().backward()
        optimizer.step()
    expected = 3.0 * 16 * worth
    torch.testing.assert_close(scores.detach()[0] - scores.mean().detach(), expected, atol=0.2, rtol=0.1)


def test_ratios_of_a_step_are_one_from_each_part_of_the_scale():
    noise = torch.Generator().manual_seed(0)
    drawn = np.array(
        [group_ratios(AnytimeSettings(groups=4, ratio_low=0.05, ratio_high=0.8), noise) for _ in range(50)]
    )
    edges = 0.05 * 16 ** (np.arange(5) / 4)
    assert (drawn >= edges[:-1]).all() and (drawn <= edges[1:]).all() and drawn.std(axis=0).min() > 0
    linear = group_ratios(AnytimeSettings(groups=2, ratio_low=0.2, ratio_high=0.4, spread="linear"), noise)
    assert 0.2 <= linear[0] <= 0.3 <= linear[1] <= 0.4


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(groups=0), "groups is 0"),
        (dict(whole=1.5), "whole is 1.5"),
        (dict(ratio_low=0.6), "ratio_high, 0.5"),
        (dict(spread="cubic"), "spread is 'cubic': input should be 'log' or 'linear'"),
        (dict(signal="gradient"), "signal is .*should be 'policy_gradient'"),
    ],
)
def test_settings_that_cannot_hold_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        AnytimeSettings(**wrong)
