"""Checks of single values; their ValueErrors name the value and what was expected."""

import difflib
import math
from collections.abc import Iterable


def one_of(what: str, value, known: Iterable):
    """`value`, if it is a known one; the error says which is nearest."""
    known = list(known)
    if value in known:
        return value
    near = difflib.get_close_matches(str(value), [str(one) for one in known], n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {what} {value!r}: expected one of {', '.join(map(str, known))}.{hint}")


def whole(what: str, value, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(f"{what} is {value!r}: expected a whole number, at least {least}")


def number(what: str, value, above: float = -math.inf, least: float = -math.inf, most: float = math.inf) -> None:
    fine = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not (fine and value > above and least <= value <= most):
        low = f"above {above}" if above > -math.inf else f"at least {least}"
        raise ValueError(
            f"{what} is {value!r}: expected a number {low}" + (f", at most {most}" if most < math.inf else "")
        )
