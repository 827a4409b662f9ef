"""Patch selectors: each scores the patches of an image, the K best are kept.

A new policy is one file here with one registered class; importing it below makes it known by name.
"""

from asel_lib.selection import (  # noqa: F401  (registers their selectors)
    agent,
    dynamicvit,
    edge_energy,
    evit,
    fixed,
    glance,
    learned,
    line_guided,
    tome,
)
from asel_lib.selection.base import PatchSelector, create, keep_count, names, register
from asel_lib.selection.slot import PatchSelection

__all__ = ["PatchSelection", "PatchSelector", "create", "keep_count", "names", "register"]
