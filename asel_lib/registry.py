"""What can be added in a file of its own: recipes, metrics, figures, families of models. (Selectors have theirs in
`selection`.)

A registry finds its entries by importing every module of one package when it is first asked, so that an entry stands
beside what it describes and nobody else lists it.
"""

import importlib
import pkgutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Generic, TypeVar

from asel_lib import checks
from asel_lib.identity import ModelKey

if TYPE_CHECKING:  # slow to import, and needed by none of the entries
    import matplotlib.figure
    import pandas as pd

    from asel_lib.evaluation.outcome import Outcome

Entry = TypeVar("Entry")
# For what brings no look. Colours of Paul Tol's muted and light schemes; the marker tells them apart in grey.
COLORS = ("#332288", "#88CCEE", "#DDCC77", "#CC6677", "#77AADD", "#EE8866", "#44BB99", "#AAAA00")
MARKERS = ("d", "v", ">", "H", "8", "1", "2", "3", "4", "|")


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

        Args:
            name: it is found by.
            entry: what is found.

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
        selectors: names of selectors with weights that it trains, besides those that name it themselves.
        any_selector: whether it also trains a model whose selector has no weights.
        reducers: whether that holds for selectors that keep no patches before the first block, too.
        one_ratio: whether it can train for one keep ratio alone.
        alone: whether it trains in one process alone.
        forwards: (mean keep ratio of the schedule, the recipe's own settings) -> what a training image passes through:
            {keep ratio: how many forwards}, and under "selector" how often the selector alone; None: not counted.
    """

    name: str
    label: str
    run: Callable
    settings: type | None = None
    purpose: str = ""
    linestyle: str = "-"
    selector: str = ""
    selectors: tuple[str, ...] = ()
    any_selector: bool = False
    reducers: bool = False
    one_ratio: bool = True
    alone: bool = False
    forwards: Callable[[float, object], dict[float | str, float]] | None = None

    def run_class(self, recipe_settings: object = None) -> Callable:
        """What makes the training's steps, with the recipe's own settings, where it has some."""
        return self.run if recipe_settings is None else partial(self.run, recipe_settings=recipe_settings)


def picked_look(text: str) -> tuple[str, str]:
    """The colour and the marker of what brings none: picked by its name or policy, the same every time.

    Args:
        text: the name or the policy.

    Returns:
        "#rrggbb", and one of matplotlib's markers.
    """
    pick = zlib.crc32(text.encode())
    return COLORS[pick % len(COLORS)], MARKERS[pick // len(COLORS) % len(MARKERS)]


RECIPES: Registry[Recipe] = Registry("recipe", "asel_lib.training.recipes")


@dataclass(frozen=True)
class Metric:
    """What is computed of the answers to all test images; `evaluation/metrics/<name>.py` registers it.

    It becomes a column of the results, and each sweep computes it.

    Args:
        name: of the column.
        unit: of its values: "share" (in [0, 1], which reading holds them to) or another unit, in words.
        compute: an `evaluation.outcome.Outcome` -> its value, nan where there is none.
        purpose: one sentence for the documents.
        interval: an Outcome -> the ends of its 95 % interval, for columns <name>_low and <name>_high; None: none.
        optional: whether a table may lack it, and a row have no value of it: true of every metric that is newer than
            tables that are to be read.
    """

    name: str
    unit: str
    compute: "Callable[[Outcome], float]"
    purpose: str = ""
    interval: "Callable[[Outcome], tuple[float, float]] | None" = None
    optional: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns of the results, the value first."""
        return (self.name, f"{self.name}_low", f"{self.name}_high") if self.interval else (self.name,)


METRICS: Registry[Metric] = Registry("metric", "asel_lib.evaluation.metrics")


@dataclass(frozen=True)
class FigureEntry:
    """A figure that is drawn from a table; a module of `reporting/figures/` registers it.

    Args:
        name: of its files, behind the subject's: "1_strategies" makes <subject>_1_strategies.png.
        draw: (rows of the table, subject) -> the figure.
        subjects: models that were measured or will be -> what it is drawn of: names of data sets or checkpoints, ("",)
            for a figure that is drawn once, () where these models do not make it.
        table: which table it is drawn from: "results", "speed" or "deployed".
        everything: whether it also draws committed results of data sets that the run has none of.
        rows: whether it saves the rows that it draws as a CSV file.
    """

    name: str
    draw: "Callable[[pd.DataFrame, str], matplotlib.figure.Figure]"
    subjects: Callable[[Sequence[ModelKey]], Sequence[str]]
    table: str = "results"
    everything: bool = False
    rows: bool = True

    def stem(self, subject: str) -> str:
        """The name of its files without the ending."""
        return f"{subject}_{self.name}" if subject else self.name


FIGURES: Registry[FigureEntry] = Registry("figure", "asel_lib.reporting.figures")

# timm's classes whose models can become selective: name of timm's class -> the class that is both.
FAMILIES: Registry[type] = Registry("family", "asel_lib.models.families")
