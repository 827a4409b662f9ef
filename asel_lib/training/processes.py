"""Training in several processes, a GPU each (DistributedDataParallel, through accelerate), or in several passes.

What comes out does not depend on how many they are, beyond rounding: a batch is that of all processes together, each
has some of its images, all that is drawn at random is drawn for the whole of it (`reproducibility.PartOf`), and every
loss is a sum over images, divided by the size of the whole batch. Every process goes through the same steps; the first
one writes and prints.
"""

import contextlib
import io
import os
import signal
import socket
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs, parse_flag_from_env
from torch import Tensor, nn
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from asel_lib import checks
from asel_lib.devices import default_device
from asel_lib.errors import TrainingError
from asel_lib.reproducibility import cores

PRECISIONS = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}  # what accelerate calls them


@dataclass(frozen=True)
class Piece:
    """Images that pass together. rows: their places in the batch of `count`, ascending; `start`: how many this process
    has of the batch before them; `last`: of this process'. Empty where a batch has fewer images than processes."""

    images: Tensor
    labels: Tensor
    lines: Tensor | None
    rows: np.ndarray
    count: int
    start: int
    last: bool

    @property
    def share(self) -> float:
        """Of the batch's images, those in here."""
        return len(self.rows) / self.count


def joined(device: str | torch.device | None = None) -> PartialState:
    """This process among those that were launched with it (`accelerate launch`, torchrun, `launch`), or alone; its
    `device`: where it computes. device: "cuda" or "cpu", None: a GPU if there is one, unless launched with --cpu.
    ValueError for another than the processes were launched on."""
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") if device is None else torch.device(device).type == "cpu"
    on_cpu = on_cpu or default_device().type == "cpu"
    state = PartialState(cpu=on_cpu)
    if (state.device.type == "cpu") == on_cpu:
        return state
    if state.num_processes > 1:
        raise ValueError(
            f"device is {str(device)!r}, but {state.num_processes} processes were launched on {state.device.type}: "
            "leave it out, or launch them with --cpu"
        )
    AcceleratorState._reset_state(True)  # alone, and another device than in the training before: begin anew
    return PartialState(cpu=on_cpu)


def check(processes: int, state: PartialState, alone: bool = False) -> None:
    """ValueError for a number of processes that a training cannot be shared by; `alone`: it cannot be shared."""
    checks.whole("processes", processes, 1)
    if alone and max(processes, state.num_processes) > 1:
        raise ValueError(
            f"an agent learns in one process, and {max(processes, state.num_processes)} were asked for: it chooses one "
            "mask for a whole batch, from the attention of all its images. Leave processes at 1; many such trainings "
            "run side by side (docs/cluster.md)"
        )
    if processes > 1 and state.device.type == "cuda" and processes > (there := torch.cuda.device_count()):
        raise ValueError(f"processes is {processes}, and this machine has {there} GPUs: one for each, at most")


def accelerator(device: torch.device, precision: str) -> Accelerator:
    """Made once for each training. precision: a resolved one (`devices.resolve_precision`). ValueError for float16 on a
    CPU, where accelerate would train in float32 and say nothing."""
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

    def forward(self, compute: Callable[[Piece], tuple[Tensor, Tensor]], piece: Piece) -> tuple[Tensor, Tensor]:
        return compute(piece)


def dealt(order: np.ndarray, accelerator: Accelerator) -> list[np.ndarray]:
    """The images of a batch (all its rows, in the order in which they are dealt out like cards) -> rows of each piece
    of this process, ascending; pieces: accelerate's gradient accumulation steps."""
    processes, pieces = accelerator.num_processes, accelerator.gradient_accumulation_steps
    hands = [np.sort(order[first :: processes * pieces]) for first in range(processes * pieces)]
    return hands[accelerator.process_index :: processes]


def added(values: Sequence[float], accelerator: Accelerator) -> list[float]:
    """Numbers of this process -> their sums over all processes; of one alone, the very same."""
    if accelerator.num_processes == 1:
        return list(values)
    return accelerator.reduce(torch.tensor(values, dtype=torch.float64, device=accelerator.device), "sum").tolist()


def mean(values: Tensor, accelerator: Accelerator) -> Tensor:
    """The mean of all processes' values (n), n differing and possibly 0; no gradient goes through it."""
    if accelerator.num_processes == 1:
        return values.mean()
    total = torch.stack([values.sum(), values.new_tensor(float(len(values)))])
    total = accelerator.reduce(total, "sum")
    return total[0] / total[1].clamp_min(1)


def untouched(model: nn.Module) -> Tensor:
    """The loss of no image: 0, with a gradient of 0 to what has one already, or to the head, so that a process without
    images takes part in adding up the others' gradients."""
    touched = [p for p in model.parameters() if p.grad is not None] or list(model.head.parameters())
    return sum(0.0 * parameter.sum() for parameter in touched)


def same_place(place: Sequence[int], accelerator: Accelerator) -> None:
    """TrainingError where processes go on from different places."""
    if [value * accelerator.num_processes for value in place] != added(place, accelerator):
        raise TrainingError(
            f"process {accelerator.process_index} would go on from epoch {place[0] + 1}, step {place[1]}, and others "
            "from elsewhere: put the results (ASEL_ROOT) on a disk that all machines share, or remove the state file"
        )


@contextlib.contextmanager
def joint_statistics(model: nn.Module, accelerator: Accelerator) -> Iterator[None]:
    """For the time of an epoch, batch norms normalise by the images of all processes. torch's SyncBatchNorm does so on
    GPUs alone, so that nothing of it could be tested on a CPU."""
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
    count = _Sum.apply(x.new_tensor(float(x.numel() // x.shape[1])))
    average = _Sum.apply(x.sum(places)) / count
    centred = x - average[:, None, None]
    variance = _Sum.apply(centred.square().sum(places)) / count
    with torch.no_grad():
        norm.num_batches_tracked += 1
        norm.running_mean.lerp_(average, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
    scale = norm.weight * (variance + norm.eps).rsqrt()
    return centred * scale[:, None, None] + norm.bias[:, None, None]


class _Sum(torch.autograd.Function):
    """Over all processes; what each process' loss says of it is summed too."""

    @staticmethod
    def forward(ctx, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        torch.distributed.all_reduce(total)
        return total


def printing(state: PartialState) -> contextlib.AbstractContextManager:
    """All but the first process are silent."""
    return contextlib.nullcontext() if state.is_main_process else contextlib.redirect_stdout(io.StringIO())


def launch(function: Callable, arguments: tuple, processes: int) -> None:
    """Call the function in so many new processes of this machine, from a notebook too, and wait for them. It is a
    module's, and it and its arguments are pickled: each process begins as a new interpreter and has nothing of this one
    but these (a selector that was registered in a notebook's cell is unknown to it). TrainingError where one of them
    fails, with what it said; KeyboardInterrupt where they were interrupted."""
    with tempfile.TemporaryDirectory() as logs, _handlers_kept(), _main_left_out(function):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=processes,
            run_id=uuid.uuid4().hex,
            max_restarts=0,
            # A free port of its own choice, which no other program can take meanwhile.
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            local_addr="127.0.0.1",
            # Not a fork, in which threads (OpenMP's, a notebook's) and the use of a GPU break.
            start_method="spawn",
            logs_specs=DefaultLogsSpecs(log_dir=logs),
        )
        try:
            elastic_launch(config, _begin)(os.getpid(), max(1, cores() // processes), function, *arguments)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            raise TrainingError(f"process {rank} of {processes}: {_said(failure)}") from error
        except SignalException as error:
            if error.sigval == signal.SIGINT:
                raise KeyboardInterrupt from error
            raise


def _begin(parent: int, threads: int, function: Callable, *arguments) -> None:
    """What a new process does first."""
    if os.getppid() != parent:  # killed while this one was importing: nobody waits for it any more
        os._exit(1)
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(threads)
    # By which processes of one machine find each other whatever its name resolves to: Linux's name, and macOS'.
    if loopback := next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), ""):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
    function(*arguments)


def _said(failure: ProcessFailure) -> str:
    """The error of a process in one line."""
    if isinstance(failure.message, dict):
        return " ".join(failure.message["message"].split())
    if failure.exitcode > 0:  # it had no chance to say anything to the launcher
        return f"ended with status {failure.exitcode}; the lines above say why"
    return " ".join(failure.message.split()) or f"ended with {failure.exitcode}"


@contextlib.contextmanager
def _main_left_out(function: Callable) -> Iterator[None]:
    """A new process would run the caller's script again, which may train as soon as it is run, or is no file at all."""
    main = sys.modules["__main__"]
    if function.__module__ != "__main__":
        sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """The launcher answers signals by an error of its own and leaves it at that: a notebook could not be interrupted
    afterwards as it could before."""
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT") if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():  # of others, neither sets a handler
            for number, handler in before.items():
                if handler is not None:  # one that Python did not set
                    signal.signal(number, handler)
