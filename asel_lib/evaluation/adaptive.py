"""What a budget for each image is worth: keep_ratio="auto" against the same number of patches for every image, at
equal cost."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from asel_lib.devices import autocast
from asel_lib.evaluation import cost
from asel_lib.evaluation.metrics.accuracy import interval


@torch.inference_mode()
def compare(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    averages: Sequence[float] | None = None,
    precision: str = "float32",
    rounds: int = 3,
) -> pd.DataFrame:
    """A number of patches for each image ("auto") against the same number for all ("fixed"), at equal cost.

    Args:
        model: a SelectiveViT with budgets (`calibrate`).
        batches: re-iterable, of (images, labels) or (images, labels, lines).
        averages: average keep ratios; None: all that the model is prepared for.
        precision: as resolved by `devices`.
        rounds: of timing, both in turn.

    Returns:
        Two rows an average, "fixed" with the fewest patches that cost an image at least what "auto" costs on average:
        keep_ratio (asked), choice, kept (patches an image, mean), accuracy and its interval, gmacs (mean of an image),
        throughput (img/s over all batches, median of the rounds), and on the row of "auto" the `difference` of the two
        with its paired 95 % interval `low`, `high`.
    """
    batches = list(batches)
    size = tuple(batches[0][0].shape[-2:])
    patches = int(np.prod(model.patch_embed.dynamic_feat_size(size)))
    costs: dict[int, float] = {}

    def price(count: int) -> float:
        if count not in costs:  # half a patch more: the floor of a share of N may be one less
            costs[count] = cost.gmacs(model, size, min(1.0, (count + 0.5) / patches)).total
        return costs[count]

    def right(ratio: str | float) -> tuple[np.ndarray, list[int]]:
        found, counts = [], []
        for images, labels, *_ in batches:
            logits, selection = model(images, ratio, return_selection=True)
            found.append((logits.argmax(dim=1) == labels).float().cpu())
            if isinstance(ratio, str):
                counts += (selection.kept >= 0).sum(dim=1).tolist()
        return torch.cat(found).numpy(), counts

    model.eval()
    choosing = cost.gmacs(model, size, 0.5).selector  # also of an image that keeps all
    rows = []
    for average in sorted(model.budgets) if averages is None else averages:
        asked = f"auto:{average:g}"
        with autocast(batches[0][0].device, precision):
            auto, counts = right(asked)
            spent = float(np.mean([price(count) + choosing * (count == patches) for count in counts]))
            same = next((count for count in range(1, patches) if price(count) >= spent * (1 - 1e-9)), patches)
            ratio = min(1.0, (same + 0.5) / patches)
            fixed, _ = right(ratio)
            speeds = _in_turn(model, batches, (asked, ratio), rounds)
        gap = auto - fixed
        error = 1.96 * gap.std(ddof=1) / np.sqrt(len(gap))
        for choice, answers, kept, gmacs, speed in (
            ("auto", auto, float(np.mean(counts)), spent, speeds[0]),
            ("fixed", fixed, float(same), price(same), speeds[1]),
        ):
            low, high = interval(answers.sum(), len(answers))
            row = {"keep_ratio": average, "choice": choice, "kept": kept, "accuracy": answers.mean()}
            row |= {"accuracy_low": low, "accuracy_high": high, "gmacs": gmacs, "throughput": speed}
            if choice == "auto":
                row |= {"difference": gap.mean(), "low": gap.mean() - error, "high": gap.mean() + error}
            rows.append(row | {"n_images": len(answers)})
    return pd.DataFrame(rows)


def _in_turn(model: nn.Module, batches: list, ratios: Sequence[str | float], rounds: int) -> list[float]:
    """img/s of all batches at each keep ratio, median of the rounds."""
    from torch.utils.benchmark import Timer

    def forward(ratio: str | float) -> None:
        for images, *_ in batches:
            model(images, ratio)

    count = sum(len(images) for images, *_ in batches)
    threads = torch.get_num_threads()
    timers = [
        Timer("forward(ratio)", globals={"forward": forward, "ratio": ratio}, num_threads=threads) for ratio in ratios
    ]
    times = [[timer.timeit(1).mean for timer in timers] for _ in range(rounds)]
    return list(count / np.median(times, axis=0))
