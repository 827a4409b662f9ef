"""Mean over the classes of the share of their images that is answered rightly: classes of few images count as much."""

import numpy as np

from asel_lib.evaluation.outcome import Outcome
from asel_lib.registry import METRICS, Metric


def balanced_accuracy(outcome: Outcome) -> float:
    """Mean recall over the classes that have images, mean over draws (Brodersen et al. 2010)."""
    images = np.bincount(outcome.labels)
    right = np.bincount(outcome.labels, weights=outcome.right.mean(axis=0))
    return float((right[images > 0] / images[images > 0]).mean())


METRICS.add("balanced_accuracy", Metric("balanced_accuracy", "share", balanced_accuracy, "mean recall over classes"))
