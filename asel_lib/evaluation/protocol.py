"""Who may know what when a model is tested: the fair protocol, and AgentViT's published one, to show what it does."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from asel_lib import checks
from asel_lib.selection import keep_count, parse, stable_topk


@dataclass(frozen=True)
class Protocol:
    """labels: the agent is told the true class of each test image. one_mask: its values are averaged over the batch,
    and all images of it keep the same patches. drop_last: images of an incomplete last batch are not tested.
    raster_random: "random" keeps the first K patches, from the top left corner on."""

    labels: bool = False
    one_mask: bool = False
    drop_last: bool = False
    raster_random: bool = False


PROTOCOLS = {"fair": Protocol(), "published": Protocol(labels=True, one_mask=True, drop_last=True, raster_random=True)}


def protocol_of(name: str | Protocol) -> Protocol:
    """By name, or itself; ValueError for a name that there is not."""
    if isinstance(name, Protocol):
        return name
    return PROTOCOLS[checks.one_of("protocol", name, PROTOCOLS)]


def leaked(
    protocol: Protocol, model: nn.Module, images: Tensor, labels: Tensor, keep_ratio: float, policy: str | None
) -> Tensor | None:
    """The patches that a protocol keeps in place of the policy's own fair choice.

    Args:
        protocol: of the test.
        model: a SelectiveViT.
        images: (B, C, H, W), normalised.
        labels: (B,) numbers of the classes.
        keep_ratio: in (0, 1).
        policy: None: the model's own.

    Returns:
        Indices (B, K); None: the policy's own choice.

    Raises:
        ValueError: names classes that the agent remembers no mask of.
    """
    if protocol == Protocol():
        return None
    kind = type(model.patch_drop.selector) if policy is None else parse(policy)[0]
    name, keep = kind.name, keep_count(model.patch_embed.num_patches, keep_ratio)
    if name == "random" and protocol.raster_random:
        return torch.arange(keep, device=images.device).expand(len(images), -1)
    if name != "agent" or not (protocol.labels or protocol.one_mask):
        return None
    agent = model.chooser(policy)
    if protocol.labels:
        agent.check(labels, remembered=True)
    tokens = model.patch_tokens(images)
    with torch.autocast(images.device.type, enabled=False):
        values = agent.values(agent.attention(tokens.float(), model.blocks[0]), labels if protocol.labels else None)
    if protocol.one_mask:
        values = values.mean(dim=0, keepdim=True).expand(len(images), -1)
    return stable_topk(values, keep)
