"""How much memory a piece of work takes at its highest."""

import itertools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch


def peak(work: Callable[[], object], device: torch.device) -> int:
    """Most bytes in use at once by tensors that a call makes, above what was there before it.

    Args:
        work: the call.
        device: where it computes.
    """
    return (_cuda if device.type == "cuda" else _cpu)(work, device)


def resident() -> int:
    """Bytes of this process that lie in RAM and are nowhere on disk: what memory-mapped files do not count to. 0 where
    the system does not say (it is read from /proc)."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


def _cuda(work: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def _cpu(work: Callable[[], object], device: torch.device) -> int:
    """Highest running sum of the allocator's events, in bytes. They are read from the exported trace: in the
    profiler's Python list, events inside an operator are folded into it and the order is lost."""
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # else the profiler writes its own start and end to stderr
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder) / "trace.json"
        profile.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())["traceEvents"]
    events = sorted((event for event in events if event.get("name") == "[memory]"), key=lambda event: event["ts"])
    if not events:
        return 0
    return max(0, max(itertools.accumulate(event["args"]["Bytes"] for event in events)))
