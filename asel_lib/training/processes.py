"""Training in several processes, a GPU each: DistributedDataParallel, through accelerate and its launcher.

    accelerate launch --multi_gpu --num_processes 2 -m asel_lib.training warm_up --profile compact --recipe anytime

On a machine without GPUs the same line starts two processes on its cores (gloo); where there are GPUs that are not to
be used, add `--device cpu` at its end. `accelerate launch --cpu` is no way to start several: it starts a single one
(accelerate 1.15). torchrun does as well.

Every process goes through the same steps with its share of each batch (`training.sharding`); each loss is a sum over
images, divided by the size of the whole batch, so that the sum over processes is the batch's. The first process alone
writes and prints.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, parse_flag_from_env
from torch import Tensor, nn

from asel_lib.devices import default_device
from asel_lib.errors import TrainingError
from asel_lib.training.sharding import Shard

PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}  # what accelerate calls them


def joined(device: str | torch.device | None = None) -> PartialState:
    """This process among those that were launched with it (`accelerate launch`, torchrun), or alone; the answer's
    `device` is where it computes.

    Args:
        device: "cuda" or "cpu"; None: a GPU if there is one, unless accelerate was told --cpu.

    Raises:
        ValueError: for another device than the processes were launched on, and where GPUs are fewer than processes.
    """
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") if device is None else torch.device(device).type == "cpu"
    on_cpu = on_cpu or default_device().type == "cpu"
    here = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if not on_cpu and here > (gpus := torch.cuda.device_count()):
        raise ValueError(
            f"{here} processes were launched on a machine with {gpus} GPUs: launch one for each at most "
            f"(--num_processes {gpus}), or use its cores (--device cpu)"
        )
    state = PartialState(cpu=on_cpu)
    if (state.device.type == "cpu") == on_cpu:
        return state
    if state.num_processes > 1:
        raise ValueError(
            f"device is {str(device)!r}, but {state.num_processes} processes are at work on {state.device.type}: "
            "leave it out, or name it from the first call on"
        )
    AcceleratorState._reset_state(True)  # alone, and another device than in the training before: begin anew
    return PartialState(cpu=on_cpu)


def check_alone(state: PartialState) -> None:
    """Refuse that an agent learns in several processes.

    Args:
        state: of the processes.

    Raises:
        ValueError: where there are several.
    """
    if state.num_processes > 1:
        raise ValueError(
            f"an agent learns in one process, and {state.num_processes} were launched: it chooses one mask for a whole "
            "batch, from the attention of all its images. Start it without accelerate launch; many such trainings run "
            "side by side (docs/cluster.md)"
        )


def accelerator(device: torch.device, precision: str) -> Accelerator:
    """The Accelerator of one training.

    Args:
        device: where the training computes.
        precision: a resolved one (`devices.resolve_precision`).

    Raises:
        ValueError: for float16 on a CPU, where accelerate would train in float32 and say nothing.
    """
    if precision == "float16" and device.type == "cpu":
        raise ValueError("precision is 'float16', which trains on a GPU alone: take bfloat16 or float32 on a CPU")
    joined(device)
    # It keeps the first one's precision for the life of the process; in a notebook, trainings differ.
    AcceleratorState._reset_state()
    # Which parameters take part differs: a selector where patches are chosen, none where a process has no image left.
    uneven = DistributedDataParallelKwargs(find_unused_parameters=True, broadcast_buffers=False)
    return Accelerator(
        mixed_precision=PRECISIONS[precision],
        cpu=device.type == "cpu",
        device_placement=False,
        kwargs_handlers=[uneven],
    )


class Passes(nn.Module):
    """The module that accelerate wraps. A step calls the model several times, and its selector apart; DDP, and
    autocast, are to see all of that as one pass."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, shard_loss: Callable[[Shard], tuple[Tensor, Tensor]], shard: Shard) -> tuple[Tensor, Tensor]:
        return shard_loss(shard)


def summed(values: Sequence[float], accelerator: Accelerator) -> list[float]:
    """Numbers of each process -> their sums over all processes; of one alone, the very same.

    Args:
        values: of this process.
        accelerator: of the training.
    """
    if accelerator.num_processes == 1:
        return list(values)
    return accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=accelerator.device), "sum").tolist()


def mean(values: Tensor, accelerator: Accelerator) -> Tensor:
    """The mean of all processes' values, a scalar without a gradient to the others'.

    Args:
        values: (n,), of this process.
        accelerator: of the training.
    """
    if accelerator.num_processes == 1:
        return values.mean()
    total = torch.stack([values.sum(), values.new_tensor(float(len(values)))])
    total = accelerator.reduce(total, "sum")
    return total[0] / total[1].clamp_min(1)


def check_same_place(place: Sequence[int], accelerator: Accelerator) -> None:
    """Refuse that processes go on from different places.

    Args:
        place: epoch and step in it, of this process.
        accelerator: of the training.

    Raises:
        TrainingError: names the places.
    """
    if [value * accelerator.num_processes for value in place] != summed(place, accelerator):
        raise TrainingError(
            f"process {accelerator.process_index} would go on from epoch {place[0] + 1}, step {place[1]}, and others "
            "from elsewhere: put the results (ASEL_ROOT) on a disk that all machines share, or remove the state file"
        )


def printing(state: PartialState) -> contextlib.AbstractContextManager:
    """All but the first process are silent."""
    return contextlib.nullcontext() if state.is_main_process else contextlib.redirect_stdout(io.StringIO())


@contextlib.contextmanager
def sync_batchnorm(model: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """For the time of an epoch, batch norms normalise by the images of all processes. torch's SyncBatchNorm does so on
    GPUs alone, so that nothing of it could be tested on a CPU.

    Args:
        model: whose batch norms.
        accelerator: of the training.
    """
    found = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    norms = found if accelerator.num_processes > 1 else []
    for norm in norms:
        norm.forward = partial(_normalised, norm)
    try:
        yield
    finally:
        for norm in norms:
            del norm.forward


def _normalised(norm: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """(B, C, h, w) -> the same, as `norm` makes it of all processes' images together."""
    if not norm.training:
        return nn.BatchNorm2d.forward(norm, x)
    places = (0, 2, 3)
    count = _AllReduce.apply(x.new_tensor(float(x.numel() // x.shape[1])))
    average = _AllReduce.apply(x.sum(places)) / count
    centred = x - average[:, None, None]
    variance = _AllReduce.apply(centred.square().sum(places)) / count
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(average, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return centred * scale[:, None, None] + norm.bias[:, None, None]


class _AllReduce(torch.autograd.Function):
    """The sum over all processes, whose gradient is the sum of theirs. torch's own of this name
    (`torch.distributed.nn.functional.all_reduce`) is deprecated from 2.15 on for one in a private module; a test
    compares the two."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return _AllReduce.forward(ctx, gradient)
