"""Cross entropy, with classes that weigh the same where that is asked for."""

import torch
import torch.nn.functional as F
from torch import Tensor


def class_weights(labels: Tensor, classes: int) -> Tensor:
    """n / (classes * images of the class), (classes,) float32: with them each class weighs the same in the loss, and
    the mean weight of the images is 1, so that learning rates keep their meaning (King and Zeng 2001, scikit-learn's
    class_weight="balanced").

    Args:
        labels: (n,) int64, of the images that are learnt from.
        classes: how many there are; one without an image, which no loss meets, gets 1.
    """
    counts = torch.bincount(labels.cpu(), minlength=classes).float()
    return torch.where(counts > 0, len(labels) / (classes * counts.clamp_min(1)), 1.0)


def cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor | None = None, reduction: str = "mean") -> Tensor:
    """Cross entropy in float32, each image's times the weight of its class.

    Args:
        logits: (B, classes).
        labels: (B,).
        weights: (classes,), of the classes; None: all alike.
        reduction: "mean": over the images of the batch, not over their weights as torch has it, by which a batch of
            rare classes alone would count no more than any other and the parts of a batch would not add up to it;
            "sum"; "none": (B,).
    """
    if weights is None:
        return F.cross_entropy(logits.float(), labels, reduction=reduction)
    errors = F.cross_entropy(logits.float(), labels, weights.to(logits.device), reduction="none")
    return {"mean": errors.mean, "sum": errors.sum, "none": lambda: errors}[reduction]()
