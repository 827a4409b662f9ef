"""The executed notebooks of each run: what ran, what failed and why."""

from pipeline.report.collect import Found
from pipeline.report.markup import render


def page(found: Found) -> str:
    """notebooks.md."""
    return render("notebooks.md", notebooks=found.notebooks)
