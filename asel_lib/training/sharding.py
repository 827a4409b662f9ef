"""A process's share of a batch: which images it takes, in how many passes, and what it draws at random for them.

A batch is that of all processes together. Its images are dealt out to them like cards, and all that is random is drawn
for the whole batch, of which each process keeps its rows (`reproducibility.BatchSliceGenerator`). So the result does
not depend on the number of processes or passes, beyond rounding.
"""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from asel_lib.data.batches import Batches
from asel_lib.devices import reads_ahead
from asel_lib.reproducibility import BatchSliceGenerator, generator


class TrainBatch(NamedTuple):
    """One batch, as a process has it.

    Args:
        step: number of the batch in the whole training.
        positions: (count,) places in the training part, of all the batch's images.
        images: (B, 3, S, S), those of this process, in the order of its shards.
        labels: (B,), theirs.
        lines: (B, 1, h, w), their line drawings, or None.
    """

    step: int
    positions: np.ndarray
    images: Tensor
    labels: Tensor
    lines: Tensor | None = None


@dataclass(frozen=True)
class Shard:
    """Images that pass through the model together; none where a batch has fewer images than there are processes.

    Args:
        images: (b, 3, S, S).
        labels: (b,).
        lines: (b, 1, h, w) or None.
        rows: (b,) their places in the batch, ascending.
        count: how many images the whole batch has.
        start: offset in this process's share of the batch.
        last: whether this is the process's last shard of the batch.
    """

    images: Tensor
    labels: Tensor
    lines: Tensor | None
    rows: np.ndarray
    count: int
    start: int
    last: bool

    @property
    def share(self) -> float:
        """Which share of the batch's images is in here."""
        return len(self.rows) / self.count


def shard_rows(order: np.ndarray, accelerator: Accelerator, parts: int = 1) -> list[np.ndarray]:
    """The rows of each shard of this process, ascending; a shard for each of accelerate's accumulation steps.

    Args:
        order: (count,) all rows of a batch, in the order in which they are dealt out.
        parts: into how many each shard is split once more.
        accelerator: says how many processes and accumulation steps there are.
    """
    processes, passes = accelerator.num_processes, accelerator.gradient_accumulation_steps
    hands = [np.sort(order[first :: processes * passes]) for first in range(processes * passes)]
    mine = hands[accelerator.process_index :: processes]
    if parts == 1:
        return mine
    return [part for rows in mine for part in np.array_split(rows, parts) if len(part)]


def shards(batch: TrainBatch, rows: list[np.ndarray]) -> Iterator[Shard]:
    """The shards of a process's batch.

    Args:
        batch: the process's images.
        rows: of each shard, as `shard_rows` gave them.
    """
    start = 0
    for number, some in enumerate(rows, 1):
        mine = slice(start, start + len(some))
        lines = None if batch.lines is None else batch.lines[mine]
        last = number == len(rows)
        yield Shard(batch.images[mine], batch.labels[mine], lines, some, len(batch.positions), start, last)
        start += len(some)


def batch_generator(rows: np.ndarray, count: int, *use: object) -> torch.Generator | BatchSliceGenerator:
    """The generator of one use (`reproducibility.generator`) for some images of a batch.

    Args:
        rows: of the images.
        count: images of the whole batch.
        use: what it is for.
    """
    drawn = generator(*use)
    return drawn if np.array_equal(rows, np.arange(count)) else BatchSliceGenerator(drawn, count, rows)


def zero_loss(model: nn.Module) -> Tensor:
    """The loss of no image: 0, with a gradient of 0 to what has one already, or to the head, so that a process without
    images takes part in adding up the others' gradients."""
    touched = [p for p in model.parameters() if p.grad is not None] or list(model.head.parameters())
    return sum(0.0 * parameter.sum() for parameter in touched)


def read_batches(
    batches: Batches, augmentation: str, seed: int, epoch: int, first: int, rows_of: Callable[[int], np.ndarray]
) -> Iterator[TrainBatch]:
    """The batches of an epoch from its `first` on, shuffled and augmented.

    Each is made ready while the model works on the one before it, where that is faster (`devices.reads_ahead`).

    Args:
        batches: the training part.
        augmentation: see `data.batches.augment`.
        seed: with the epoch it gives the order, with the step the augmentation.
        epoch: from 0.
        first: how many batches of the epoch lie behind.
        rows_of: size of a batch -> the rows that this process takes of it.
    """
    order = torch.randperm(len(batches.indices), generator=generator(seed, "order", epoch)).numpy()

    def read(number: int) -> TrainBatch:
        step = epoch * len(batches) + number
        positions = order[number * batches.batch_size : (number + 1) * batches.batch_size]
        rows = rows_of(len(positions))
        noise = batch_generator(rows, len(positions), seed, "augment", step)
        return TrainBatch(step, positions, *batches.take(positions[rows], augmentation, noise))

    numbers = range(first, len(batches))
    return _one_ahead(read, numbers) if reads_ahead(batches.device) else map(read, numbers)


def _one_ahead(read: Callable[[int], TrainBatch], numbers: Iterable[int]) -> Iterator[TrainBatch]:
    """What `read` returns for each number, made by a second thread, one ahead of what is asked for."""
    with ThreadPoolExecutor(1) as reader:
        ready = None
        for number in numbers:
            coming = reader.submit(read, number)
            if ready is not None:
                yield ready.result()
            ready = coming
        if ready is not None:
            yield ready.result()
