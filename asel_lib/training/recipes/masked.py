"""The recipe `masked`."""

from asel_lib.registry import RECIPES, Recipe
from asel_lib.training.objectives import AselRun


class MaskedRun(AselRun):
    """ASEL as published: all tokens stay in the blocks in training, multiplied by the straight-through mask."""

    mode = "mask"


RECIPES.add(
    "masked",
    Recipe(
        "masked",
        "masked",
        MaskedRun,
        purpose=MaskedRun.__doc__,
        linestyle="--",
        forwards=lambda ratio, settings: {1.0: 1, "selector": 1},
    ),
)
