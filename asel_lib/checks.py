"""Checks of single values; their ValueErrors name the value and what was expected."""

import difflib
import math
from collections.abc import Iterable


def one_of(what: str, value, known: Iterable):
    """The value, where it is a known one.

    Args:
        what: it is called in an error.
        value: to be checked.
        known: those that there are.

    Raises:
        ValueError: names the nearest known one.
    """
    known = list(known)
    if value in known:
        return value
    near = difflib.get_close_matches(str(value), [str(one) for one in known], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {value!r}: expected one of {', '.join(map(str, known))}.{hint}")


def whole(what: str, value, least: int) -> None:
    """Refuse what is no whole number.

    Args:
        what: it is called in an error.
        value: to be checked.
        least: it may be.

    Raises:
        ValueError: names the value.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what} is {value!r}: expected a whole number, at least {least}")


def number(what: str, value, above: float = -math.inf, least: float = -math.inf, most: float = math.inf) -> None:
    """Refuse what is no number in a range.

    Args:
        what: it is called in an error.
        value: to be checked.
        above: it must be more than that.
        least: it may be.
        most: it may be.

    Raises:
        ValueError: names the value.
    """
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (fine and value > above and least <= value <= most):
        low = f"above {above}" if above > -math.inf else f"at least {least}"
        raise ValueError(
            f"{what} is {value!r}: expected a number {low}" + (f", at most {most}" if most < math.inf else "")
        )
