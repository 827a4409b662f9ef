from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from asel_lib import configs
from asel_lib.data.batches import Batches
from asel_lib.data.decode import ImageArray
from asel_lib.errors import TrainingError
from asel_lib.training import objectives, optimizers, state, supervised
from asel_lib.training.recipes.dropped import DroppedRun
from asel_lib.training.recipes.masked import MaskedRun

SETTINGS = replace(configs.load("smoke").warmup, epochs=3, batch_size=16, lr_backbone=2e-3, schedule="cosine")

RUNS = pytest.mark.parametrize("run_class", [MaskedRun, DroppedRun])
TIMES = ["seconds", "images_per_second", "waiting_share"]  # the columns in which two equal runs differ


@pytest.fixture
def data():
    """40 images of two classes, one bright and one dark, in noise: (training batches, val batches)."""
    rng = np.random.default_rng(0)
    labels = np.arange(56) % 2
    pixels = (rng.integers(0, 120, (56, 32, 32, 3)) + labels[:, None, None, None] * 120).astype(np.uint8)
    names = tuple(map(str, range(56)))
    images = ImageArray("tones", pixels, labels, ("dark", "bright"), names, names)
    return [Batches(images, part, image_size=32, batch_size=16) for part in (np.arange(40), np.arange(40, 56))]


def run(model, data, **changes):
    options = dict(run_class=DroppedRun, seed=0, progress=False) | changes
    return supervised.train(model, *data, options.pop("settings", SETTINGS), **options)


def weights(model):
    return torch.cat([value.flatten() for value in model.state_dict().values()])


@RUNS
def test_both_recipes_learn(tiny, data, run_class):
    model = tiny(2)
    trained = run(model, data, run_class=run_class, settings=replace(SETTINGS, epochs=6))
    assert trained.val_accuracy > 0.9
    assert trained.history["train_loss"].iloc[-1] < trained.history["train_loss"].iloc[0]
    assert not model.training


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(tiny, data):
    runs = [tiny(2), tiny(2), tiny(2)]
    for model, seed in zip(runs, (0, 0, 1), strict=True):
        torch.rand(7)  # what others drew must not matter
        run(model, data, seed=seed)
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert not torch.equal(weights(runs[0]), weights(runs[2]))


@pytest.mark.parametrize("steps_before_the_kill", [1, 4, 6])
def test_a_run_killed_in_mid_epoch_ends_with_the_weights_of_an_uninterrupted_one(
    tiny, data, tmp_path, monkeypatch, steps_before_the_kill
):
    whole = tiny(2)
    history = run(whole, data).history.drop(columns=TIMES)

    class Killed(BaseException):
        pass

    original, count = DroppedRun.compute_gradients, []

    def step(self, *arguments):
        if len(count) == steps_before_the_kill:
            raise Killed
        count.append(1)
        original(self, *arguments)

    options = dict(state_file=tmp_path / "run.pt", history_file=tmp_path / "history.csv", save_seconds=0.0)
    monkeypatch.setattr(DroppedRun, "compute_gradients", step)
    with pytest.raises(Killed):
        run(tiny(2), data, **options)
    monkeypatch.setattr(DroppedRun, "compute_gradients", original)
    resumed = tiny(2)
    with torch.no_grad():
        resumed.head.weight.add_(1)  # a new process's model: all that counts is in the state file
    trained = run(resumed, data, **options)
    assert torch.equal(weights(resumed), weights(whole))
    pd.testing.assert_frame_equal(trained.history.drop(columns=TIMES), history)
    assert len(pd.read_csv(tmp_path / "history.csv")) == 3


def test_a_run_killed_between_the_last_step_and_validation_goes_on(tiny, data, tmp_path, monkeypatch):
    whole = tiny(2)
    run(whole, data)
    options = dict(state_file=tmp_path / "run.pt", save_seconds=0.0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(supervised, "validate", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run(tiny(2), data, **options)
    resumed = tiny(2)
    run(resumed, data, **options)
    assert torch.equal(weights(resumed), weights(whole))


def test_the_state_of_other_settings_or_a_torn_state_is_not_taken_up(tiny, data, tmp_path, capsys):
    file = tmp_path / "run.pt"
    run(tiny(2), data, state_file=file, settings=replace(SETTINGS, epochs=1))
    fresh, resumed = tiny(2), tiny(2)
    run(fresh, data)
    run(resumed, data, state_file=file)
    assert "another run" in capsys.readouterr().out
    run(tiny(2, depth=1), data, state_file=file, identity="depth 1", settings=replace(SETTINGS, epochs=1))
    assert "another run" in capsys.readouterr().out
    assert torch.equal(weights(fresh), weights(resumed))
    file.write_bytes(file.read_bytes()[:1000])
    again = tiny(2)
    with pytest.warns(UserWarning, match="starts afresh"):
        run(again, data, state_file=file)
    assert torch.equal(weights(fresh), weights(again))


def test_the_weights_kept_are_those_of_the_best_epoch_on_val(tiny, data, monkeypatch):
    scores = iter([0.2, 0.9, 0.5])
    seen = []

    def validate(model, *_):
        seen.append(weights(model).clone())
        return {1.0: next(scores)}

    monkeypatch.setattr(supervised, "validate", validate)
    model = tiny(2)
    trained = run(model, data)
    assert (trained.best_epoch, trained.val_accuracy) == (1, 0.9)
    assert torch.equal(weights(model), seen[1])


def test_training_stops_when_val_has_not_become_better_for_long_enough(tiny, data, monkeypatch):
    scores = iter([0.2, 0.9, 0.5, 0.9, 0.95])  # the fourth is no better, so the fifth is never reached
    monkeypatch.setattr(supervised, "validate", lambda *_: {1.0: next(scores)})
    trained = run(tiny(2), data, settings=replace(SETTINGS, epochs=8, patience=2))
    assert len(trained.history) == 4
    assert (trained.best_epoch, trained.val_accuracy) == (1, 0.9)


def test_a_stopped_training_that_is_taken_up_again_stays_stopped(tiny, data, tmp_path, monkeypatch):
    scores = iter([0.9, 0.5, 0.4])
    monkeypatch.setattr(supervised, "validate", lambda *_: {1.0: next(scores)})
    options = dict(settings=replace(SETTINGS, epochs=8, patience=2), state_file=tmp_path / "state.pt", identity="x")
    first = run(tiny(2), data, **options)
    again = run(tiny(2), data, **options)
    assert len(first.history) == len(again.history) == 3


def test_the_cosine_schedule_goes_down_to_its_lowest_rate(tiny, data, monkeypatch):
    made = []
    build = optimizers.optimizer
    monkeypatch.setattr(optimizers, "optimizer", lambda *a, **k: made.append(build(*a, **k)) or made[-1])
    run(tiny(2), data, settings=replace(SETTINGS, lr_min=1e-5))
    fallen = (1 + np.cos(np.pi * 8 / 9)) / 2  # the last of 9 steps
    for group in made[0].param_groups:
        assert group["lr"] == pytest.approx(1e-5 + (group["initial_lr"] - 1e-5) * fallen)


def test_without_a_val_part_the_last_epoch_is_kept(tiny, data):
    trained = run(tiny(2), [data[0], None])
    assert trained.best_epoch == 2
    assert trained.val_accuracy is None


def test_a_loss_that_is_not_finite_stops_with_the_batchs_images(tiny, data):
    model = tiny(2)
    with torch.no_grad():
        model.head.weight.fill_(float("nan"))
    said = r"loss is nan in epoch 1, step 0.*learning rate 0.001 / 0.002.*images of this batch: \[\d+, "
    with pytest.raises(TrainingError, match=said) as error:
        run(model, data)
    assert len(str(error.value).split("[")[1].split("]")[0].split(",")) == 16


def test_weights_that_are_not_finite_are_never_kept(tiny, data, tmp_path, monkeypatch):
    """A loss may still be finite in the step that breaks the weights: the last of an epoch."""
    options = dict(state_file=tmp_path / "run", settings=replace(SETTINGS, epochs=3))
    original = DroppedRun.update

    def update(self, step):
        original(self, step)
        if self.state.epoch == 1 and self.state.step_in_epoch == 2:
            self.model.head.bias.data[0] = float("inf")

    with monkeypatch.context() as patch:
        patch.setattr(DroppedRun, "update", update)
        with pytest.raises(TrainingError, match="head.bias is no longer finite in epoch 2 .learning rate 0.000413"):
            run(tiny(2), data, **options)
    whole, resumed = tiny(2), tiny(2)
    run(whole, data, **options | {"state_file": None})
    run(resumed, data, **options)  # the state of the first epoch was kept
    assert torch.equal(weights(resumed), weights(whole))


def larger_than(most, original):
    """A loss for which memory runs out where more than `most` images pass at once: torch's own error, not a made-up
    one."""

    def loss(model, images, *arguments, **options):
        found = original(model, images, *arguments, **options)
        if len(images) > most:
            torch.empty(2**60, dtype=torch.uint8)
        return found

    return loss


def too_large_to_go_back(most, model):
    """Memory runs out in the backward pass, where the head has its gradients already and the first block has not."""

    def check(gradient):
        if len(gradient) > most:
            torch.empty(2**60, dtype=torch.uint8)

    def watch(block, given, out):
        if out.requires_grad:
            out.register_hook(check)

    model.blocks[0].register_forward_hook(watch)


@RUNS
@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_where_memory_runs_out_batches_pass_in_halves_with_the_same_result(
    tiny, data, monkeypatch, capsys, run_class, clip, where
):
    settings = replace(SETTINGS, clip_gradient=clip, full_epochs=1)
    whole, halved = tiny(2), tiny(2)
    expected = run(whole, data, run_class=run_class, settings=settings)
    if where == "forward":
        monkeypatch.setattr(objectives, "loss", larger_than(9, objectives.loss))
    else:
        too_large_to_go_back(9, halved)
    trained = run(halved, data, run_class=run_class, settings=settings)
    torch.testing.assert_close(weights(halved), weights(whole), atol=2e-4, rtol=0)
    columns = ["train_loss", "train_accuracy", "keep_ratio"]
    pd.testing.assert_frame_equal(trained.history[columns], expected.history[columns], rtol=1e-3)
    assert capsys.readouterr().out.count("not enough memory for a batch of 16 images") == 1


def test_where_halves_do_not_fit_either_the_batch_size_is_named(tiny, data, monkeypatch):
    monkeypatch.setattr(objectives, "loss", larger_than(4, objectives.loss))
    with pytest.raises(TrainingError, match="not enough memory on cpu .*batches of 16 images of 32 pixels.*batch_size"):
        run(tiny(2), data)


def test_where_memory_runs_out_in_the_optimiser_no_step_is_made_twice(tiny, data, monkeypatch, capsys):
    """Of its groups of parameters the first have moved by then."""
    steps, plain = [], torch.optim.AdamW.step

    def step(self, *arguments, **options):
        steps.append(1)
        plain(self, *arguments, **options)
        if len(steps) == 2:
            torch.empty(2**60, dtype=torch.uint8)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(TrainingError, match="not enough memory on cpu .*batches of 16 images of 32 pixels.*batch_size"):
        run(tiny(2), data, settings=replace(SETTINGS, optimizer="adamw"))
    assert len(steps) == 2 and "halves" not in capsys.readouterr().out


def test_an_error_that_is_not_of_memory_is_left_as_it_is(tiny, data, monkeypatch):
    def wrong(*_, **__):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(objectives, "loss", wrong)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        run(tiny(2), data)


def test_a_full_disk_does_not_stop_training(tiny, data, tmp_path, monkeypatch):
    def full(path, write):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "replace_file", full)
    with pytest.warns(UserWarning, match="could not be written.*No space left"):
        files = dict(state_file=tmp_path / "run.pt", history_file=tmp_path / "history.csv")
        assert len(run(tiny(2), data, **files).history) == 3


def test_three_learning_rates_and_no_decay_on_vectors(tiny):
    settings = replace(SETTINGS, lr_selector=1.0, lr_backbone=2.0, lr_head=3.0, weight_decay=0.1)
    model = tiny(2)
    rate = {
        id(p): (g["lr"], g["weight_decay"])
        for g in optimizers.optimizer(model, settings).param_groups
        for p in g["params"]
    }
    named = dict(model.named_parameters())
    assert rate[id(named["patch_drop.selector.mlp.0.weight"])] == (1.0, 0.1)
    assert rate[id(named["blocks.0.attn.qkv.weight"])] == (2.0, 0.1)
    assert rate[id(named["blocks.0.norm1.weight"])] == (2.0, 0.0)
    assert rate[id(named["head.bias"])] == (3.0, 0.0)
    assert len(rate) == len(named)


def test_attention_is_as_before_after_training(tiny, data):
    model = tiny(2)
    before = [block.attn.fused_attn for block in model.blocks]
    run(model, data, settings=replace(SETTINGS, epochs=1))
    assert [block.attn.fused_attn for block in model.blocks] == before
