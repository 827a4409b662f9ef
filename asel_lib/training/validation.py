"""How good a model is on the val part, at several keep ratios."""

import numpy as np
import torch
from accelerate import Accelerator
from torch import nn

from asel_lib.data.batches import Batches
from asel_lib.devices import autocast
from asel_lib.training import processes


@torch.inference_mode()
def validate(
    model: nn.Module,
    batches: Batches,
    ratios: tuple[float, ...],
    precision: str,
    accelerator: Accelerator | None = None,
) -> dict[float, float]:
    """Leave the model in eval mode and return the top-1 accuracy of its own selector at each keep ratio.

    Args:
        model: a SelectiveViT.
        batches: the val part.
        ratios: keep ratios in (0, 1].
        precision: a resolved one, see `devices.autocast`.
        accelerator: where several processes share the images; None: this process classifies them all.
    """
    model.eval()
    correct, count = dict.fromkeys(ratios, 0), len(batches.indices)
    if accelerator is not None and accelerator.num_processes > 1:
        batches = batches.only(np.arange(count)[accelerator.process_index :: accelerator.num_processes])
    for images, labels, *drawn in batches:
        lines = drawn[0] if drawn else None
        for ratio in ratios:
            with autocast(images.device, precision):
                correct[ratio] += (model(images, ratio, lines=lines).argmax(dim=1) == labels).sum().item()
    right = correct.values() if accelerator is None else processes.summed([*correct.values()], accelerator)
    return {ratio: number / count for ratio, number in zip(ratios, right, strict=True)}
