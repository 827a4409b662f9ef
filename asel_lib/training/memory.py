"""What is done where a batch does not fit into the memory of its device."""

from collections.abc import Callable

import torch

# torch has no class of its own for a CPU's; the last is that of the system.
SAID = ("out of memory", "not enough memory", "can't allocate memory", "cannot allocate memory")


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
