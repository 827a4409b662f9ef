"""The figures, of the committed results and of each run."""

from pipeline.report.collect import Found
from pipeline.report.markup import render


def page(found: Found) -> str:
    """figures.md."""
    return render("figures.md", pictures=found.pictures)
