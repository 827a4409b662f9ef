"""What can be added in a file of its own: recipes, figures, metrics. (Selectors have theirs in `selection`.)

A registry finds its entries by importing every module of one package when it is first asked, so that an entry stands
beside what it describes and nobody else lists it.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from asel_lib import checks

Entry = TypeVar("Entry")


class Registry(Generic[Entry]):
    """Entries by name.

    Args:
        kind: what an entry is, for errors: "recipe".
        package: the package whose modules register themselves; modules whose names begin with "_" are left out.
    """

    def __init__(self, kind: str, package: str):
        self.kind, self.package = kind, package
        self._entries: dict[str, Entry] = {}
        self._searched = False

    def add(self, name: str, entry: Entry) -> Entry:
        """Register an entry.

        Raises:
            ValueError: where there is another of that name.
        """
        if name in self._entries:
            raise ValueError(f"a {self.kind} {name!r} is already registered: choose another name")
        self._entries[name] = entry
        return entry

    def names(self) -> tuple[str, ...]:
        """In the order of registration: modules by name, in each from top to bottom."""
        self._search()
        return tuple(self._entries)

    def __getitem__(self, name: str) -> Entry:
        """The entry of that name; ValueError with the known names where there is none."""
        self._search()
        if name not in self._entries:
            checks.one_of(self.kind, name, tuple(self._entries))
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._search()
        return name in self._entries

    def __iter__(self) -> Iterator[Entry]:
        self._search()
        return iter(tuple(self._entries.values()))

    def _search(self) -> None:
        if self._searched:
            return
        self._searched = True
        package = importlib.import_module(self.package)
        for module in sorted(pkgutil.iter_modules(package.__path__), key=lambda found: found.name):
            if not module.name.startswith("_"):
                importlib.import_module(f"{self.package}.{module.name}")


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; `training/recipes/<name>.py` registers one.

    Args:
        name: in records, names and profiles.
        label: in legends and tables, "" where the selector's label alone says it.
        run: the class that makes the training's steps; it is given `recipe_settings=` where there are some.
        settings: the class of its own settings, in a profile under `recipe_settings: {<name>: ...}`; None: it has none.
        purpose: one sentence for the documents.
        linestyle: matplotlib's, of lines in figures.
        selector: what it trains on the published schedule, "" for the profile's own.
        one_ratio: whether it can train for one keep ratio alone.
        alone: whether it trains in one process alone.
    """

    name: str
    label: str
    run: Callable
    settings: type | None = None
    purpose: str = ""
    linestyle: str = "-"
    selector: str = ""
    one_ratio: bool = True
    alone: bool = False

    def run_class(self, recipe_settings: object = None) -> Callable:
        """What makes the training's steps, with the recipe's own settings, where it has some."""
        return self.run if recipe_settings is None else partial(self.run, recipe_settings=recipe_settings)


RECIPES: Registry[Recipe] = Registry("recipe", "asel_lib.training.recipes")
