"""What the faults of the published measurements are worth, each by a small experiment: the true label in the policy's
hands, a second split, a split that moves when a checkpoint is cached, and attention that no count sees."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch.utils.data import DataLoader, random_split
from tqdm.auto import tqdm

from asel_lib.data.decode import ImageArray
from asel_lib.data.sets import open_recorded, recorded_batches, split_of
from asel_lib.devices import autocast
from asel_lib.evaluation.accuracy import evaluate
from asel_lib.evaluation.cost import analytic_gmacs, gmacs
from asel_lib.evaluation.metrics.accuracy import interval
from asel_lib.evaluation.protocol import PROTOCOLS, Protocol, leaked
from asel_lib.models import SelectiveViT
from asel_lib.reproducibility import derived_seed


def leaks(
    model,
    ratios: Sequence[float],
    second_seed: int = 1,
    precision: str = "float32",
    batch_size: int = 32,
    progress: bool = True,
) -> pd.DataFrame:
    """Score one checkpoint on its own test part, and on that of a second 80/20 split of the same images, as another
    process without a seed would have drawn it.

    Args:
        model: of `checkpoints.load`, with the agent or another selector as its own.
        ratios: keep ratios.
        second_seed: stands for that process.
        precision: as resolved by `devices`.
        batch_size: images that share a mask.
        progress: whether bars are shown.

    Returns:
        A row a (split, labels, mask) and keep ratio: n_images, trained_on (the share of them that the model was trained
        on or chosen by), accuracy with its interval. The labels' rows are there only where the selector is an agent
        that remembers a mask of every class: no other can be told them.
    """
    record = model.record
    images, split = open_recorded(record)
    own = record["model"]["selector"]
    parts = {"its own": split.test, "second, unseeded": second_test_part(images, second_seed)}
    seen = np.concatenate([split.train, split.val])
    settings = {("not known", "its own"): Protocol()}
    if own == "agent" and bool(model.selector.memory.any(dim=1).all()):
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


def cached_split(
    images: int, seed: int = 42, warmup_images: int = 50_000, epochs: int = 15, batch_size: int = 64
) -> dict:
    """The published notebook's third leak, played through.

    One generator shuffles the warm-up's batches and then draws the 80/20 split of the scenes. Where the warm-up's
    checkpoint is cached nothing is shuffled, and the same seed gives another split. (In the cached run, too, the
    fine-tuned checkpoint was trained on the first run's part.)

    Args:
        images: how many scenes there are.
        seed: of the generator.
        warmup_images: of the warm-up's set.
        epochs: of the warm-up.
        batch_size: of the warm-up.

    Returns:
        test_images; moved, those that are not in the first run's test part; trained_on, their share.
    """
    first = _published_split(images, seed, warmup_images, epochs, batch_size)[1]
    again = _published_split(images, seed)[1]
    moved = len(set(again) - set(first))
    return {"test_images": len(again), "moved": moved, "trained_on": moved / len(again)}


def _published_split(
    images: int, seed: int, warmup_images: int = 0, epochs: int = 0, batch_size: int = 64
) -> tuple[np.ndarray, np.ndarray]:
    """(train, test), positions as the published notebook draws them after `epochs` of a warm-up: 0 where it is
    cached."""
    shared = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        # The epoch's order is drawn with its first batch.
        next(iter(DataLoader(range(warmup_images), batch_size, shuffle=True, generator=shared)))
    train, test = random_split(range(images), [0.8, 0.2], generator=shared)
    return np.array(train.indices), np.array(test.indices)


def moved_split(
    model,
    ratios: Sequence[float],
    seed: int = 42,
    precision: str = "float32",
    batch_size: int = 64,
    progress: bool = True,
) -> pd.DataFrame:
    """What the third leak does to an accuracy: score one checkpoint, by its own selector, on two test parts.

    They are its own, and the one that the published notebook draws of the same images where the warm-up is cached,
    which is not the part that the checkpoint was kept from.

    Args:
        model: of `checkpoints.load`.
        ratios: keep ratios.
        seed: of the published split.
        precision: as resolved by `devices`.
        batch_size: images a forward.
        progress: whether bars are shown.

    Returns:
        A row a part and keep ratio: trained_on (the share of its images that the model was trained on or chosen by),
        n_images, accuracy with its interval. The moved part is also told apart into what was trained on and what was
        not; a row is left out where there is no such image.
    """
    record = model.record
    images, split = open_recorded(record)
    seen = np.concatenate([split.train, split.val])
    moved = _published_split(len(images), seed)[1]
    known = np.isin(moved, seen)
    parts = {
        "its own": split.test,
        "moved": moved,
        "moved, trained on before": moved[known],
        "moved, not trained on": moved[~known],
    }
    # An image's answer is the same in each of the parts: each is asked for once.
    asked = np.unique(np.concatenate([split.test, moved]))
    correct = _correct(
        model, recorded_batches(images, asked, record, batch_size, _device(model)), ratios, precision, progress
    )
    rows = []
    for name, indices in parts.items():
        for ratio, right in correct.items():
            if len(indices):
                count = int(right[np.searchsorted(asked, indices)].sum())
                low, high = interval(count, len(indices))
                about = {"split": name, "trained_on": float(np.isin(indices, seen).mean()), "keep_ratio": ratio}
                found = {"accuracy": count / len(indices), "accuracy_low": low, "accuracy_high": high}
                rows.append(about | {"n_images": len(indices)} | found)
    return pd.DataFrame(rows)


@torch.inference_mode()
def _correct(model, batches, ratios: Sequence[float], precision: str, progress: bool) -> dict[float, np.ndarray]:
    """keep ratio -> (n,) whether each image is answered right, by the model's own selector."""
    model.eval()
    right = {ratio: [] for ratio in ratios}
    for images, labels, *drawn in tqdm(batches, desc="moved split", unit="batch", disable=not progress):
        with autocast(images.device, precision):
            for ratio, found in right.items():
                answers = model(images, ratio, None, drawn[0] if drawn else None).argmax(dim=1)
                found.append((answers == labels).cpu().numpy())
    return {ratio: np.concatenate(found) for ratio, found in right.items()}


def _device(model) -> torch.device:
    return next(model.parameters()).device


def attention_macs(architecture: str = "vit_tiny_patch16_224") -> pd.DataFrame:
    """GMACs of an image of a plain timm model, all patches: as the authors' count by fvcore has it, to which the fused
    attention operator is unknown, with that operator, and by formula. The first is the published count (1.09 at 224 px,
    where the selector's and the normalisations' operations are in it too)."""
    model = SelectiveViT(architecture, 1000, "random").eval()
    embed, block = model.patch_embed, model.blocks[0]
    by_hand = analytic_gmacs(
        embed.num_patches,
        embed.num_patches,
        model.embed_dim,
        len(model.blocks),
        block.mlp.fc1.out_features / model.embed_dim,
        model.num_prefix_tokens,
        embed.patch_size[0],
        3,
        1000,
    )
    counts = {
        "without the fused attention operator": gmacs(model, embed.img_size, 1.0, attention=False).total,
        "with the fused attention operator": gmacs(model, embed.img_size, 1.0).total,
        "by formula": by_hand,
    }
    return pd.DataFrame({"count": list(counts), "GMACs": list(counts.values())})


def second_test_part(images: ImageArray, seed: int) -> np.ndarray:
    """The test part of the published 80/20 split by another seed, whatever parts the set brings itself.

    Args:
        images: the data set.
        seed: of the split.

    Returns:
        Indices of the images.
    """
    return split_of(images, "published", seed, own_parts=False).test


@torch.inference_mode()
def moved_by_labels(model, images: torch.Tensor, labels: torch.Tensor, keep_ratio: float) -> float:
    """Of the patches that an agent's model keeps, the share that it would not keep if it were told the labels.

    Args:
        model: with selector "agent".
        images: (B, C, H, W), normalised.
        labels: (B,) numbers of the classes.
        keep_ratio: in (0, 1).
    """
    fair = model.select(images, keep_ratio)
    told = leaked(Protocol(labels=True), model, images, labels, keep_ratio, None)
    return 1 - float((fair[:, :, None] == told[:, None, :]).any(dim=2).float().mean())


@torch.inference_mode()
def in_common(kept: torch.Tensor) -> float:
    """Of the patches that an image keeps, the share that another image keeps too, mean over all pairs.

    It is 1 where every image keeps the same, and about K / N where each is chosen for itself.

    Args:
        kept: indices (B, K).
    """
    same = (kept[:, None, :, None] == kept[None, :, None, :]).any(dim=3).float().mean(dim=2)
    count = len(kept)
    return float((same.sum() - count) / (count * (count - 1)))
