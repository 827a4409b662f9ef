"""Named tensors into networks: what a record describes is made and filled, and what does not fit is named."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from asel_lib.errors import CheckpointError


def network_of(record: dict, weights: dict[str, Tensor], source: Path):
    """The model of a record with these weights. A record may describe a network larger than any memory: it is made
    without memory first ("meta"), and in earnest only where its tensors are of the weights' shapes.

    Args:
        record: of a checkpoint.
        weights: name -> tensor.
        source: what an error names.

    Raises:
        CheckpointError: the record describes no network, or one of other shapes.
    """
    from asel_lib.models import build

    described, settings = record["model"], record["model"]["timm"]

    def made():
        size, classes = record["transform"]["size"], len(record["classes"])
        return build(described["architecture"], classes, described["selector"], img_size=size, **settings)

    try:
        counts = [settings[name] for name in ("depth", "reg_tokens") if isinstance(settings.get(name), int)]
        if any(count > len(weights) for count in counts):
            raise ValueError(f"more blocks than the {len(weights)} tensors it comes with")
        with torch.device("meta"):
            outline = made()
    except Exception as error:  # the arguments are a stranger's: any of timm's and torch's errors
        raise CheckpointError(
            f"{source}: its record describes no network ({type(error).__name__}: {str(error)[:300]}); copy or train "
            "the checkpoint again"
        ) from error
    _check_shapes(outline, weights, source)
    model = made()
    fill(model, weights, source)
    return model


def fill(model, weights: dict[str, Tensor], source: object, leave: tuple[str, ...] = ()) -> None:
    """Load weights into a model.

    Args:
        model: filled in place.
        weights: name -> tensor.
        source: what an error names.
        leave: how names begin that keep the model's own values.

    Raises:
        CheckpointError: names the first tensor that does not fit.
    """
    weights = {key: value for key, value in weights.items() if not key.startswith(leave)} if leave else weights
    _check_shapes(model, weights, source, leave)
    model.load_state_dict(weights, strict=False)


def first_mismatch(own: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> tuple[str, object, object] | None:
    """The first tensor, by name, that two sets do not have in the same shape.

    Args:
        own: name -> tensor.
        others: name -> tensor.

    Returns:
        Its name and its two shapes, "missing" where it is not there; None where all are alike.
    """
    for name in sorted(own.keys() | others.keys()):
        here, there = (tuple(held[name].shape) if name in held else "missing" for held in (own, others))
        if here != there:
            return name, here, there
    return None


def _check_shapes(model, weights: dict[str, Tensor], source: object, leave: tuple[str, ...] = ()) -> None:
    own = {key: value for key, value in model.state_dict().items() if not (leave and key.startswith(leave))}
    if found := first_mismatch(own, weights):
        name, here, there = found
        raise CheckpointError(f"{source}: of another architecture: {name} is {there}, this model has {here}")
