"""Which of timm's blocks are the plain ones, through whose halves a selector can run or look."""

from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import nn


def is_plain(block: nn.Module) -> bool:
    """Whether it is timm's Block with timm's Attention: x + attention, then x + MLP, one after the other."""
    return type(block) is Block and type(block.attn).forward is Attention.forward


def check_plain(model: nn.Module, blocks: nn.Sequential, who: str) -> None:
    """Refuse blocks that are not plain.

    Args:
        model: a SelectiveViT, to be named.
        blocks: those of it that have to be.
        who: the selector that asks.

    Raises:
        ValueError: names what the model has.
    """
    if strange := next((block for block in blocks if not is_plain(block)), None):
        inside = getattr(strange, "attn", None)
        attention = f" with {type(inside).__name__}" if inside is not None else ""
        raise ValueError(
            f"{who} works on timm's plain blocks (Block with Attention), and {model.architecture} has "
            f"{type(strange).__name__}{attention}: use another model, or a policy that looks at no block, e.g. "
            "'glance', 'learned' or 'central'"
        )
