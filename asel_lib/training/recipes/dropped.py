"""The recipe `dropped`."""

from asel_lib.registry import RECIPES, Recipe
from asel_lib.training.objectives import AselRun


class DroppedRun(AselRun):
    """Only the kept tokens enter the blocks in training too; which are kept is drawn by Gumbel top-k."""

    mode = "gumbel"


RECIPES.add(
    "dropped",
    Recipe(
        "dropped",
        "dropped",
        DroppedRun,
        purpose=DroppedRun.__doc__,
        linestyle="-.",
        any_selector=True,
        reducers=True,
        forwards=lambda ratio, settings: {ratio: 1},
    ),
)
