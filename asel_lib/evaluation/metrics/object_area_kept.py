"""Share of the deciding object that lies in kept patches, where the data set knows the object (synthetic scenes)."""

import numpy as np

from asel_lib.evaluation.outcome import Outcome
from asel_lib.registry import METRICS, Metric


def object_area_kept(outcome: Outcome) -> float:
    """Mean over images with an object and draws; nan where no object is known or patches were merged."""
    if outcome.object_area_kept is None:
        return float("nan")
    there = ~np.isnan(outcome.object_area_kept)
    return float(outcome.object_area_kept[there].mean()) if there.any() else float("nan")


METRICS.add(
    "object_area_kept",
    Metric("object_area_kept", "share", object_area_kept, "share of the deciding object in kept patches"),
)
