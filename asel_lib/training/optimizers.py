"""The optimiser of a training stage and the schedule of its learning rates, as its settings say."""

import torch
from timm.scheduler import CosineLRScheduler
from torch import nn

from asel_lib.configs import StageSettings


def optimizer(model: nn.Module, settings: StageSettings, excluded: tuple[str, ...] = ()) -> torch.optim.Optimizer:
    """Adam(W) with the three learning rates of ASEL; no weight decay on biases and norms.

    Args:
        model: a SelectiveViT; its selector is `patch_drop`, its head `head`, all else the backbone.
        settings: `optimizer`, `lr_selector`, `lr_backbone`, `lr_head`, `weight_decay`.
        excluded: parameters whose names begin so are left out.
    """
    groups: dict[tuple[str, bool], list] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not name.startswith(excluded):
            part = "selector" if name.startswith("patch_drop.") else "head" if name.startswith("head.") else "backbone"
            groups.setdefault((part, parameter.ndim > 1), []).append(parameter)
    made = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[settings.optimizer]
    return made(
        [
            {
                "params": parameters,
                "lr": getattr(settings, f"lr_{part}"),
                "weight_decay": settings.weight_decay if decayed else 0.0,
            }
            for (part, decayed), parameters in groups.items()
        ],
        fused=True,
    )


def scheduler(
    optimizer: torch.optim.Optimizer, settings: StageSettings, steps_an_epoch: int
) -> CosineLRScheduler | None:
    """Linear warm-up, then the cosine, updated every step; None for constant learning rates.

    Args:
        optimizer: whose rates are the highest ones.
        settings: `schedule`, `epochs`, `warmup_epochs`, `lr_min`.
        steps_an_epoch: how many updates an epoch has.
    """
    if settings.schedule != "cosine":
        return None
    return CosineLRScheduler(
        optimizer,
        t_initial=settings.epochs * steps_an_epoch,
        warmup_t=round(settings.warmup_epochs * steps_an_epoch),
        warmup_lr_init=0.0,
        lr_min=settings.lr_min,
        warmup_prefix=False,
        t_in_epochs=False,
    )
