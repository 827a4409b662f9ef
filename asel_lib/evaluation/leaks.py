"""What two leaks of the published comparison are worth: the true label in the policy's hands, and a second split."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from asel_lib.data.decode import ImageArray
from asel_lib.data.sets import open_recorded, recorded_batches, split_of
from asel_lib.evaluation.accuracy import evaluate
from asel_lib.evaluation.protocol import PROTOCOLS, Protocol, leaked
from asel_lib.reproducibility import derived_seed


def leaks(
    model, ratios: Sequence[float], second_seed: int = 1, precision: str = "float32", batch_size: int = 32,
    progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Score one checkpoint on its own test part and on that of a second 80/20 split of the same images, as another
    process without a seed would have drawn it (`second_seed` stands for that).

    model: of `checkpoints.load`, with the agent or another selector as its own. -> a row a (split, labels, mask) and
    keep ratio: n_images, trained_on (the share of them that the model was trained on or chosen by), accuracy with its
    interval. The labels' rows are there only where the selector is an agent: no other can be told them.
    """
    record = model.record
    images, split = open_recorded(record)
    own = record["model"]["selector"]
    parts = {"its own": split.test, "second, unseeded": second_test_part(images, second_seed)}
    seen = np.concatenate([split.train, split.val])
    settings = {("not known", "its own"): Protocol()}
    if own == "agent":
        settings |= {
            ("known", "its own"): Protocol(labels=True),
            ("not known", "one a batch"): Protocol(one_mask=True),
            ("known", "one a batch"): PROTOCOLS["published"],
        }
    rows = []
    for part, indices in parts.items():
        # In any order but that of the classes: a batch of one class would have a mask for that class.
        indices = np.random.default_rng(derived_seed("leaks", second_seed)).permutation(indices)
        batches = recorded_batches(images, indices, record, batch_size, next(model.parameters()).device)
        for (labels, mask), protocol in settings.items():
            found = evaluate(model, batches, ratios, [own], precision=precision, progress=progress, protocol=protocol)
            about = {"split": part, "trained_on": float(np.isin(indices, seen).mean()), "labels": labels, "mask": mask}
            rows.append(found.assign(**about))
    names = [
        "split",
        "trained_on",
        "labels",
        "mask",
        "keep_ratio",
        "n_images",
        "accuracy",
        "accuracy_low",
        "accuracy_high",
    ]
    return pd.concat(rows, ignore_index=True)[names]


def second_test_part(images: ImageArray, seed: int) -> np.ndarray:
    """The test part of the published 80/20 split by another seed, whatever was trained on, and whatever parts the set
    brings itself."""
    return split_of(images, "published", seed, own_parts=False).test


@torch.inference_mode()
def moved_by_labels(model, images: torch.Tensor, labels: torch.Tensor, keep_ratio: float) -> float:
    """Of the patches that an agent's model keeps, the share that it would not keep if it were told the labels."""
    fair = model.select(images, keep_ratio)
    told = leaked(Protocol(labels=True), model, images, labels, keep_ratio, None)
    return 1 - float((fair[:, :, None] == told[:, None, :]).any(dim=2).float().mean())


@torch.inference_mode()
def in_common(kept: torch.Tensor) -> float:
    """Of the patches (B, K) that an image keeps, the share that another image keeps too, mean over all pairs: 1 where
    every image keeps the same, about K / N where each is chosen for itself."""
    same = (kept[:, None, :, None] == kept[None, :, None, :]).any(dim=3).float().mean(dim=2)
    count = len(kept)
    return float((same.sum() - count) / (count * (count - 1)))
