"""What the report and the measurements were made with."""

import pandas as pd

from asel_lib.reproducibility import environment
from pipeline.report.collect import Found
from pipeline.report.markup import render

COLUMNS = ["device", "dtype", "torch", "profile", "commit"]


def page(found: Found) -> str:
    """machine.md."""
    here = pd.DataFrame([(name, str(value)) for name, value in environment().items()], columns=["what", "value"])
    made = found.every.groupby(COLUMNS, dropna=False).size().rename("measurements").reset_index()
    return render("machine.md", here=here, made=made)
