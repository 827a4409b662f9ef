"""The training loop, which every recipe, data set and stage goes through: `train`.

A recipe (`training/recipes/`) is a subclass of `SupervisedRun` that makes the gradients of one batch. What the loop
needs besides has a file each: its state and how it is resumed (`state`), a process's share of a batch (`sharding`),
what is done where memory runs out (`memory`), how processes work together (`processes`).

All randomness of a step derives from (seed, use, epoch or step), so that a training that was killed and resumed ends
with the weights of an uninterrupted one, bit for bit on a CPU in float32.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor, nn
from tqdm.auto import tqdm

from asel_lib.configs import StageSettings
from asel_lib.data.batches import Batches
from asel_lib.devices import fast_backward
from asel_lib.errors import TrainingError
from asel_lib.reproducibility import derived_seed
from asel_lib.training import optimizers, processes
from asel_lib.training.losses import class_weights
from asel_lib.training.memory import MemoryRetry, out_of_memory_named
from asel_lib.training.sharding import Shard, TrainBatch, read_batches, shard_rows, shards
from asel_lib.training.state import Trained, TrainingFiles, TrainingState
from asel_lib.training.validation import validate


def train(
    model: nn.Module,
    batches: Batches,
    val: Batches | None,
    settings: StageSettings,
    *,
    run_class: Callable[..., "SupervisedRun"],
    seed: int,
    precision: str = "float32",
    val_ratios: tuple[float, ...] = (0.2, 0.5, 1.0),
    identity: str = "",
    state_file: Path | None = None,
    history_file: Path | None = None,
    save_seconds: float = 60.0,
    progress: bool = True,
    accumulation_steps: int | None = None,
) -> Trained:
    """Train the model in place and leave it, in eval mode, with the weights of the epoch that was best on val.

    Dropout inside the model draws from torch's global generator, so a training with it resumes, but not bit for bit,
    and comes out otherwise in several processes.

    Args:
        model: a SelectiveViT on the device of `batches`.
        batches: the training part; its batch size is that of a step.
        val: None: the last epoch's weights are kept.
        settings: epochs (fewer where `settings.patience` runs out), learning rates, keep ratios, augmentation.
        run_class: the recipe: a subclass of SupervisedRun, or a partial of one with the recipe's own settings.
        seed: all that is random derives from it.
        precision: a resolved one: "float32", "bfloat16" or "float16".
        val_ratios: an epoch is judged by the model's mean accuracy on val at these keep ratios.
        identity: what else makes this training this one (architecture, the weights it starts from, the val part).
        state_file: where the state is kept after each epoch; where it holds the state of this very training, that goes
            on from there. Whoever saves the result removes the file.
        history_file: CSV, a row an epoch.
        save_seconds: time after which the state is kept within an epoch too.
        progress: whether to show a bar and a line an epoch.
        accumulation_steps: in how many passes each process takes its images of a batch, for less memory and the same
            result to rounding; None: as launched (`accelerate launch --gradient_accumulation_steps`).

    Raises:
        TrainingError: where the loss is not finite, with the batch's images; where memory runs out in halves too.
    """
    options = dict(seed=seed, precision=precision, val_ratios=val_ratios, identity=identity)
    files = TrainingFiles(state_file, history_file, save_seconds)
    run = run_class(model, batches, val, settings, files=files, accumulation_steps=accumulation_steps, **options)
    run.resume()
    state, progress = run.state, progress and run.accelerator.is_main_process
    say = partial(print, flush=True) if progress else lambda _: None
    with out_of_memory_named(batches):
        for _ in range(state.epoch, settings.epochs):
            if state.out_of_patience(settings.patience):
                say(f"no better val accuracy in {settings.patience} epochs: stopped")
                break
            run.train_epoch(progress)
            run.finish_epoch()
            say(run.line())
    if state.best_weights is not None:
        model.load_state_dict(state.best_weights)
    model.eval()
    run.finish()
    return Trained(pd.DataFrame(state.history), state.best_epoch, state.history[state.best_epoch].get("val_accuracy"))


class SupervisedRun:
    """One training, from its start to its end. Its arguments are those of `train`; `files`: where its state is kept.

    A subclass makes the gradients of a batch (`compute_gradients`, by `backward`), and may have its own of those
    methods that are said to be a recipe's.
    """

    summed: tuple[str, ...] = ("loss", "correct", "images", "seconds", "waiting", "ratio")  # over an epoch
    excluded: tuple[str, ...] = ()  # how the names of parameters begin that the classifier's optimiser leaves alone

    def __init__(
        self, model, batches, val, settings, *, seed, precision, val_ratios, identity, files, accumulation_steps=None
    ):
        self.model, self.batches, self.val, self.settings = model, batches, val, settings
        self.seed, self.precision, self.val_ratios, self.identity = seed, precision, val_ratios, identity
        self.accelerator = processes.accelerator(batches.device, precision)
        if accumulation_steps is not None:
            self.accelerator.gradient_accumulation_steps = accumulation_steps
        optimizer = optimizers.optimizer(model, settings, self.excluded)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self.scheduler = optimizers.scheduler(optimizer, settings, len(batches))
        self.passes = self.accelerator.prepare_model(processes.Passes(model))
        self.state = TrainingState(model, self.optimizer, self.accelerator.scaler, self.summed, len(batches))
        balanced = settings.class_weights == "balanced"
        self.class_weights = class_weights(batches.labels, model.num_classes) if balanced else None
        self.files = files
        self.retry = MemoryRetry(model, self.optimizer, enabled=self.accelerator.num_processes == 1)

    def compute_gradients(self, epoch: int, batch: TrainBatch) -> None:
        """Add the gradients of one batch to the parameters', by a call of `backward`.

        Args:
            epoch: from 0.
            batch: this process's images of it.
        """
        raise NotImplementedError

    def shard_order(self, count: int) -> np.ndarray:
        """(count,) the rows of a batch in the order in which they are dealt out to processes and passes."""
        return np.arange(count)

    def train_epoch(self, progress: bool) -> None:
        """Train on the batches that are left of the epoch at which the state is."""
        self.model.train()
        state = self.state
        title, images = f"epoch {state.epoch + 1}/{self.settings.epochs}", len(self.batches.indices)
        done = state.step_in_epoch * self.batches.batch_size
        together = processes.sync_batchnorm(self.model, self.accelerator)
        bar = tqdm(desc=title, total=images, initial=done, unit="img", leave=False, disable=not progress)
        with bar, fast_backward(self.model, self.batches.device), together:
            started = time.perf_counter()
            for count in self.steps(state.epoch):
                state.sums["seconds"] += time.perf_counter() - started
                state.step_in_epoch += 1
                if state.step_in_epoch % 10 == 1 or state.step_in_epoch == len(self.batches):
                    bar.set_postfix_str(self.status(), refresh=False)
                bar.update(count)
                if self.files.due():
                    self.save()
                started = time.perf_counter()

    def steps(self, epoch: int) -> Iterator[int]:
        """Make the steps of an epoch that are left; yields the number of images after each."""
        for batch in self.read(epoch):
            self.retry.run(partial(self.compute_gradients, epoch, batch), len(batch.images))
            self.update(batch.step)
            yield len(batch.images)

    def read(self, epoch: int) -> Iterator[TrainBatch]:
        """The batches of an epoch that are left; the time that they are waited for is counted."""
        first = self.state.step_in_epoch
        coming = read_batches(self.batches, self.settings.augmentation, self.seed, epoch, first, self.rows)
        for _ in range(first, len(self.batches)):
            started = time.perf_counter()
            batch = next(coming)
            self.state.sums["waiting"] += time.perf_counter() - started
            yield batch

    def rows(self, count: int) -> np.ndarray:
        """The rows that this process takes of a batch of `count` images, shard after shard."""
        return np.concatenate(shard_rows(self.shard_order(count), self.accelerator))

    def backward(self, shard_loss: Callable[[Shard], tuple[Tensor, Tensor]], batch: TrainBatch, ratio: float) -> float:
        """Add the gradients of a batch to the parameters', and its numbers to the epoch's sums. -> the batch's loss.

        Args:
            shard_loss: shard -> (its share of the batch's loss, its images' logits (b, classes)).
            batch: this process's images of it.
            ratio: the batch's mean keep ratio, for the history.

        Raises:
            TrainingError: where the loss is not finite.
        """
        value, correct, count = 0.0, 0.0, len(batch.positions)
        # DDP takes the mean over processes, accelerate divides by the number of passes: the batch's loss is their sum.
        scale = self.accelerator.num_processes * self.accelerator.gradient_accumulation_steps
        for shard in shards(batch, shard_rows(self.shard_order(count), self.accelerator, self.retry.parts)):
            with contextlib.nullcontext() if shard.last else self.accelerator.no_sync(self.passes):
                loss, logits = self.passes(shard_loss, shard)
                self.accelerator.backward(loss if scale == 1 else loss * scale)
            value += loss.item()
            correct += (logits.argmax(dim=1) == shard.labels).sum().item()
        value, correct = processes.summed([value, correct], self.accelerator)
        if not np.isfinite(value):
            raise TrainingError(
                f"the loss is {value} in epoch {self.state.epoch + 1}, step {batch.step} (keep ratio {ratio:.2f}, "
                f"{self.state.rates()}); images of this batch: {self.batches.indices[batch.positions].tolist()}. Look "
                "at them, lower the learning rates, or train in float32; the checkpoint that was there stays as it is"
            )
        for name, added in (("loss", value * count), ("correct", correct), ("images", count), ("ratio", ratio * count)):
            self.state.sums[name] += added
        return value

    def update(self, step: int) -> None:
        """Move the weights by the gradients. Never made twice: where memory runs out in here, some have moved."""
        if self.scheduler is not None:
            self.scheduler.step_update(step)
        if self.settings.clip_gradient is not None:
            self.accelerator.unscale_gradients()
            self.clip(self.settings.clip_gradient)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def clip(self, most: float) -> None:
        """Scale the gradient of what the optimiser moves to a norm of at most `most`."""
        nn.utils.clip_grad_norm_([one for group in self.optimizer.param_groups for one in group["params"]], most)

    def finish_epoch(self) -> None:
        """Judge the weights on val, add the epoch to the history, and keep the state."""
        self.state.check_finite()
        row = {"epoch": self.state.epoch + 1, **self.averages()}
        if self.val is not None:
            accuracies = validate(self.model, self.val, self.val_ratios, self.precision, self.accelerator)
            row |= {f"val_accuracy_{ratio:g}": accuracy for ratio, accuracy in accuracies.items()}
            row["val_accuracy"] = float(np.mean(list(accuracies.values())))
        self.state.end_epoch(row)
        self.save()
        self.files.write_history(self.state.history)

    def averages(self) -> dict[str, float]:
        """The epoch so far, as columns of the history."""
        return self.state.averages()

    def line(self) -> str:
        """The last epoch in one line, which stays where a progress bar does not (a log, an executed notebook)."""
        row = self.state.history[-1]
        val = f", val accuracy {row['val_accuracy']:.3f}" if "val_accuracy" in row else ""
        return (
            f"epoch {row['epoch']}/{self.settings.epochs}: loss {row['train_loss']:.3f}, train accuracy "
            f"{row['train_accuracy']:.3f}{val}, {row['images_per_second']:.0f} img/s, "
            f"{row['waiting_share']:.1%} of the time waiting for data"
        )

    def status(self) -> str:
        """What stands beside the progress bar."""
        return "loss {train_loss:.3f}, accuracy {train_accuracy:.3f}".format(**self.averages())

    @cached_property
    def key(self) -> str:
        """What makes this training this one: the state of a training with another key is not resumed."""
        data = self.batches.images.fingerprint, self.batches.indices.tolist()
        described = (self.settings, self.seed, self.precision, self.val_ratios, *data, self.identity)
        return format(derived_seed(*self.described(), *described), "x")

    def described(self) -> tuple:
        """The part of the key that is the recipe's own: its name, and its settings."""
        return (type(self).__name__,)

    def save(self) -> None:
        """Keep the state on the disk."""
        self.files.write_state(self.key, self.state, self.extra_state())

    def resume(self) -> None:
        """Go on where the kept state says, in all processes alike."""
        with processes.printing(self.accelerator):
            self.files.restore(self.key, self.state, self.load_extra)
        processes.check_same_place((self.state.epoch, self.state.step_in_epoch), self.accelerator)

    def finish(self) -> None:
        """What a recipe does at the end with the best weights, in eval mode."""

    def extra_state(self) -> dict:
        """What a recipe needs besides to go on."""
        return {}

    def load_extra(self, state: dict) -> None:
        """Take back what `extra_state` gave."""
