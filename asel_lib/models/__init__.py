"""Vision Transformers whose blocks see only the patches that a selector keeps."""

from asel_lib.models.line_guided_vit import SelectiveMagnoViT
from asel_lib.models.selective_vit import SelectiveViT

__all__ = ["SelectiveMagnoViT", "SelectiveViT"]
