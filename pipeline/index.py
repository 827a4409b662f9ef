"""The page a reader opens after a run: python pipeline/index.py EXECUTED_NOTEBOOK ...

Makes an HTML copy of each executed notebook beside it, and index.html in the run's folder, which shows the
figures and the state of every notebook asked for. One that failed is shown with its error.
"""

import html
import os
import re
import sys
from pathlib import Path

import nbformat

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  :root {{ color-scheme: light dark; }}
  body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: auto; padding: 1rem; }}
  table {{ border-collapse: collapse; width: 100%; }}
  td, th {{ text-align: left; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid #8884;
            overflow-wrap: anywhere; vertical-align: top; }}
  .failed {{ color: #d33; font-weight: 600; }}
  .absent {{ color: #888; }}
  pre {{ overflow-x: auto; background: #8882; padding: .6rem; font-size: .8rem; }}
  .figures {{ display: grid; gap: 1rem;
             grid-template-columns: repeat(auto-fill, minmax(min(18rem, 100%), 1fr)); }}
  figure {{ margin: 0; }}
  figure img {{ width: 100%; background: #fff; border: 1px solid #8884; border-radius: 4px; }}
  figcaption {{ font-size: .85rem; overflow-wrap: anywhere; }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
<h2>Notebooks</h2>
<table>
<tr><th>notebook<th>state<th>time
{rows}
</table>
<h2>Figures</h2>
<div class="figures">
{figures}
</div>
</html>
"""


def write_index(executed: list[Path]) -> Path:
    """executed: <run folder>/notebooks/<name>.ipynb of all notebooks asked for, there or not."""
    run = executed[0].resolve().parents[1]
    rows = [_row(notebook) for notebook in executed]
    done = sum(notebook.is_file() for notebook in executed)
    table = run / "results.csv"
    summary = f"{done} of {len(executed)} notebooks ran."
    if table.is_file():
        summary += ' All measurements: <a href="results.csv">results.csv</a>.'
    page = PAGE.format(
        title=f"ASEL, profile {html.escape(run.name)}",
        summary=summary,
        rows="\n".join(rows),
        figures="\n".join(_figure(image, run) for image in sorted((run / "figures").glob("*.png"))),
    )
    unfinished = run / "index.html.part"
    unfinished.write_text(page, encoding="utf-8")
    return unfinished.replace(run / "index.html")


def _row(notebook: Path) -> str:
    failed = notebook.with_name(f"{notebook.stem}.failed.ipynb")
    name = html.escape(notebook.stem)
    if notebook.is_file():
        page, duration = _html_copy(notebook)
        return f'<tr><td><a href="notebooks/{page}">{name}</a><td>done<td>{duration}'
    if failed.is_file():
        page, duration = _html_copy(failed)
        reason = failed.with_suffix(".txt")
        text = html.escape(reason.read_text(encoding="utf-8")) if reason.is_file() else "It was interrupted."
        state = f'<span class="failed">failed</span><pre>{text}</pre>'
        return f'<tr><td><a href="notebooks/{page}">{name}</a><td>{state}<td>{duration}'
    return f'<tr><td>{name}<td class="absent">did not run<td>'


def _html_copy(notebook: Path) -> tuple[str, str]:
    """The name of the HTML copy, made anew only if the notebook is newer, and how long the notebook ran."""
    copy = notebook.with_suffix(".html")
    content = nbformat.read(notebook, as_version=4)
    if not copy.is_file() or copy.stat().st_mtime_ns < notebook.stat().st_mtime_ns:
        from nbconvert import HTMLExporter

        body, _ = HTMLExporter(embed_images=True).from_notebook_node(content)
        copy.write_text(body, encoding="utf-8")
    seconds = content.metadata.get("papermill", {}).get("duration")
    return copy.name, f"{seconds:.0f} s" if seconds else ""


def _figure(image: Path, run: Path) -> str:
    path = html.escape(os.path.relpath(image, run))
    pdf = image.with_suffix(".pdf")
    also = f' (<a href="{html.escape(os.path.relpath(pdf, run))}">PDF</a>)' if pdf.is_file() else ""
    name = html.escape(re.sub(r"_+", " ", image.stem))
    return (
        f'<figure><a href="{path}"><img src="{path}" alt="{name}" loading="lazy"></a>'
        f"<figcaption>{name}{also}</figcaption></figure>"
    )


if __name__ == "__main__":
    write_index([Path(argument) for argument in sys.argv[1:]])
