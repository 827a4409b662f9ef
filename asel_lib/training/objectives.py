"""What the recipes `masked` and `dropped` optimise (ASEL): the keep ratio of a batch, how its patches are selected in
training, and the loss."""

from collections.abc import Callable

import torch
from torch import Tensor

from asel_lib.configs import StageSettings
from asel_lib.reproducibility import BatchSliceGenerator, derived_seed, generator
from asel_lib.training.losses import cross_entropy
from asel_lib.training.sharding import Shard, TrainBatch, batch_generator, zero_loss
from asel_lib.training.supervised import SupervisedRun


class AselRun(SupervisedRun):
    """Training by ASEL's loss with one keep ratio a batch; `mode`: the slot's training mode (`selection.slot`)."""

    mode: str

    def compute_gradients(self, epoch: int, batch: TrainBatch) -> None:
        ratio = keep_ratio(self.settings, self.seed, epoch, batch.step)

        def shard_loss(shard: Shard) -> tuple[Tensor, Tensor]:
            if not len(shard.rows):
                return zero_loss(self.model), batch.images.new_zeros(0, self.model.num_classes)
            value, logits = loss(
                self.model,
                shard.images,
                shard.labels,
                shard.lines,
                mode=self.mode,
                ratio=ratio,
                sparsity=self.settings.sparsity,
                noise=batch_generator(shard.rows, shard.count, self.seed, "noise", batch.step),
                draw=derived_seed(self.seed, "draw", batch.step),
                weights=self.class_weights,
            )
            return value * shard.share, logits

        self.backward(shard_loss, batch, ratio)


def keep_ratio(settings: StageSettings, seed: int, epoch: int, step: int) -> float:
    """ASEL's schedule: 1 in the first epochs, then one uniform draw a batch. Depends on (seed, step) alone.

    Args:
        settings: `full_epochs`, and the range [`ratio_low`, `ratio_high`].
        seed: the training's.
        epoch: from 0.
        step: number of the batch in the whole training.
    """
    if epoch < settings.full_epochs:
        return 1.0
    share = torch.rand((), generator=generator(seed, "keep ratio", step)).item()
    return settings.ratio_low + share * (settings.ratio_high - settings.ratio_low)


def loss(
    model: Callable,
    images: Tensor,
    labels: Tensor,
    lines: Tensor | None = None,
    *,
    mode: str,
    ratio: float,
    sparsity: float,
    noise: torch.Generator | BatchSliceGenerator,
    draw: int = 0,
    weights: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Cross entropy + sparsity * mean(s), s the scores of all patches -> (scalar loss, logits (B, classes)).

    A selector without parameters (random, line-guided) has nothing to learn: its choice enters the blocks, and the loss
    is cross entropy. Source: ASEL, training table.

    Args:
        model: a SelectiveViT.
        images: (B, 3, S, S).
        labels: (B,).
        lines: (B, 1, h, w), line drawings for a selector that needs them.
        mode: "mask" or "gumbel", see `training.recipes.masked` and `.dropped`.
        ratio: keep ratio in (0, 1].
        sparsity: weight of the scores' mean.
        noise: for the Gumbel draws.
        draw: number of the draw, for a selector without parameters that draws.
        weights: (classes,), of the classes; None: all alike.

    Raises:
        ValueError: for mode "mask" and a selector without parameters.
    """
    if next(model.selector.parameters(), None) is None:
        if mode == "mask":
            raise ValueError(
                f"a mask trains the selector by its gradient, and {model.selector.name!r} has no weights: use recipe "
                "'dropped'"
            )
        logits = model(images, ratio, lines=lines, draw_index=draw)
        return cross_entropy(logits, labels, weights), logits
    logits, selection = model(images, ratio, lines=lines, mode=mode, generator=noise, return_selection=True)
    loss = cross_entropy(logits, labels, weights)
    if selection.scores is None:  # of one that takes tokens out between the blocks
        return loss, logits
    return loss + sparsity * selection.scores.float().mean(), logits
