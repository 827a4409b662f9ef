"""Notebook parameters that are unknown or of another type are an error.

papermill only warns when it is given a name the notebook does not have, and runs on with the default. It puts its
values into a cell of its own, which begins with "# Parameters", behind the cell of the defaults; this module reads
those two cells back from what the kernel has executed.
"""

import ast
import difflib
from collections.abc import Sequence

INJECTED = "# Parameters"


def check(executed: Sequence[str]) -> None:
    """Check what a notebook was given by papermill. Outside it there is nothing to check.

    Args:
        executed: the sources of the cells run so far, `In` in a notebook.

    Raises:
        ValueError: names an unknown parameter, or one whose type is not its default's.
    """
    for defaults, injected in zip(executed, executed[1:], strict=False):
        if injected.lstrip().startswith(INJECTED):
            _compare(_assigned(defaults), _assigned(injected))


def _compare(defaults: dict[str, object], given: dict[str, object]) -> None:
    for name, value in given.items():
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown notebook parameter {name!r}: this notebook has {', '.join(defaults)}.{hint}")
        default = defaults[name]
        whole_for_float = isinstance(default, float) and type(value) is int
        if type(value) is not type(default) and not whole_for_float:
            raise ValueError(
                f"notebook parameter {name!r} is {value!r} ({type(value).__name__}): "
                f"expected {type(default).__name__}, e.g. {default!r}"
            )


def _assigned(source: str) -> dict[str, object]:
    """The literals that a cell assigns to names."""
    values = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name, source = statement.targets[0].id, ast.unparse(statement.value)
            try:
                values[name] = ast.literal_eval(statement.value)
            except ValueError:
                raise ValueError(f"notebook parameter {name!r} is {source}: expected a plain finite value") from None
    return values
