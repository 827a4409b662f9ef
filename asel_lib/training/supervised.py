"""The training loop: every recipe, every data set, every stage goes through `train`. What happens in a step is
`Run.steps`; AgentViT has its own (`training.reinforcement`).

All randomness of a step is derived from (seed, use, epoch or step), so a run that was killed goes on from its last
saved state and ends with the weights of an uninterrupted one, bit for bit on a CPU in float32. Where it was launched in
several processes (`training.processes`), these share each batch.
"""

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from asel_lib.configs import StageSettings
from asel_lib.data.batches import Batches
from asel_lib.devices import autocast, fast_backward, reads_ahead
from asel_lib.errors import TrainingError
from asel_lib.files import replace_file
from asel_lib.reproducibility import PartOf, derived_seed, generator
from asel_lib.training import memory, objectives, optimizers, processes
from asel_lib.training.processes import Piece
from asel_lib.training.state import read_state, write_state


@dataclass(frozen=True)
class Trained:
    """history: one row an epoch. best_epoch and val_accuracy belong to the weights that the model was left with;
    without a val part they are the last epoch's and None."""

    history: pd.DataFrame
    best_epoch: int
    val_accuracy: float | None


def train(
    model: nn.Module,
    batches: Batches,
    val: Batches | None,
    settings: StageSettings,
    *,
    recipe: str,
    seed: int,
    precision: str = "float32",
    val_ratios: tuple[float, ...] = (0.2, 0.5, 1.0),
    identity: str = "",
    state_file: Path | None = None,
    history_file: Path | None = None,
    save_seconds: float = 60.0,
    progress: bool = True,
    kind: Callable | None = None,
    pieces: int | None = None,
) -> Trained:
    """Train the model in place and leave it, in eval mode, with the weights of the epoch that was best on val: the
    mean accuracy of its own selector at `val_ratios`. It ends early where `settings.patience` runs out.

    state_file: where the state is kept every `save_seconds` and after each epoch; where it holds the state of this
    very run, training goes on from there. Whoever saves the result removes it. identity: what else makes this run this
    run (architecture, the weights it starts from, the val part). history_file: CSV, a row an epoch.
    kind: the Run that makes the steps, None: this module's. pieces: in how many passes each process takes its images of
    a batch, which needs less memory and changes nothing beyond rounding; None: as launched (accelerate's gradient
    accumulation steps), else 1.
    Dropout inside the model draws from torch's global generator, so a run with it resumes, but not bit for bit, and
    comes out otherwise in several processes.
    TrainingError with the batch's indices where the loss is not finite, or where memory runs out: of one process after
    the batch was halved, of several and of an agent's at once.
    """
    run = (kind or Run)(model, batches, val, settings, recipe, seed, precision, val_ratios, state_file, history_file)
    run.key = format(derived_seed(run.key, identity), "x")
    run.save_seconds = save_seconds
    if pieces is not None:
        run.accelerator.gradient_accumulation_steps = pieces
    run.resume()
    try:
        _epochs(run, progress and run.accelerator.is_main_process)
    except (RuntimeError, MemoryError) as error:
        if not memory.out_of_memory(error):
            raise
        raise TrainingError(
            f"not enough memory on {batches.device} to train on batches of {batches.batch_size} images of "
            f"{batches.image_size} pixels ({error}): lower batch_size in the profile (now {settings.batch_size}), or "
            "end other programs that use it"
        ) from error
    if run.best_weights is not None:
        model.load_state_dict(run.best_weights)
    model.eval()
    best = None if val is None else run.history[run.best_epoch]["val_accuracy"]
    return Trained(pd.DataFrame(run.history), run.best_epoch, best)


def _epochs(run: "Run", progress: bool) -> None:
    """Those that are left."""
    for epoch in range(run.epoch, run.settings.epochs):
        if run.out_of_patience():
            if progress:
                print(f"no better val accuracy in {run.settings.patience} epochs: stopped", flush=True)
            break
        run.train_epoch(epoch, progress)
        run.finish_epoch(epoch)
        if progress:
            print(run.line(), flush=True)


@torch.inference_mode()
def validate(model: nn.Module, batches: Batches, ratios: tuple[float, ...], precision: str) -> dict[float, float]:
    """Top-1 accuracy of the model's own selector at each keep ratio."""
    model.eval()
    correct = {ratio: 0 for ratio in ratios}
    for images, labels, *drawn in batches:
        lines = drawn[0] if drawn else None
        for ratio in ratios:
            with autocast(images.device, precision):
                correct[ratio] += (model(images, ratio, lines=lines).argmax(dim=1) == labels).sum().item()
    return {ratio: count / len(batches.indices) for ratio, count in correct.items()}


class Run:
    """The state of one training run, and how it is saved and taken up again."""

    summed = ("loss", "correct", "images", "seconds", "waiting", "ratio")  # over the steps of an epoch
    left_out = ()  # parts of the model that are not the classifier's optimiser's, by the beginning of their names

    def __init__(self, model, batches, val, settings, recipe, seed, precision, val_ratios, state_file, history_file):
        self.model, self.batches, self.val, self.settings = model, batches, val, settings
        self.recipe, self.seed, self.precision, self.val_ratios = recipe, seed, precision, val_ratios
        self.state_file, self.history_file = state_file, history_file
        self.save_seconds, self.saved_at = 60.0, time.monotonic()
        self.epoch, self.step_in_epoch = 0, 0
        self.accelerator = processes.accelerator(batches.device, precision)
        self.sums = dict.fromkeys(self.summed, 0.0)
        self.history: list[dict] = []
        self.best_epoch, self.best_weights = 0, None
        self.parts = 1  # in which each piece of a batch goes through the model
        self.steps_an_epoch = len(batches)
        optimizer = optimizers.optimizer(model, settings, self.left_out)
        self.optimizer = self.accelerator.prepare_optimizer(optimizer)
        self.passes = self.accelerator.prepare_model(processes.Passes(model))
        self.scheduler = optimizers.scheduler(optimizer, settings, self.steps_an_epoch)
        # What makes this run this run: a state with another key is not taken up.
        self.key = format(
            derived_seed(
                settings, recipe, seed, precision, val_ratios, batches.images.fingerprint, batches.indices.tolist()
            ),
            "x",
        )

    def train_epoch(self, epoch: int, progress: bool) -> None:
        self.model.train()
        total, done = len(self.batches.indices), self.step_in_epoch * self.batches.batch_size
        title = f"epoch {epoch + 1}/{self.settings.epochs}"
        bar = tqdm(total=total, initial=done, desc=title, unit="img", leave=False, disable=not progress)
        together = processes.joint_statistics(self.model, self.accelerator)
        with bar, fast_backward(self.model, self.batches.device), together:
            started = time.perf_counter()
            for images in self.steps(epoch):
                self.sums["seconds"] += time.perf_counter() - started
                self.step_in_epoch += 1
                if self.step_in_epoch % 10 == 1 or self.step_in_epoch == self.steps_an_epoch:
                    bar.set_postfix_str(self.status(), refresh=False)
                bar.update(images)
                if time.monotonic() - self.saved_at > self.save_seconds:
                    self.save()
                started = time.perf_counter()

    def steps(self, epoch: int) -> Iterator[int]:
        """Train on the batches of an epoch that are left; yields the number of images after each."""
        for step, *batch in self.feed(epoch):
            self._fitting(partial(self._step, epoch, step, *batch), len(batch[0]))
            self.update(step)
            yield len(batch[0])

    def _fitting(self, step: Callable[[], None], count: int) -> None:
        """The gradients of a step. Where memory runs out they are computed again in two halves, and so are those of all
        steps that follow; not among several processes, of which the others would wait."""
        if self.parts > 1 or self.accelerator.num_processes > 1:
            return step()
        before = [buffer.clone() for buffer in self.model.buffers()]  # batch norm's averages move with each pass
        if not memory.fits(step):
            self.parts = 2
            self.optimizer.zero_grad()
            for buffer, value in zip(self.model.buffers(), before, strict=True):
                buffer.copy_(value)
            print(
                f"not enough memory for a batch of {count} images: from here on each passes in two halves, whose "
                "gradients are added up (the same step to rounding)",
                flush=True,
            )
            step()

    def deal(self, count: int) -> np.ndarray:
        """The images of a batch of that size in the order in which they are dealt out to processes and pieces."""
        return np.arange(count)

    def feed(self, epoch: int) -> Iterator[tuple]:
        """(step of the run, positions, images, labels[, lines]) of the batches of an epoch that are left, each made
        ready while the model works on the one before it where that is faster. positions: the whole batch's; images,
        labels and lines: those of this process, in the order of its pieces."""
        order = torch.randperm(len(self.batches.indices), generator=generator(self.seed, "order", epoch)).numpy()
        size, first = self.batches.batch_size, self.step_in_epoch

        def read(step: int):
            chosen = order[step * size : (step + 1) * size]
            rows = np.concatenate(processes.dealt(self.deal(len(chosen)), self.accelerator))
            noise = self.drawing(rows, len(chosen), "augment", epoch * self.steps_an_epoch + step)
            return chosen, *self.batches.take(chosen[rows], self.settings.augmentation, noise)

        if reads_ahead(self.batches.device):
            with ThreadPoolExecutor(1) as reader:
                ahead = reader.submit(read, first) if first < self.steps_an_epoch else None
                for step in range(first, self.steps_an_epoch):
                    started = time.perf_counter()
                    batch = ahead.result()
                    self.sums["waiting"] += time.perf_counter() - started
                    if step + 1 < self.steps_an_epoch:
                        ahead = reader.submit(read, step + 1)
                    yield epoch * self.steps_an_epoch + step, *batch
            return
        for step in range(first, self.steps_an_epoch):
            started = time.perf_counter()
            batch = read(step)
            self.sums["waiting"] += time.perf_counter() - started
            yield epoch * self.steps_an_epoch + step, *batch

    def drawing(self, rows: np.ndarray, count: int, *use: object) -> torch.Generator | PartOf:
        """The generator of that use, for these images of a batch of `count`."""
        drawn = generator(self.seed, *use)
        return drawn if np.array_equal(rows, np.arange(count)) else PartOf(drawn, count, rows)

    def _step(
        self, epoch: int, step: int, positions: np.ndarray, images: Tensor, labels: Tensor, lines: Tensor | None = None
    ) -> None:
        ratio = objectives.keep_ratio(self.settings, self.seed, epoch, step)

        def compute(piece: Piece) -> tuple[Tensor, Tensor]:
            if not len(piece.rows):
                return processes.untouched(self.model), images.new_zeros(0, self.model.num_classes)
            loss, logits = objectives.loss(
                self.model,
                piece.images,
                piece.labels,
                piece.lines,
                recipe=self.recipe,
                ratio=ratio,
                sparsity=self.settings.sparsity,
                noise=self.drawing(piece.rows, piece.count, "noise", step),
                draw=derived_seed(self.seed, "draw", step),
            )
            return loss * piece.share, logits

        self.gradients(compute, positions, images, labels, lines, step, ratio)

    def gradients(
        self,
        compute: Callable[[Piece], tuple[Tensor, Tensor]],
        positions: np.ndarray,
        images: Tensor,
        labels: Tensor,
        lines: Tensor | None,
        step: int,
        ratio: float,
    ) -> float:
        """The gradients of one step, and its share of the epoch's sums. compute(piece) -> (its share of the batch's
        loss, its logits). -> the batch's loss; TrainingError where it is not finite."""
        value = correct = 0.0
        for piece in self.pieces(len(positions), images, labels, lines):
            with contextlib.nullcontext() if piece.last else self.accelerator.no_sync(self.passes):
                loss, logits = self.passes(compute, piece)
                self._backward(loss)
            value += loss.item()
            correct += (logits.argmax(dim=1) == piece.labels).sum().item()
        value, correct = processes.added([value, correct], self.accelerator)
        if not np.isfinite(value):
            indices = self.batches.indices[positions]
            raise TrainingError(
                f"the loss is {value} in epoch {self.epoch + 1}, step {step} (keep ratio {ratio:.2f}, {self.rates()}); "
                f"images of this batch: {indices.tolist()}. Look at them, lower the learning rates, or train in "
                "float32; the checkpoint that was there before stays as it is"
            )
        self.sums["loss"] += value * len(positions)
        self.sums["correct"] += correct
        self.sums["images"] += len(positions)
        self.sums["ratio"] += ratio * len(positions)
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

    def pieces(self, count: int, images: Tensor, labels: Tensor, lines: Tensor | None) -> Iterator[Piece]:
        """A batch of `count`, of which this process has these images."""
        hands = processes.dealt(self.deal(count), self.accelerator)
        if self.parts > 1:
            hands = [part for rows in hands for part in np.array_split(rows, self.parts) if len(part)]
        start = 0
        for number, rows in enumerate(hands, 1):
            mine = slice(start, start + len(rows))
            drawn = None if lines is None else lines[mine]
            yield Piece(images[mine], labels[mine], drawn, rows, count, start, number == len(hands))
            start += len(rows)

    def _backward(self, loss: Tensor) -> None:
        # DDP takes the mean over processes, accelerate divides by the number of pieces: the batch's loss is their sum.
        parts = self.accelerator.num_processes * self.accelerator.gradient_accumulation_steps
        self.accelerator.backward(loss if parts == 1 else loss * parts)

    def clip(self, most: float) -> None:
        """Scale the gradient of what the optimiser moves to a norm of at most `most`."""
        mine = [parameter for group in self.optimizer.param_groups for parameter in group["params"]]
        nn.utils.clip_grad_norm_(mine, most)

    def finish_epoch(self, epoch: int) -> None:
        self.check_finite()
        row = {"epoch": epoch + 1, **self.averages()}
        if self.val is not None:
            accuracies = self._validated()
            row |= {f"val_accuracy_{ratio:g}": accuracy for ratio, accuracy in accuracies.items()}
            row["val_accuracy"] = float(np.mean(list(accuracies.values())))
        self.history.append(row)
        best_so_far = self.history[self.best_epoch].get("val_accuracy", -1.0)
        if self.val is None or self.best_weights is None or row["val_accuracy"] > best_so_far:
            self.best_epoch = epoch
            self.best_weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.epoch, self.step_in_epoch = epoch + 1, 0
        self.sums = dict.fromkeys(self.summed, 0.0)
        self.save()
        self._write(self.history_file, lambda file: pd.DataFrame(self.history).to_csv(file, index=False))

    def _validated(self) -> dict[float, float]:
        """Accuracies on val; each process classifies its share of the images."""
        accelerator, count = self.accelerator, len(self.val.indices)
        mine = np.arange(count)[accelerator.process_index :: accelerator.num_processes]
        if len(mine) == count:
            return validate(self.model, self.val, self.val_ratios, self.precision)
        found = dict.fromkeys(self.val_ratios, 0.0)
        if len(mine):
            found = validate(self.model, self.val.only(mine), self.val_ratios, self.precision)
        right = processes.added([round(share * len(mine)) for share in found.values()], accelerator)
        return {ratio: correct / count for ratio, correct in zip(found, right, strict=True)}

    def out_of_patience(self) -> bool:
        """Whether `patience` epochs have gone by since the best on val."""
        patience = self.settings.patience
        return self.val is not None and patience is not None and self.epoch - 1 - self.best_epoch >= patience

    def line(self) -> str:
        """The last epoch in one line, which stays where a progress bar does not (a log, an executed notebook)."""
        row = self.history[-1]
        val = f", val accuracy {row['val_accuracy']:.3f}" if "val_accuracy" in row else ""
        return (
            f"epoch {row['epoch']}/{self.settings.epochs}: loss {row['train_loss']:.3f}, train accuracy "
            f"{row['train_accuracy']:.3f}{val}, {row['images_per_second']:.0f} img/s, "
            f"{row['waiting_share']:.1%} of the time waiting for data"
        )

    def status(self) -> str:
        """What stands beside the progress bar."""
        row = self.averages()
        return f"loss {row['train_loss']:.3f}, accuracy {row['train_accuracy']:.3f}"

    def averages(self) -> dict[str, float]:
        """The epoch so far, as columns of the history."""
        count = max(1, self.sums["images"])
        return {
            "train_loss": self.sums["loss"] / count,
            "train_accuracy": self.sums["correct"] / count,
            "keep_ratio": self.sums["ratio"] / count,
            "images_per_second": count / max(self.sums["seconds"], 1e-9),
            "seconds": self.sums["seconds"],
            "waiting_share": self.sums["waiting"] / max(self.sums["seconds"], 1e-9),
        }

    def rates(self) -> str:
        """The learning rates as they stand, for messages."""
        rates = sorted({group["lr"] for group in self.optimizer.param_groups})
        return f"learning rate {' / '.join(f'{rate:.3g}' for rate in rates)}"

    def check_finite(self) -> None:
        """TrainingError where a weight is none: neither state nor checkpoint of it is worth keeping."""
        for name, value in self.model.state_dict().items():
            if value.is_floating_point() and not value.isfinite().all():
                raise TrainingError(
                    f"{name} is no longer finite in epoch {self.epoch + 1} ({self.rates()}): lower the learning rates, "
                    "or train in float32; the checkpoint that was there before stays as it is"
                )

    def save(self) -> None:
        self.check_finite()
        self.saved_at = time.monotonic()
        state = {
            "key": self.key,
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "sums": self.sums,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.accelerator.scaler.state_dict() if self.accelerator.scaler else {},
            "more": self.more_state(),
        }
        self._write(self.state_file, lambda file: write_state(file, state))

    def more_state(self) -> dict:
        """What a kind of run needs besides to go on; `take_up` is given it back."""
        return {}

    def take_up(self, state: dict) -> None:
        pass

    def _write(self, path: Path | None, write) -> None:
        try:
            if path is not None and self.accelerator.is_main_process:
                replace_file(path, write)
        except OSError as error:
            # Losing the chance to resume, or a log, is no reason to lose the run.
            warnings.warn(f"training goes on, but {path} could not be written: {error}", stacklevel=3)

    def resume(self) -> None:
        """Go on where the state file says, in all processes."""
        with processes.printing(self.accelerator):
            self._take_up()
        processes.same_place((self.epoch, self.step_in_epoch), self.accelerator)

    def _take_up(self) -> None:
        if self.state_file is None or not self.state_file.exists():
            return
        try:
            state = read_state(self.state_file, self.batches.device)
        except TrainingError as error:
            warnings.warn(f"{error}: training starts afresh", stacklevel=3)
            return
        if state.get("key") != self.key:
            print(f"{self.state_file.name}: state of another run (other settings or data), training starts afresh")
            return
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.take_up(state.get("more", {}))  # states of earlier versions have none
        self.epoch, self.step_in_epoch, self.sums = state["epoch"], state["step_in_epoch"], state["sums"]
        self.history, self.best_epoch, self.best_weights = state["history"], state["best_epoch"], state["best_weights"]
        print(f"going on from epoch {self.epoch + 1}, step {self.step_in_epoch}/{self.steps_an_epoch}")
