"""python -m pipeline.report EXECUTED_NOTEBOOK ..."""

import sys
from pathlib import Path

from pipeline.report import write_report

if __name__ == "__main__":
    write_report([Path(argument) for argument in sys.argv[1:]])
