"""A forward in which each image keeps as many patches as its own scores ask for (`selection.budget`)."""

import torch
from torch import Tensor

from asel_lib.selection import Call, Selection, budget, stable_topk


def adaptive(model, images: Tensor, keep_ratio: str, call: Call) -> tuple[Tensor, Selection]:
    """Images that keep equally many patches pass together, so that fewer patches are less work.

    Args:
        model: a SelectiveViT, in eval mode.
        images: (B, C, H, W), normalised.
        keep_ratio: "auto", or "auto:0.2" for a fifth on average, one of those that `model.calibrate` has prepared.
        call: its policy and draw_index.

    Returns:
        Logits (B, classes), and log-weights with the kept indices, -1 behind an image's last.

    Raises:
        ValueError: the model is not prepared for that average, its selector has learned no weights, or the call asks
            for what a budget for each image leaves no room for.
    """
    if model.training or call.kept is not None or call.lines is not None or call.mode != "gather" or not len(images):
        raise ValueError(
            f"keep_ratio={keep_ratio!r} is for images of a model in eval mode, without kept, lines or mode: "
            "call model.eval(), and leave these out"
        )
    average = budget.average_of(keep_ratio)
    if average not in model.budgets:
        known = ", ".join(f"{one:g}" for one in sorted(model.budgets)) or "none"
        raise ValueError(
            f"this model is not prepared to keep {average:g} of the patches on average (prepared for: {known}): "
            f"call model.calibrate(batches of val images, [{average:g}]) first"
        )
    view, chooser = model.view(images, call.policy, draw_index=call.draw_index), model.chooser(call.policy)
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
