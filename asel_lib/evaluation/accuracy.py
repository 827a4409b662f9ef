"""Accuracy of a model over keep ratios and policies, in one pass over the images."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from asel_lib.devices import autocast
from asel_lib.errors import AselError
from asel_lib.evaluation.outcome import Outcome
from asel_lib.evaluation.protocol import Protocol, leaked, protocol_of
from asel_lib.models.predict import evaluating
from asel_lib.registry import METRICS
from asel_lib.selection import draws_at_random, keep_count, parse


def evaluate(*arguments, **options) -> pd.DataFrame:
    """The table of a `sweep`, with the same arguments."""
    return sweep(*arguments, **options)[0]


def sweep(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    ratios: Sequence[float],
    policies: Sequence[str],
    draws: int = 5,
    precision: str = "float32",
    object_fraction: np.ndarray | None = None,
    progress: bool = True,
    protocol: str | Protocol = "fair",
) -> tuple[pd.DataFrame, dict[tuple[str, float], Tensor]]:
    """Every registered metric (`registry.METRICS`) of every (policy, keep ratio), one row each.

    Args:
        model: a SelectiveViT.
        batches: yields (images (B, C, H, W) normalised, labels (B,) int64), or these and line drawings (B, 1, h, w). It
            is read once: all policies and ratios see a batch before the next is made.
        ratios: keep ratios, in (0, 1].
        policies: how patches are chosen.
        draws: forwards of policies that draw ("random", line-guided sampling), whose metrics are means over them; the
            other policies choose the same patches every time.
        precision: as resolved by `devices`.
        object_fraction: (n, N), the share of each patch's area that the deciding object covers, images in the order of
            the batches; None: no object is known.
        progress: whether a bar is shown.
        protocol: "fair"; "published" is AgentViT's, which leaks (see `protocol`).

    Returns:
        The table: policy, keep_ratio, kept_patches, n_images and the metrics' columns. And for each (policy, keep
        ratio) the share of the draws in which each image was answered rightly, (n,).

    Raises:
        ValueError: for arguments that make no sweep and labels that the model has no class for.
        AselError: where logits are not finite.
    """
    protocol = protocol_of(protocol)
    settings = forwards(ratios, policies, draws)
    tallies, truth = {setting: _Tally() for setting in settings}, []
    seen, patches, whole = 0, 0, 0
    with evaluating(model), torch.inference_mode():
        for images, labels, *drawn in tqdm(batches, desc="accuracy", unit="batch", disable=not progress):
            _check_labels(model, labels)
            whole = max(whole, len(images))
            if protocol.drop_last and len(images) < whole:
                continue
            fractions = _fractions(object_fraction, seen, images)
            seen += len(images)
            truth.append(labels)
            patches = num_patches(model, images)
            lines = drawn[0] if drawn else None
            made: dict[str, Tensor | None] = {}  # drawings are made once a batch, not once a ratio and draw
            with autocast(images.device, precision):
                for (policy, ratio, draw), tally in tallies.items():
                    if policy not in made:
                        made[policy] = drawings(model, images, policy, lines)
                    kept = leaked(protocol, model, images, labels, ratio, policy) if ratio < 1 else None
                    logits, chosen = model(
                        images, ratio, policy, made[policy], draw_index=draw, kept=kept, return_selection=True
                    )
                    tally.add(logits)
                    if fractions is not None and ratio < 1 and chosen.kept is not None:  # None: merged
                        tally.add_kept(chosen.kept, fractions)
    if not seen:
        raise ValueError("the batches hold no image: there is nothing to evaluate")
    if object_fraction is not None and len(object_fraction) != seen and not protocol.drop_last:
        raise ValueError(f"object_fraction has {len(object_fraction)} rows for {seen} images: give one row an image")

    labels, rows, right = torch.cat(truth).cpu().numpy(), [], {}
    for policy in dict.fromkeys(policies):
        for ratio in dict.fromkeys(ratios):
            # With all patches kept nothing is chosen: one forward stands for every policy.
            name = settings[0][0] if ratio == 1 else policy
            mine = [tally for setting, tally in tallies.items() if setting[:2] == (name, ratio)]
            _check_finite(mine, policy, ratio, precision)
            outcome = _outcome(mine, labels, ratio, object_fraction)
            right[policy, float(ratio)] = torch.from_numpy(outcome.right).float().mean(dim=0)
            row = {"policy": policy, "keep_ratio": float(ratio), "kept_patches": keep_count(patches, ratio)}
            rows.append(row | {"n_images": seen} | measured(outcome))
    return pd.DataFrame(rows), right


def measured(outcome: Outcome) -> dict[str, float]:
    """Every registered metric of an outcome, with its interval where it has one: a value a column."""
    found = {}
    for metric in METRICS:
        ends = metric.interval(outcome) if metric.interval else ()
        found |= dict(zip(metric.columns, (metric.compute(outcome), *ends), strict=True))
    return found


@torch.inference_mode()
def predict_labels(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    keep_ratio: float,
    policy: str | None = None,
    precision: str = "float32",
) -> tuple[np.ndarray, np.ndarray]:
    """The class that each image is taken for, at one keep ratio.

    Args:
        model: a SelectiveViT.
        batches: as `sweep`'s.
        keep_ratio: share of the patches that is kept.
        policy: how they are chosen, its first draw; None: the model's own way.
        precision: as resolved by `devices`.

    Returns:
        The images' own classes and the model's answers, numbers (n,) both.
    """
    model.eval()
    labels, answered = [], []
    for images, truth, *drawn in batches:
        with autocast(images.device, precision):
            logits = model(images, keep_ratio, policy, drawn[0] if drawn else None)
        labels.append(truth.cpu())
        answered.append(logits.argmax(dim=1).cpu())
    return torch.cat(labels).numpy(), torch.cat(answered).numpy()


def confusion(labels: np.ndarray, answered: np.ndarray, classes: Sequence[str], **about) -> pd.DataFrame:
    """A row a pair (class, answer) with how many `images` there are; pairs that did not occur are left out, but for the
    diagonal.

    Args:
        labels: (n,), numbers of the images' classes.
        answered: (n,), numbers of the model's answers.
        classes: their names.
        about: columns in front, the same in all rows (`ModelKey.columns`, policy, keep_ratio).
    """
    from sklearn.metrics import confusion_matrix  # slow to import

    counts = confusion_matrix(labels, answered, labels=np.arange(len(classes)))
    rows = [
        about | {"class": truth, "answer": answer, "images": int(counts[i, j])}
        for i, truth in enumerate(classes)
        for j, answer in enumerate(classes)
        if counts[i, j] or i == j
    ]
    return pd.DataFrame(rows)


def per_class(labels: np.ndarray, answered: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """A row a class: images, precision, recall, f1, and the class that it is most often taken for ("-": none).

    Args:
        labels: (n,), numbers of the images' classes.
        answered: (n,), numbers of the model's answers.
        classes: their names.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support  # slow to import

    numbers = np.arange(len(classes))
    scores = precision_recall_fscore_support(labels, answered, labels=numbers, zero_division=0)
    frame = pd.DataFrame(dict(zip(("precision", "recall", "f1", "images"), scores, strict=True)), index=list(classes))
    mistaken = confusion_matrix(labels, answered, labels=numbers)
    np.fill_diagonal(mistaken, 0)
    frame["taken for"] = [classes[row.argmax()] if row.any() else "-" for row in mistaken]
    return frame[["images", "precision", "recall", "f1", "taken for"]].rename_axis("class")


def _check_labels(model: nn.Module, labels: Tensor) -> None:
    if len(labels) and int(labels.max()) >= model.num_classes:
        raise ValueError(
            f"an image is of class {int(labels.max())}, and the model has {model.num_classes} classes (0 to "
            f"{model.num_classes - 1}): test it on the data set that it was trained on, or train it on this one"
        )


def num_patches(model: nn.Module, images: Tensor) -> int:
    """N of these images: their own grid where the model takes several sizes.

    Args:
        model: a SelectiveViT.
        images: (B, C, H, W).
    """
    height, width = model.patch_embed.dynamic_feat_size(images.shape[-2:])
    return int(height * width)


def drawings(model: nn.Module, images: Tensor, policy: str, lines: Tensor | None = None) -> Tensor | None:
    """What a policy that reads line drawings chooses by.

    Args:
        model: a SelectiveViT.
        images: (B, C, H, W), normalised.
        policy: how patches are chosen.
        lines: drawings (B, 1, h, w) that came with the images, taken if they are meant for the policy.

    Returns:
        Drawings (B, 1, h, w); None: it reads none.
    """
    if not parse(policy)[0].reads_lines():
        return None
    brought = model.patch_drop.brought(policy, lines)
    return model.view(images, policy, brought).lines


class _Tally:
    """What one (policy, ratio, draw) answered; kept on the device, so that counting never waits for it."""

    def __init__(self):
        self.broken = 0
        self.ranked: list[Tensor] = []
        self.object_area_kept: list[Tensor] = []

    def add(self, logits: Tensor) -> None:
        best = logits.float().topk(min(5, logits.shape[1]), dim=1).indices
        self.ranked.append(best.int())
        self.broken = self.broken + (~logits.isfinite()).any(dim=1).sum()

    def add_kept(self, kept: Tensor, fractions: Tensor) -> None:
        area = fractions.sum(dim=1)
        single = kept >= 0  # a token made of several patches counts for none of them
        share = (fractions.gather(1, kept.clamp_min(0)) * single).sum(dim=1) / area.clamp_min(1e-12)
        self.object_area_kept.append(share.where(area > 0, torch.nan))


def _outcome(tallies: list[_Tally], labels: np.ndarray, ratio: float, object_fraction: np.ndarray | None) -> Outcome:
    """Of the draws of one policy at one ratio."""
    ranked = torch.stack([torch.cat(tally.ranked) for tally in tallies]).cpu().numpy()
    shares = None
    if object_fraction is not None and ratio == 1:
        shares = np.ones((1, len(labels)))
    elif object_fraction is not None and all(tally.object_area_kept for tally in tallies):
        shares = torch.stack([torch.cat(tally.object_area_kept) for tally in tallies]).double().cpu().numpy()
    return Outcome(labels, ranked, shares)


def forwards(ratios: Sequence[float], policies: Sequence[str], draws: int) -> list[tuple[str, float, int]]:
    """The forwards of a sweep, each once.

    Args:
        ratios: keep ratios.
        policies: selectors.
        draws: of a policy that draws at random.

    Returns:
        (policy, ratio, draw) of each.

    Raises:
        ValueError: where one of them makes no sweep.
    """
    for name, given in (("ratios", ratios), ("policies", policies)):
        if isinstance(given, str) or not len(given):
            raise ValueError(f"{name} is {given!r}: expected at least one, in a list")
    if draws < 1:
        raise ValueError(f"draws is {draws!r}: expected at least 1")
    settings = []
    for policy in dict.fromkeys(policies):
        for ratio in dict.fromkeys(ratios):
            keep_count(1, ratio)  # a bad ratio is an error before any work
            if ratio == 1:
                settings.append((policies[0], ratio, 0))
            else:
                settings += [(policy, ratio, draw) for draw in range(draws if draws_at_random(policy) else 1)]
    return list(dict.fromkeys(settings))


def _fractions(object_fraction: np.ndarray | None, start: int, images: Tensor) -> Tensor | None:
    if object_fraction is None:
        return None
    rows = np.asarray(object_fraction[start : start + len(images)], dtype=np.float32)
    if len(rows) < len(images):
        raise ValueError(
            f"object_fraction has {len(object_fraction)} rows, the batches more images: give one row an image"
        )
    return torch.from_numpy(rows).to(images.device)


def _check_finite(tallies: list[_Tally], policy: str, ratio: float, precision: str) -> None:
    if broken := sum(int(tally.broken) for tally in tallies):
        raise AselError(
            f"policy {policy!r} at keep ratio {ratio:g}: the logits of {broken} image(s) are not finite in "
            f"{precision}; evaluate in float32, and if they still are not, the checkpoint is damaged"
        )
