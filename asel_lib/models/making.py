"""From a timm model to a selective one: `make_selective` of a model that somebody has, and what it needs."""

import math
from collections.abc import Callable, Sequence

from timm.data import create_transform, resolve_model_data_config
from torch import nn

from asel_lib.data.batches import Transform
from asel_lib.data.batches import transform as own_transform
from asel_lib.models.families import family_of
from asel_lib.models.kept_embed import KeptPatchEmbed
from asel_lib.selection import create


def make_selective(
    model: nn.Module, selector: str = "glance", transform: Callable | None = None, classes: Sequence[str] | None = None
):
    """Make a timm model that you have selective: its weights, its head and its parameters' names stay.

    The model itself changes, so that optimizers and whoever else holds it keep it; an error leaves it as it was.
    Policies that need no training (random, central, even, edge_energy, line_guided, smaller_image, evit, tome) work at
    once, others once they are trained (`asel_lib.train`).

    Args:
        model: a timm model of a family in `models.families`, on any device, of any number format.
        selector: its own selector, with options where it has some.
        transform: PIL image -> (C, H, W) float tensor, for `predict`; None: what timm says of the model.
        classes: names of the head's outputs, for `predict`.

    Returns:
        The same object, now a SelectiveViT: `model(images, keep_ratio, policy)`.

    Raises:
        ValueError: the model is of no known family, drops patches itself, is selective already, does not suit the
            selector, or has another number of outputs than `classes`.
    """
    if hasattr(model, "patch_drop") and hasattr(model.patch_drop, "selector"):
        raise ValueError(
            f"the model is selective already, its own selector is {model.selector.name!r}: ask it for another policy "
            "in the call, model(images, keep_ratio, policy)"
        )
    made = taken_over(model, selector)
    if classes is not None and (isinstance(classes, str) or len(classes) != model.num_classes):
        raise ValueError(f"classes is {classes!r}: expected the names of the head's {model.num_classes} outputs")
    made.classes = None if classes is None else tuple(map(str, classes))
    made.transform = transform or _transform(made)
    if isinstance(transform, Transform):
        made.patch_drop.mean, made.patch_drop.std = transform.mean, transform.std
    vars(model).clear()
    vars(model).update(vars(made))
    model.__class__ = type(made)
    return model


def taken_over(built: nn.Module, selector: str, architecture: str = ""):
    """A selective model of the very parts of a timm model, which itself stays as it is.

    Args:
        built: timm's.
        selector: of the selective one.
        architecture: timm's name of it; "": as the model says.

    Raises:
        ValueError: see `make_selective`.
    """
    kind, settings = family_of(built, architecture), getattr(built, "pretrained_cfg", None) or {}
    slot = getattr(built, "patch_drop", None)
    if not (slot is None or isinstance(slot, nn.Identity)):
        raise ValueError(
            f"the model drops patches at random in training (patch_drop_rate={getattr(slot, 'prob', '?')}), in the "
            "slot where the selector chooses them: make it with patch_drop_rate=0"
        )
    made = kind.__new__(kind)
    vars(made).update(vars(built))
    made._modules = built._modules.copy()
    made.architecture = architecture or timm_name(settings) or type(built).__name__
    data = resolve_model_data_config(built, pretrained_cfg=settings)
    made.patch_drop = kind.slot(create(selector, built.embed_dim), built.embed_dim, data["mean"], data["std"])
    if KeptPatchEmbed.fits(built.patch_embed):
        made.patch_embed = KeptPatchEmbed.taking_over(built.patch_embed)
    made.selector.attach(made)
    made.patch_drop.to(next(built.parameters()).device).train(built.training)
    return made


def timm_name(settings) -> str:
    """timm's name of a model with its tag: "vit_tiny_patch16_224.augreg_in21k"."""
    return ".".join(filter(None, (settings.get("architecture", ""), settings.get("tag", ""))))


def _transform(model) -> Callable | None:
    """What timm prepares images by for this model, at the size that it has; None: it takes no RGB images."""
    if model.in_chans != 3:
        return None
    size = tuple(model.patch_embed.img_size or (0, 0))
    data = resolve_model_data_config(model) | ({"input_size": (3, *size)} if all(size) else {})
    height, width = data["input_size"][1:]
    # Ours where it does the same, since an exported folder can do it too.
    if height == width and data["interpolation"] == "bicubic":
        if data["crop_mode"] == "center":
            return own_transform(height, data["mean"], data["std"], math.floor(height / data["crop_pct"]))
        if data["crop_mode"] == "squash" and data["crop_pct"] == 1:
            return own_transform(height, data["mean"], data["std"])
    return create_transform(**data, is_training=False)
