"""Calls timed in turn: what is compared runs side by side, round after round, so that a drift of the machine hits all
alike, and a ratio is taken within a round."""

from collections.abc import Callable, Hashable
from typing import NamedTuple

import numpy as np
import torch


class Latency(NamedTuple):
    """Time of a forward of a batch: median and interquartile range over rounds, ms; throughput in img/s."""

    median_ms: float
    iqr_ms: float
    throughput: float


class Ratio(NamedTuple):
    """Median and quartiles of the rounds' ratios."""

    middle: float
    low: float
    high: float


def in_turn(
    calls: dict[Hashable, Callable[[], object]], seconds: float = 1.0, rounds: int = 5
) -> dict[Hashable, np.ndarray]:
    """Time calls in turn, round after round.

    Two calls first are not counted: they pay for allocation and for the choice of algorithms. torch's Timer waits for
    the device before and after.

    Args:
        calls: name -> what is called.
        seconds: what each gets over all rounds, at least one call a round.
        rounds: of timing.

    Returns:
        name -> ms of a call, (rounds,).
    """
    from torch.utils.benchmark import Timer  # here: seconds to import, and not every notebook times

    # Timer takes one thread unless told; a user's forward takes torch's setting.
    threads = torch.get_num_threads()
    timers = {name: Timer("call()", globals={"call": call}, num_threads=threads) for name, call in calls.items()}
    for timer in timers.values():
        timer.timeit(1)
    repeats = {name: max(1, int(seconds / rounds / timer.timeit(1).mean)) for name, timer in timers.items()}
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, timer in timers.items():
            times[name].append(timer.timeit(repeats[name]).mean * 1e3)
    return {name: np.array(measured) for name, measured in times.items()}


def latency(times: np.ndarray, batch: int) -> Latency:
    """Time of a batch and images a second.

    Args:
        times: (rounds,) ms of a batch.
        batch: images of it.
    """
    low, median, high = np.percentile(times, [25, 50, 75])
    return Latency(float(median), float(high - low), float(batch / median * 1e3))


def ratio(times: np.ndarray, others: np.ndarray) -> Ratio:
    """How many times as long one thing took as another, round by round.

    Args:
        times: (rounds,) ms.
        others: (rounds,) ms of the other, in the same rounds.
    """
    low, middle, high = np.percentile(times / others, [25, 50, 75])
    return Ratio(float(middle), float(low), float(high))
