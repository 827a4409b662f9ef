"""Patch selectors: each scores the patches of an image, the K best are kept.

A new policy is one file here with one registered class. Every module of this folder is imported when the package is,
and registers what it has; a module whose name begins with an underscore is left alone.
"""

import importlib
import pkgutil

from asel_lib.selection.base import PatchSelector, keep_count, stable_topk
from asel_lib.selection.call import Call, Selection, gather_patches
from asel_lib.selection.registry import (
    Entry,
    create,
    draws_at_random,
    entries,
    entry,
    kind,
    names,
    parse,
    policy_string,
    register,
)
from asel_lib.selection.view import View

__all__ = [
    "Call",
    "Entry",
    "PatchSelector",
    "Selection",
    "View",
    "create",
    "draws_at_random",
    "entries",
    "entry",
    "gather_patches",
    "keep_count",
    "kind",
    "names",
    "parse",
    "policy_string",
    "register",
    "stable_topk",
]


def _discover() -> None:
    for module in pkgutil.iter_modules(__path__):
        if not module.name.startswith("_"):
            importlib.import_module(f"{__name__}.{module.name}")


_discover()
