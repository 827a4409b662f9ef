"""Vision Transformers whose blocks see only the patches that a selector keeps."""

from asel_lib.models.agent_vit import AgentViT
from asel_lib.models.line_guided_vit import SelectiveMagnoViT
from asel_lib.models.making import make_selective
from asel_lib.models.selective_vit import SelectiveViT

__all__ = ["AgentViT", "SelectiveMagnoViT", "SelectiveViT", "build", "make_selective"]


def build(
    architecture: str, num_classes: int, selector: str, pretrained: bool = False, *, img_size: int, **settings
) -> SelectiveViT:
    """The model of a profile or a record: "agentvit", or a timm ViT by name; settings go to the one or to timm."""
    if architecture == "agentvit":
        return AgentViT(num_classes, selector, img_size, **settings)
    return SelectiveViT(architecture, num_classes, selector, pretrained, img_size=img_size, **settings)
