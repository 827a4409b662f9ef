"""Every selector by its name: how it is made, and what other layers show of it.

A policy is written as a name, or a name with options: "line_guided:lines=sobel,choice=top".
"""

import functools
import inspect
from dataclasses import dataclass

from asel_lib import checks
from asel_lib.identity import policy_parts
from asel_lib.registry import picked_look
from asel_lib.selection.base import PatchSelector


@dataclass(frozen=True)
class Entry:
    """A registered selector.

    Args:
        name: it is registered under.
        selector: its class.
        label: its name in legends and tables.
        color: of its lines, "#rrggbb".
        marker: of its points, one of matplotlib's.
        recipes: names of the recipes that can train it, (): it needs no training.
    """

    name: str
    selector: type[PatchSelector]
    label: str
    color: str
    marker: str
    recipes: tuple[str, ...] = ()


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    *,
    label: str | None = None,
    color: str | None = None,
    marker: str | None = None,
    recipes: tuple[str, ...] = (),
):
    """Class decorator: from now on `create(name, dim)` makes the selector.

    Args:
        name: what it is called in policies, records and tables.
        label: its name in legends; None: the name in words.
        color: "#rrggbb"; None: one is picked, the same every time.
        marker: one of matplotlib's; None: one is picked, the same every time.
        recipes: names of the recipes that can train it, (): it needs no training.

    Raises:
        ValueError: the name is taken.
    """

    def add(selector: type[PatchSelector]) -> type[PatchSelector]:
        if name in _ENTRIES:
            taken = _ENTRIES[name].selector.__name__
            raise ValueError(f"a selector {name!r} is already registered ({taken}): choose another name")
        picked = picked_look(name)
        shown = label or name.replace("_", " "), color or picked[0], marker or picked[1]
        _ENTRIES[name] = Entry(name, selector, *shown, tuple(recipes))
        selector.name, selector.trained = name, selector.trained or bool(recipes)
        return selector

    return add


def names() -> tuple[str, ...]:
    """The names of all selectors, in alphabetical order."""
    return tuple(sorted(_ENTRIES))


def entries() -> tuple[Entry, ...]:
    """All selectors, in the order of `names`."""
    return tuple(_ENTRIES[name] for name in names())


def entry(name: str) -> Entry:
    """The selector registered under that name, without options.

    Raises:
        ValueError: there is none; the error says which there are.
    """
    if name not in _ENTRIES:
        checks.one_of("policy", name, names())
    return _ENTRIES[name]


def kind(name: str) -> type[PatchSelector]:
    """The class registered under that name; errors as `entry`'s."""
    return entry(name).selector


def create(policy: str, dim: int) -> PatchSelector:
    """The selector of a policy.

    Args:
        policy: its name, with options where wanted.
        dim: width of the tokens.
    """
    selector, options = parse(policy)
    made = selector(dim, **options)
    made.options = options  # what tells two of a kind apart
    return made


def policy_string(selector: PatchSelector) -> str:
    """The policy that makes a selector like this one."""
    options = ",".join(f"{key}={value}" for key, value in selector.options.items())
    return f"{selector.name}:{options}" if options else selector.name


def draws_at_random(policy: str) -> bool:
    """Whether another draw of that policy keeps other patches of the same image."""
    return create(policy, 1).stochastic


def parse(policy: str) -> tuple[type[PatchSelector], dict[str, object]]:
    """The class of a policy and all its options: those given, and the others' defaults.

    Args:
        policy: "name" or "name:option=value,option=value". Options are the arguments of the class behind `dim`; a value
            is of its default's type.

    Raises:
        ValueError: names the policy or the option that there is not, or the value that cannot be read.
    """
    name, written = policy_parts(str(policy))
    selector = kind(name)
    options = dict(_defaults(selector))
    for key, value in written.items():
        if key not in options or value is None:
            known = ", ".join(f"{k}={v}" for k, v in options.items()) or "no options"
            part = key if value is None else f"{key}={value}"
            raise ValueError(f"policy {policy!r}: cannot read {part!r}; {name!r} has {known}")
        wanted = type(options[key]).__name__
        try:
            options[key] = {"True": True, "False": False}[value] if wanted == "bool" else type(options[key])(value)
        except (ValueError, KeyError):
            raise ValueError(f"policy {policy!r}: {key} is {value!r}, expected {wanted}") from None
    return selector, options


@functools.cache
def _defaults(selector: type[PatchSelector]) -> dict[str, object]:
    """Kept: reading a signature takes a tenth of what classifying one small image takes, and a call reads four."""
    return {argument.name: argument.default for argument in list(inspect.signature(selector).parameters.values())[1:]}
