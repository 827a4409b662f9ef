"""Only the kept tokens enter the blocks in training too; a learned selector's kept set is drawn by Gumbel top-k."""

from asel_lib.registry import RECIPES, Recipe
from asel_lib.training.supervised import DroppedRun

RECIPES.add("dropped", Recipe("dropped", "dropped", DroppedRun, purpose=__doc__.strip(), linestyle="-."))
