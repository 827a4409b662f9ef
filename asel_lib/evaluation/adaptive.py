"""What a budget for each image is worth: keep_ratio="auto" against the same number of patches for every image, at
equal cost."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from asel_lib.devices import autocast
from asel_lib.evaluation import cost
from asel_lib.evaluation.accuracy import interval


@torch.inference_mode()
def compare(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    averages: Sequence[float] | None = None,
    precision: str = "float32",
    rounds: int = 3,
) -> pd.DataFrame:
    """Two rows an average: "auto", and "fixed" with as many patches as "auto" kept on average, rounded up, so never at
    less cost. Columns: keep_ratio (asked), choice, kept (patches an image, mean), accuracy and its interval, gmacs
    (mean of an image), throughput (img/s over all batches; median of the rounds, both in turn). averages None: all that
    the model is prepared for (`calibrate`)."""
    batches = list(batches)
    size = tuple(batches[0][0].shape[-2:])
    patches = int(np.prod(model.patch_embed.dynamic_feat_size(size)))
    costs: dict[int, float] = {}

    def price(count: int) -> float:
        if count not in costs:  # half a patch more: the floor of a share of N may be one less
            costs[count] = cost.gmacs(model, size, min(1.0, (count + 0.5) / patches)).total
        return costs[count]

    model.eval()
    rows = []
    for average in sorted(model.budgets) if averages is None else averages:
        asked, right, counts = f"auto:{average:g}", 0, []
        with autocast(batches[0][0].device, precision):
            for images, labels, *_ in batches:
                logits, selection = model(images, asked, return_selection=True)
                right += (logits.argmax(dim=1) == labels).sum().item()
                counts += (selection.kept >= 0).sum(dim=1).tolist()
            same = min(patches, int(np.ceil(np.mean(counts) - 1e-9)))
            ratio = min(1.0, (same + 0.5) / patches)
            fixed = sum((model(images, ratio).argmax(dim=1) == labels).sum().item() for images, labels, *_ in batches)
            speeds = _in_turn(model, batches, (asked, ratio), rounds)
        for choice, correct, kept, speed in zip(
            ("auto", "fixed"), (right, fixed), (counts, [same] * len(counts)), speeds, strict=True
        ):
            low, high = interval(correct, len(counts))
            rows.append(
                {
                    "keep_ratio": average,
                    "choice": choice,
                    "kept": float(np.mean(kept)),
                    "accuracy": correct / len(counts),
                    "accuracy_low": low,
                    "accuracy_high": high,
                    "gmacs": float(np.mean([price(count) for count in kept])),
                    "throughput": speed,
                    "n_images": len(counts),
                }
            )
    return pd.DataFrame(rows)


def _in_turn(model: nn.Module, batches: list, ratios: Sequence[str | float], rounds: int) -> list[float]:
    """img/s of all batches at each keep ratio, median of the rounds."""
    from torch.utils.benchmark import Timer

    def forward(ratio: str | float) -> None:
        for images, *_ in batches:
            model(images, ratio)

    count = sum(len(images) for images, *_ in batches)
    threads = torch.get_num_threads()
    timers = [Timer("forward(ratio)", globals={"forward": forward, "ratio": ratio}, num_threads=threads)
              for ratio in ratios]  # fmt: skip
    times = [[timer.timeit(1).mean for timer in timers] for _ in range(rounds)]
    return list(count / np.median(times, axis=0))
