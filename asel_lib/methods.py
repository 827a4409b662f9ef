"""A method: a way of choosing patches and the recipe that its model was trained by. Its label and look are made here
from what selector and recipe say of themselves, for those that nobody listed too."""

import zlib
from dataclasses import dataclass

from asel_lib.identity import LINE_GUIDED, default_recipe, policy_parts, selector_name
from asel_lib.registry import RECIPES, picked_look

__all__ = ["LINE_GUIDED", "Method", "method", "parse", "policy_label", "recipes"]
YARDSTICKS = ("random", "central", "learned")  # the selectors that every other one is set against


@dataclass(frozen=True)
class Method:
    """How patches are chosen and how the model was trained.

    Args:
        selector: the policy: a name, or a name with options ("glance:choice=top").
        recipe: the recipe's name.
        label: in legends and tables.
        color: "#rrggbb".
        marker: one of matplotlib's.
        linestyle: one of matplotlib's.
    """

    selector: str
    recipe: str
    label: str
    color: str
    marker: str
    linestyle: str

    @property
    def text(self) -> str:
        """As `parse` reads it: "glance/anytime"; the recipe that goes without saying is left out."""
        return self.selector + ("" if self.recipe == default_recipe(self.selector) else f"/{self.recipe}")

    @property
    def look(self) -> dict[str, str]:
        """Arguments of matplotlib's `plot`; points are hollow where the recipe is not the selector's usual one."""
        hollow = {} if self.recipe == recipes(self.selector)[0] else {"markerfacecolor": "white"}
        return {"color": self.color, "marker": self.marker, "linestyle": self.linestyle} | hollow

    @property
    def compared_with(self) -> tuple["Method", ...]:
        """The methods that it is set against: YARDSTICKS by each of their recipes, and random patches by its own."""
        pairs = [("random", self.recipe), *((name, recipe) for name in YARDSTICKS for recipe in recipes(name))]
        return tuple(method(*pair) for pair in dict.fromkeys(pairs) if pair != (self.selector, self.recipe))


def method(selector: str, recipe: str = "") -> Method:
    """The method of a selector and a recipe.

    Args:
        selector: the policy, with options where it has some; one that is not registered has its name as label.
        recipe: "": the selector's usual one.
    """
    usual = recipes(selector)[0]
    recipe = recipe or usual
    label, color, marker = _shown(selector)
    by = RECIPES[recipe] if recipe in RECIPES else None
    added = (recipe if by is None else by.label) if recipe != usual else ""
    if added:
        color = _lighter(color, 0.25 + 0.35 * (zlib.crc32(recipe.encode()) % 2))
    return Method(selector, recipe, f"{label}, {added}" if added else label, color, marker, by.linestyle if by else "-")


def parse(text: str) -> Method:
    """The method that a text names: "<policy>" or "<policy>/<recipe>".

    Raises:
        ValueError: where there is no policy, or more than one recipe.
    """
    selector, slash, recipe = text.partition("/")
    if not selector or "/" in recipe or (slash and not recipe):
        raise ValueError(f"{text!r} is no method: expected e.g. 'random', 'learned/masked' or 'glance/anytime'")
    return method(selector, recipe or default_recipe(selector))


def recipes(selector: str) -> tuple[str, ...]:
    """The recipes that train models with that selector: those that it names itself, the usual one first, and those
    that name it."""
    name, entry = selector_name(selector), _entry(selector)
    own = (entry.recipes if entry else ()) or (default_recipe(selector),)
    return (*own, *(one.name for one in RECIPES if name in one.selectors and one.name not in own))


def policy_label(policy: str) -> str:
    """The label of a way of choosing alone, whatever the model was trained by."""
    return _shown(policy)[0]


def _entry(selector: str):
    from asel_lib import selection  # torch: seconds to import

    name = selector_name(selector)
    return selection.entry(name) if name in selection.names() else None


def _shown(policy: str) -> tuple[str, str, str]:
    """Label, colour and marker of a policy; options that are not the defaults have a look of their own."""
    from asel_lib import selection  # torch: seconds to import

    (name, options), entry = policy_parts(policy), _entry(policy)
    label = entry.label if entry else name.replace("_", " ")
    if options:
        label += f" ({', '.join(value or option for option, value in options.items())})"
    plain = not options or (entry and selection.parse(policy) == selection.parse(name))
    return label, *((entry.color, entry.marker) if plain and entry else picked_look(policy))


def _lighter(color: str, share: float) -> str:
    """The colour with so much white in it."""
    parts = [int(color[at : at + 2], 16) for at in (1, 3, 5)]
    return "#" + "".join(f"{round(part + (255 - part) * share):02x}" for part in parts)
