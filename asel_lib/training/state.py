"""The state of a training: all that it needs to go on where it stopped, and the file that holds it.

The file is safetensors, plain values as JSON in its header. Nothing in it can be run, unlike a pickle's content.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pandas as pd
import torch
from accelerate import PartialState
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from asel_lib.errors import TrainingError
from asel_lib.files import replace_file

TENSOR, PAIRS = "tensor", "pairs"  # what stands for a tensor, and for a dict whose keys are not all text


class TrainingState:
    """Where a training stands. `epoch` and `step_in_epoch`: how many lie behind; `history`: a row an epoch.

    Args:
        model: whose weights are part of the state.
        optimizer: whose moments and rates are.
        scaler: torch's gradient scaler, None where the precision needs none.
        summed: names of what is added up over the steps of an epoch (`sums`).
        steps_an_epoch: how many there are.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scaler: torch.amp.GradScaler | None,
        summed: Iterable[str],
        steps_an_epoch: int,
    ):
        self.model, self.optimizer, self.scaler, self.steps_an_epoch = model, optimizer, scaler, steps_an_epoch
        self.epoch, self.step_in_epoch = 0, 0
        self.sums = dict.fromkeys(summed, 0.0)
        self.history: list[dict] = []
        self.best_epoch, self.best_weights = 0, None

    def end_epoch(self, row: dict) -> None:
        """Add its row to the history, keep the weights if they are the best on val so far, and begin the next one."""
        self.history.append(row)
        best_so_far = self.history[self.best_epoch].get("val_accuracy", -1.0)
        if "val_accuracy" not in row or self.best_weights is None or row["val_accuracy"] > best_so_far:
            self.best_epoch = self.epoch
            self.best_weights = {k: v.detach().clone() for k, v in self.model.state_dict().items()}
        self.epoch, self.step_in_epoch = self.epoch + 1, 0
        self.sums = dict.fromkeys(self.sums, 0.0)

    def out_of_patience(self, patience: int | None) -> bool:
        """Whether so many epochs have gone by since the best on val; None, or without a val part: never."""
        judged = bool(self.history) and "val_accuracy" in self.history[-1]
        return judged and patience is not None and self.epoch - 1 - self.best_epoch >= patience

    def averages(self) -> dict[str, float]:
        """The epoch so far, as columns of the history."""
        sums, count = self.sums, max(1, self.sums["images"])
        return {
            "train_loss": sums["loss"] / count,
            "train_accuracy": sums["correct"] / count,
            "keep_ratio": sums["ratio"] / count,
            "images_per_second": count / max(sums["seconds"], 1e-9),
            "seconds": sums["seconds"],
            "waiting_share": sums["waiting"] / max(sums["seconds"], 1e-9),
        }

    def check_finite(self) -> None:
        """TrainingError where a weight is not a finite number: neither state nor checkpoint of it is worth keeping."""
        for name, value in self.model.state_dict().items():
            if value.is_floating_point() and not value.isfinite().all():
                raise TrainingError(
                    f"{name} is no longer finite in epoch {self.epoch + 1} ({self.rates()}): lower the learning rates, "
                    "or train in float32; the checkpoint that was there before stays as it is"
                )

    def rates(self) -> str:
        """The learning rates as they stand, for messages."""
        rates = sorted({group["lr"] for group in self.optimizer.param_groups})
        return f"learning rate {' / '.join(f'{rate:.3g}' for rate in rates)}"

    def state_dict(self) -> dict:
        return {
            "epoch": self.epoch,
            "step_in_epoch": self.step_in_epoch,
            "sums": self.sums,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "best_weights": self.best_weights,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else {},
        }

    def load_state_dict(self, state: dict) -> None:
        """Take back what `state_dict` gave.

        Args:
            state: that.
        """
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scaler:
            self.scaler.load_state_dict(state["scaler"])
        self.epoch, self.step_in_epoch, self.sums = state["epoch"], state["step_in_epoch"], state["sums"]
        self.history, self.best_epoch, self.best_weights = state["history"], state["best_epoch"], state["best_weights"]


@dataclass(frozen=True)
class Trained:
    """What `supervised.train` returns.

    Args:
        history: one row an epoch.
        best_epoch: from 0, that of the weights which the model was left with; without a val part the last one.
        val_accuracy: of these weights, mean over the val ratios; None without a val part.
    """

    history: pd.DataFrame
    best_epoch: int
    val_accuracy: float | None


class TrainingFiles:
    """Where a training keeps its state and its history, so that it can go on; of several processes the first writes.

    Args:
        state: the file of its state, None: none is kept.
        history: CSV, a row an epoch, None: none.
        seconds: how much time goes by between two states within an epoch.
    """

    def __init__(self, state: Path | None = None, history: Path | None = None, seconds: float = 60.0):
        self.state, self.history, self.seconds = state, history, seconds
        self.written_at = time.monotonic()

    def due(self) -> bool:
        """Whether it is time for a state within an epoch."""
        return time.monotonic() - self.written_at > self.seconds

    def write_state(self, key: str, state: TrainingState, extra: dict) -> None:
        """Keep the state.

        Args:
            key: what makes this training this one.
            state: checked first (`check_finite`).
            extra: what a recipe needs besides to go on.
        """
        state.check_finite()
        self.written_at = time.monotonic()
        _write_or_warn(self.state, lambda file: write_state(file, {"key": key, **state.state_dict(), "extra": extra}))

    def write_history(self, rows: list[dict]) -> None:
        """Write the history as a CSV file, where one is asked for.

        Args:
            rows: one an epoch.
        """
        _write_or_warn(self.history, lambda file: pd.DataFrame(rows).to_csv(file, index=False))

    def restore(self, key: str, state: TrainingState, load_extra: Callable[[dict], None]) -> None:
        """Put the state back that was kept, where there is one of this very training.

        Args:
            key: of the training.
            state: filled in place.
            load_extra: takes back the recipe's own part.
        """
        if self.state is None or not self.state.exists():
            return
        try:
            found = read_state(self.state, next(state.model.parameters()).device)
        except TrainingError as error:
            warnings.warn(f"{error}: training starts afresh", stacklevel=3)
            return
        if found.get("key") != key:
            print(f"{self.state.name}: state of another run (other settings or data), training starts afresh")
            return
        state.load_state_dict(found)
        load_extra(found["extra"])
        print(f"going on from epoch {state.epoch + 1}, step {state.step_in_epoch}/{state.steps_an_epoch}")


def _write_or_warn(path: Path | None, write: Callable[[BinaryIO], object]) -> None:
    """Losing the chance to resume, or a log, is no reason to lose the training."""
    try:
        if path is not None and PartialState().is_main_process:
            replace_file(path, write)
    except OSError as error:
        warnings.warn(f"training goes on, but {path} could not be written: {error}", stacklevel=4)


def write_state(file: BinaryIO, state: dict) -> None:
    """Write the values of a state.

    Args:
        file: open for writing.
        state: dicts, lists, tuples (read back as lists), tensors, numbers, text, None. TypeError for anything else.
    """
    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_taken_apart(state, tensors))
    file.write(save(tensors, {"state": plain}))


def read_state(path: Path, device: str | torch.device = "cpu") -> dict:
    """What `write_state` wrote.

    Args:
        path: of the file.
        device: where its tensors shall lie.

    Raises:
        TrainingError: where the file is torn or something else.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            plain = json.loads((file.metadata() or {})["state"])
            state = _put_together(plain, file.get_tensor)
        if not isinstance(state, dict):
            raise TypeError(f"a state is a dict, found {type(state).__name__}")
        return state
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(f"{path}: not a readable state of a training ({type(error).__name__}: {error})") from error


def _taken_apart(value: object, tensors: dict[str, Tensor]) -> object:
    """Plain values, with a numbered stand-in for each tensor, which goes into `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)  # none shares memory
        return {TENSOR: name}
    if isinstance(value, dict):
        return {PAIRS: [[key, _taken_apart(held, tensors)] for key, held in value.items()]}
    if isinstance(value, list | tuple):
        return [_taken_apart(held, tensors) for held in value]
    return value


def _put_together(value: object, tensor: Callable[[str], Tensor]) -> object:
    if isinstance(value, list):
        return [_put_together(held, tensor) for held in value]
    if isinstance(value, dict):
        return tensor(value[TENSOR]) if TENSOR in value else {k: _put_together(v, tensor) for k, v in value[PAIRS]}
    return value
