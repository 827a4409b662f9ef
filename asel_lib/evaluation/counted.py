"""What the published models cost by count: multiply-accumulates at their own image size, which need no weights."""

from collections.abc import Callable
from functools import cache

import pandas as pd

from asel_lib.evaluation.cost import gmacs
from asel_lib.methods import LINE_GUIDED
from asel_lib.models import SelectiveViT
from asel_lib.models.agent_vit import AgentViT
from asel_lib.selection import keep_count

RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
# Name -> (the untrained model, side of its images in pixels, the policy that it is asked with).
MODELS: dict[str, tuple[Callable, int, str]] = {
    "asel": (lambda: SelectiveViT("vit_tiny_patch16_224", 10, "learned"), 224, "learned"),
    "agentvit": (lambda: AgentViT(10), 224, "agent"),
    "line_guided": (lambda: SelectiveViT("vit_tiny_patch16_224", 10, LINE_GUIDED, img_size=256), 256, LINE_GUIDED),
}


@cache
def counted(name: str) -> pd.DataFrame:
    """Count a published model, untrained, at its own image size. It takes a second or two, once a process.

    Args:
        name: one of MODELS.

    Returns:
        A row a keep ratio of RATIOS: policy, keep_ratio, kept_patches, gmacs (1e9 multiply-accumulates of one image,
        choosing and attention included).
    """
    make, side, policy = MODELS[name]
    model = make().eval()
    rows = [
        {
            "policy": policy,
            "keep_ratio": ratio,
            "kept_patches": keep_count(model.patch_embed.num_patches, ratio),
            "gmacs": gmacs(model, side, ratio, policy).total,
        }
        for ratio in RATIOS
    ]
    return pd.DataFrame(rows)
