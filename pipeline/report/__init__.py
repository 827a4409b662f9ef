"""The report a reader opens after a run: `python -m pipeline.report EXECUTED_NOTEBOOK ...`

Sphinx (MyST-NB, Furo) makes benchmarks_results/report/ of the committed results and of every run; the pages' Markdown
comes from Jinja templates (`templates/`), one module a page. The report needs no network to be read.

collect    what there is: results, figures, executed notebooks
markup     the templates, tables and figures as they stand on a page
first_page, results_page, claims_page, figures_page, notebooks_page, machine_page
write      all of it into one folder, by Sphinx
"""

from pipeline.report.write import write_report

__all__ = ["write_report"]
