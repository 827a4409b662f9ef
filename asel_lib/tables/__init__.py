"""What was measured, as CSV files: one declared schema a kind of table, and how they are read and written.

A row of RESULTS is the accuracy and cost of a model by one policy at one keep ratio; SPEED holds measurements of time,
memory and growth; DEPLOYED exported models; CONFUSION and PATCHES what is drawn of single images; ANSWERS which images
a model answers rightly.
"""

from asel_lib.tables.files import confusions, joined, patches, read, read_all, with_reference, write
from asel_lib.tables.kinds import ANSWERS, CONFUSION, DEPLOYED, PATCHES, RESULTS, SPEED
from asel_lib.tables.schema import Schema

__all__ = [
    "ANSWERS",
    "CONFUSION",
    "DEPLOYED",
    "PATCHES",
    "RESULTS",
    "SPEED",
    "Schema",
    "confusions",
    "joined",
    "patches",
    "read",
    "read_all",
    "with_reference",
    "write",
]
