"""An executed notebook as a reader wants it: under its own name, pictures with a text, no warnings of libraries."""

import re

# "<file>:<line>: SomeWarning: ..." and the line of code below it; of torch "W1130 20:58 ... <file>:1] ...".
WARNING = re.compile(
    r"^(?:\S.*?:\d+: )?\w*Warning: .*\n?(?:^[ \t]+\S.*\n?)*|^W\d{4} [\d:.]+ .*?\S+:\d+\] .*\n?", re.MULTILINE
)


def readable(content, stem: str):
    """Change a notebook for the report, in place.

    Args:
        content: of `nbformat.read`.
        stem: the name that it is shown under: several are copies of one notebook and would have one title. The heading
            above a picture becomes its alternative text.
    """
    content.metadata.pop("widgets", None)
    heading, titled = stem, False
    for cell in content.cells:
        if cell.cell_type == "markdown" and cell.source.startswith("#"):
            heading, _, rest = cell.source.lstrip("# ").partition("\n")
            if cell.source.startswith("# ") and not titled:
                cell.source, titled = f"# {stem}\n\n*{heading}*\n{rest}", True
        if cell.cell_type == "code":
            cell.metadata["mystnb"] = {"image": {"alt": f"Picture in {stem}, section: {heading}"}}
            cell.outputs = [output for output in cell.outputs if _said(output)]
    return content


def _said(output) -> bool:
    """Take the warnings of libraries out of what a cell wrote to stderr; whether anything is left."""
    if output.output_type != "stream" or output.name != "stderr":
        return True
    output.text = WARNING.sub("", output.text)
    return bool(output.text.strip())
