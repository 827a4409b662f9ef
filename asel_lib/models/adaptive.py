"""A forward in which each image keeps as many patches as its own scores ask for (`selection.budget`)."""

import torch
from torch import Tensor

from asel_lib.selection import Selection, budget, stable_topk


def adaptive(model, images: Tensor, average: float, policy: str | None, draw_index: int) -> tuple[Tensor, Selection]:
    """Images that keep equally many patches pass together, so that fewer patches are less work.

    Args:
        model: a SelectiveViT, in eval mode.
        images: (B, C, H, W), normalised.
        average: keep ratio on average, one of those that `model.calibrate` has prepared.
        policy: who chooses; None: the model's own selector.
        draw_index: which of many draws.

    Returns:
        Logits (B, classes), and log-weights with the kept indices, -1 behind an image's last.

    Raises:
        ValueError: the model is not prepared for that average, or its selector has learned no weights.
    """
    if average not in model.budgets:
        known = ", ".join(f"{one:g}" for one in sorted(model.budgets)) or "none"
        raise ValueError(
            f"this model is not prepared to keep {average:g} of the patches on average (prepared for: {known}): "
            f"call model.calibrate(batches of val images, [{average:g}]) first"
        )
    view, chooser = model.view(images, policy, draw_index=draw_index), model.chooser(policy)
    with view.full_precision():
        weights = chooser.log_weights(view)
    order = stable_topk(chooser.ranked(weights, view), weights.shape[1])
    asked = budget.lengths(weights, model.budgets[average])
    kept = torch.where(torch.arange(order.shape[1], device=order.device) < asked[:, None], order, -1)
    logits = None
    for count in asked.unique().tolist():
        rows = (asked == count).nonzero()[:, 0]
        some = model(images[rows], kept=order[rows, :count]) if count < order.shape[1] else model(images[rows])
        logits = some.new_empty(len(images), some.shape[1]) if logits is None else logits
        logits[rows] = some
    return logits, Selection(weights, kept[:, : int(asked.max())])
