"""Which patches a policy keeps of which image, and by which scores, as a table: what a sheet of patches is drawn from
by whoever has the images, and what is left to see of it where nobody has."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from asel_lib.data.decode import ImageArray
from asel_lib.models.predict import evaluating
from asel_lib.selection import policy_string
from asel_lib.selection.line_guided import LineGuidedSelector, centre


@torch.inference_mode()
def kept_patches(
    model,
    batch: Tensor,
    images: ImageArray,
    indices: np.ndarray,
    keep_ratio: float,
    policy: str | None = None,
    lines: Tensor | None = None,
    **about,
) -> pd.DataFrame:
    """Which patches of some images are kept: a row an image, as in `tables.PATCHES`.

    Args:
        model: with `classes`.
        batch: (n, C, S, S) normalised: the images at `indices` of `images`.
        images: the data set.
        indices: (n,).
        keep_ratio: share of the patches that is kept.
        policy: how they are chosen; None: the model's own way.
        lines: (n, 1, h, w), the images' drawings, for the model's own selector where that does not draw them itself.
        about: columns in front, the same in all rows (`ModelKey.columns`, split).

    Returns:
        policy, keep_ratio, image, digest (name and digest of its file), pixels (S), class, answer (names), rows,
        columns (of the grid), kept (numbers in raster order, best first), scores (of every patch, before any draw),
        scores_of (what they are, or why there are none), centre (of gravity of the line drawing, y and x in [0, 1]).
        Several numbers in a cell are separated by spaces; a cell is empty where there is nothing of the kind.
    """
    lines = model.patch_drop.brought(policy, lines)
    with evaluating(model):
        logits, selection = model(batch, keep_ratio, policy, lines, return_selection=True)
        kept = model.kept_of(selection, batch, policy, lines)
        scores, scores_of_what = scores_of(model, batch, policy, lines)
        middle = _centres(model, batch, policy, lines)
    rows, columns = (int(side) for side in model.patch_embed.dynamic_feat_size(batch.shape[-2:]))
    return pd.DataFrame(
        [
            about
            | {
                "policy": policy or policy_string(model.selector),
                "keep_ratio": keep_ratio,
                "image": images.names[index],
                "digest": images.digests[index],
                "pixels": batch.shape[-1],
                "class": images.classes[int(images.labels[index])],
                "answer": model.classes[answer],
                "rows": rows,
                "columns": columns,
                "kept": _numbers(kept[place]),
                "scores": "" if scores is None else _numbers(scores[place].tolist()),
                "scores_of": scores_of_what,
                "centre": "" if middle is None else _numbers(middle[place].tolist()),
            }
            for place, (index, answer) in enumerate(zip(indices, logits.argmax(dim=1).tolist(), strict=True))
        ]
    )


def scores_of(
    model, images: Tensor, policy: str | None = None, lines: Tensor | None = None
) -> tuple[Tensor | None, str]:
    """What a policy keeps patches by, before any draw.

    Args:
        model: a SelectiveViT.
        images: (B, C, H, W), normalised.
        policy: None: the model's own.
        lines: as for the model.

    Returns:
        Scores (B, N) and what they are; None and the reason where there is nothing that is worth a look.
    """
    view = model.view(images, policy, lines)
    with view.full_precision():
        return model.chooser(policy).explain(view)


def _centres(model, images: Tensor, policy: str | None, lines: Tensor | None) -> Tensor | None:
    if not isinstance(model.chooser(policy), LineGuidedSelector):
        return None
    return centre(model.view(images, policy, lines).lines.float())


def _numbers(values: Sequence[float]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
