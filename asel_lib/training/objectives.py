"""What a recipe optimises: how patches are selected in training, at which keep ratio, and the loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asel_lib.profiles import StageSettings, check_recipe
from asel_lib.reproducibility import generator

# recipe -> the slot's training mode (selection.call.Call)
MODES = {
    "paper": "mask",  # as published: all tokens stay, multiplied by the straight-through mask
    "dropped": "gumbel",  # only the kept tokens enter the blocks; the kept set is drawn by Gumbel top-k
}  # "anytime" has steps of its own: training.anytime


def keep_ratio(settings: StageSettings, seed: int, epoch: int, step: int) -> float:
    """ASEL's schedule: 1 in the first epochs, then one uniform draw a batch. Depends on (seed, step) alone."""
    if epoch < settings.full_epochs:
        return 1.0
    share = torch.rand((), generator=generator(seed, "keep ratio", step)).item()
    return settings.ratio_low + share * (settings.ratio_high - settings.ratio_low)


def loss(
    model,
    images: Tensor,
    labels: Tensor,
    lines: Tensor | None = None,
    *,
    recipe: str,
    ratio: float,
    sparsity: float,
    noise: torch.Generator,
    draw: int = 0,
) -> tuple[Tensor, Tensor]:
    """Cross entropy + sparsity * mean(s), s the scores of all patches (ASEL, training table).

    images (B, 3, S, S), labels (B,), lines (B, 1, h, w) or None -> (scalar loss, logits (B, classes)). `noise` drives
    the Gumbel draws. A selector without parameters (random, line-guided) has nothing to learn: its choice for this
    `draw` enters the blocks, and the loss is cross entropy. ValueError for such a one and recipe "paper".
    """
    if check_recipe(recipe) not in MODES:
        raise ValueError(f"recipe {recipe!r} is trained by training.anytime.AnytimeRun, as the stages do")
    mode = MODES[recipe]
    if next(model.selector.parameters(), None) is None:
        if mode != "gumbel":
            raise ValueError(f"recipe {recipe!r} trains the selector, and this one has no weights: use 'dropped'")
        logits = model(images, ratio, lines=lines, draw_index=draw)
        return F.cross_entropy(logits.float(), labels), logits
    logits, selection = model(images, ratio, lines=lines, mode=mode, generator=noise, return_selection=True)
    loss = F.cross_entropy(logits.float(), labels)
    if selection.scores is None:  # of one that takes tokens out between the blocks
        return loss, logits
    return loss + sparsity * selection.scores.float().mean(), logits
