"""What a training does where a batch does not fit into the memory of its device: it passes in halves."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import nn

from asel_lib.data.batches import Batches
from asel_lib.errors import TrainingError

# torch has no class of its own for a CPU's; the last is that of the system.
SAID = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


class MemoryRetry:
    """Makes a step's gradients, in halves from the first time on that memory ran out.

    Args:
        model: whose buffers are as before where a step is made again.
        optimizer: whose gradients are cleared there.
        enabled: False: one try alone. Among several processes the others would wait for the one that tries again.
            An agent's steps do not come here: its environment makes them.
    """

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, enabled: bool):
        self.model, self.optimizer, self.enabled = model, optimizer, enabled
        self.parts = 1  # in which each shard of a batch passes

    def run(self, compute_gradients: Callable[[], None], count: int) -> None:
        """Make the gradients of a batch, again in halves where memory runs out.

        Args:
            compute_gradients: makes them; it reads `parts` anew each time.
            count: images of the batch.
        """
        if self.parts > 1 or not self.enabled:
            return compute_gradients()
        before = [buffer.clone() for buffer in self.model.buffers()]  # batch norm's averages move with each pass
        if not fits(compute_gradients):
            self.parts = 2
            self.optimizer.zero_grad()
            for buffer, value in zip(self.model.buffers(), before, strict=True):
                buffer.copy_(value)
            print(
                f"not enough memory for a batch of {count} images: from here on each passes in two halves, whose "
                "gradients are added up (the same step to rounding)",
                flush=True,
            )
            compute_gradients()


def fits(call: Callable[[], object]) -> bool:
    """Make the call; False where memory ran out, and what it had allocated is free again."""
    try:
        call()
        return True
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
    # Behind the except block: the error is gone, and with it the frames that held tensors.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return False


def out_of_memory(error: BaseException) -> bool:
    """Whether it says that memory ran out, on any device."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in SAID)


@contextlib.contextmanager
def out_of_memory_named(batches: Batches) -> Iterator[None]:
    """Where memory runs out in the block: TrainingError with the size of the batches and what to do."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingError(
            f"not enough memory on {batches.device} to train on batches of {batches.batch_size} images of "
            f"{batches.image_size} pixels ({error}): lower batch_size in the profile (now {batches.batch_size}), or "
            "end other programs that use it"
        ) from error
