"""Models of a profile's shape with random weights, to be timed: time does not depend on weights."""

import copy
import math
from dataclasses import replace
from datetime import UTC, datetime

import pandas as pd
import timm
import torch
from torch import Tensor, nn

from asel_lib.configs import ModelSettings, Profile
from asel_lib.models import SelectiveViT, build
from asel_lib.reproducibility import environment, generator, seeded
from asel_lib.tables import SPEED


def model_of(profile: Profile, selector: str, device: torch.device, classes: int = 10, **changes) -> SelectiveViT:
    """The profile's model with another selector, random weights, in eval mode.

    Args:
        profile: whose network.
        selector: the policy.
        device: where it lies.
        classes: of its head.
        changes: of its arguments for timm, and `image_size`.
    """
    settings: ModelSettings = replace(profile.model, image_size=changes.pop("image_size", profile.model.image_size))
    with seeded("speed"):
        model = build(
            settings.architecture, classes, selector, img_size=settings.image_size, **(settings.timm | changes)
        )
    return model.to(device).eval()


def plain_of(model: SelectiveViT) -> nn.Module:
    """timm's own model of the same shape and weights."""
    embed = model.patch_embed
    plain = timm.create_model(
        model.architecture,
        num_classes=model.num_classes,
        img_size=embed.img_size[0],
        patch_size=embed.patch_size[0],
        embed_dim=model.embed_dim,
        depth=len(model.blocks),
        num_heads=model.blocks[0].attn.num_heads,
    )
    weights = {name: value for name, value in model.state_dict().items() if not name.startswith("patch_drop.")}
    plain.load_state_dict(copy.deepcopy(weights))
    return plain.to(next(model.parameters()).device).eval()


def pixels(model: SelectiveViT, count: int, device: torch.device) -> Tensor:
    """Random images of a model's size.

    Args:
        model: a SelectiveViT.
        count: B.
        device: where they lie.

    Returns:
        (B, 3, S, S).
    """
    size = model.patch_embed.img_size
    return torch.randn(count, 3, *size, generator=generator(0, "speed")).to(device)


def with_origin(frame: pd.DataFrame, profile: Profile, device: torch.device) -> pd.DataFrame:
    """Rows of `tables.SPEED`, with what was measured where.

    Args:
        frame: the columns that differ from row to row; what is not among them is empty, and `compiled` False.
        profile: whose model was measured.
        device: on which.
    """
    found = environment()
    about = {
        "profile": profile.name,
        "device": found["device_name"] if device.type == found["device"] else device.type,
        "threads": torch.get_num_threads() if device.type == "cpu" else math.nan,
        "torch": found["torch"],
        "commit": found["commit"],
        "timestamp": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    defaults = {"dataset": "", "recipe": "", "baseline": "", "compiled": False}
    missing = {name: value for name, value in defaults.items() if name not in frame}
    return frame.assign(**about, **missing).reindex(columns=list(SPEED.columns))
