"""Share of the images whose class is the model's first answer, and among its first five."""

import numpy as np

from asel_lib.evaluation.outcome import Outcome
from asel_lib.registry import METRICS, Metric


def interval(correct: float, n: int) -> tuple[float, float]:
    """95 % Wilson interval of a proportion (Wilson 1927).

    For a mean over random draws, n stays the number of images, not images x draws: draws of the same image are not
    independent of one another. Averaging over draws does take away some of the noise, so that interval is on the wide
    side, never on the narrow one.

    Args:
        correct: how many images are right, a mean over draws.
        n: of so many images.
    """
    from scipy.stats import binomtest  # slow to import

    result = binomtest(round(correct), n).proportion_ci(0.95, method="wilson")
    return float(result.low), float(result.high)


def _correct(outcome: Outcome) -> float:
    """Images answered rightly, mean over draws."""
    return int(outcome.right.sum()) / len(outcome.right)


def _top5(outcome: Outcome) -> float:
    found = (outcome.ranked == outcome.labels[None, :, None]).any(axis=2)
    return int(np.sum(found)) / len(found) / len(outcome.labels)


METRICS.add(
    "accuracy",
    Metric(
        "accuracy",
        "share",
        lambda outcome: _correct(outcome) / len(outcome.labels),
        "share of the images that are answered rightly",
        interval=lambda outcome: interval(_correct(outcome), len(outcome.labels)),
        optional=False,
    ),
)
METRICS.add(
    "top5",
    Metric(
        "top5",
        "share",
        _top5,
        "share of the images whose class is among the five best answers, or the C best of C < 5 classes",
        optional=False,
    ),
)
