"""What a recipe optimises: how patches are selected in training, at which keep ratio, and the loss."""

import torch
import torch.nn.functional as F
from torch import Tensor

from asel_lib.profiles import StageSettings, check_recipe
from asel_lib.reproducibility import generator

# recipe -> the slot's training mode (selection.slot.Call)
MODES = {
    "paper": "mask",  # as published: all tokens stay, multiplied by the straight-through mask
    "dropped": "gumbel",  # only the kept tokens enter the blocks; the kept set is drawn by Gumbel top-k
}


def keep_ratio(settings: StageSettings, seed: int, epoch: int, step: int) -> float:
    """ASEL's schedule: 1 in the first epochs, then one uniform draw a batch. Depends on (seed, step) alone."""
    if epoch < settings.full_epochs:
        return 1.0
    share = torch.rand((), generator=generator(seed, "keep ratio", step)).item()
    return settings.ratio_low + share * (settings.ratio_high - settings.ratio_low)


def loss(
    model, images: Tensor, labels: Tensor, *, recipe: str, ratio: float, sparsity: float, noise: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Cross entropy + sparsity * mean(s), s the scores of all patches (ASEL, training table).

    images (B, 3, S, S), labels (B,) -> (scalar loss, logits (B, classes)). `noise` drives the Gumbel draws.
    """
    mode = MODES[check_recipe(recipe)]
    logits, selection = model(images, ratio, mode=mode, generator=noise, return_selection=True)
    return F.cross_entropy(logits.float(), labels) + sparsity * selection.scores.float().mean(), logits
