"""Profiles: every setting of a run in one frozen, checked object, read from configs/<name>.yaml."""

from asel_lib.configs.profile import FOLDER, Profile, changed, chosen, from_dict, load, names
from asel_lib.configs.settings import (
    AUGMENTATIONS,
    PRECISIONS,
    SPLIT_PROTOCOLS,
    EvaluationSettings,
    ModelSettings,
    SpeedSettings,
    StageSettings,
)

__all__ = [
    "AUGMENTATIONS", "FOLDER", "PRECISIONS", "SPLIT_PROTOCOLS", "EvaluationSettings", "ModelSettings", "Profile",
    "SpeedSettings", "StageSettings", "changed", "chosen", "from_dict", "load", "names",
]  # fmt: skip
