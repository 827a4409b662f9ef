"""Packages that only some uses need: the error that says which extra of this project brings them."""

from importlib.util import find_spec

from asel_lib.errors import ExtraMissing


def need(extra: str, *modules: str) -> None:
    """Look whether modules can be imported, without importing them.

    Args:
        extra: the extra of pyproject.toml that brings them: "figures".
        modules: their top-level names: "matplotlib".

    Raises:
        ExtraMissing: names those that are absent and how to install them.
    """
    if missing := [module for module in modules if not _is_there(module)]:
        raise ExtraMissing(
            f"{', '.join(missing)} of the extra {extra!r} is not installed: pip install 'asel[{extra}]', or in a "
            f"checkout pip install -e '.[{extra}]'"
        )


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # ValueError: sys.modules says that it cannot be imported
        return False
