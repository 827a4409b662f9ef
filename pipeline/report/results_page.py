"""The results: every measurement, to sort and to filter."""

import pandas as pd

from pipeline.report.collect import Found
from pipeline.report.markup import render, sortable

SHOWN = [  # of the results table, what one looks for first in front
    "dataset",
    "policy",
    "keep_ratio",
    "accuracy",
    "accuracy_low",
    "accuracy_high",
    "recipe",
    "gmacs",
    "latency_ms",
    "throughput",
    "schedule",
    "selector",
    "seed",
    "checkpoint",
    "n_images",
    "start",
    "profile",
    "batch_size",
    "device",
    "dtype",
    "commit",
]
DIGITS = {"accuracy": 4, "accuracy_low": 4, "accuracy_high": 4, "gmacs": 4, "latency_ms": 2, "throughput": 0}


def page(found: Found) -> str:
    """results.md."""
    if not found.frames:
        return render("results.md", table="")
    parts = [frame[SHOWN].assign(**{"from": name}) for name, frame in found.frames.items()]
    frame = pd.concat(parts, ignore_index=True).round(DIGITS)
    return render("results.md", table=sortable(frame, "results-table", ("accuracy_low", "accuracy_high")))
