"""ASEL as published: all tokens stay in training and are multiplied by the straight-through mask."""

from asel_lib.registry import RECIPES, Recipe
from asel_lib.training.supervised import MaskedRun

RECIPES.add("masked", Recipe("masked", "masked", MaskedRun, purpose=__doc__.strip(), linestyle="--"))
