"""TEMPORARY: recipes' labels and lines, until their own files are merged."""

from asel_lib.registry import RECIPES, Recipe

for _name, _line in {"masked": "--", "dropped": "-", "anytime": "-", "agent": "-."}.items():
    RECIPES.add(_name, Recipe(_name, _name, object, linestyle=_line))
