"""The claims: the verdict first, then the claim, the paper's number, its own record, ours; a click opens the rest."""

import contextlib
import re

import pandas as pd

from asel_lib import tables
from asel_lib.errors import AselError
from asel_lib.reporting import claims, verdicts
from asel_lib.reporting.claimed import GROUPS
from pipeline.report.collect import Found
from pipeline.report.markup import render

# Verdict -> its word on the page, the class that colours it, and what it means.
WORDS = {
    verdicts.REPRODUCED: ("reproduced", "good", "the 95 % interval of what was measured agrees with the claim"),
    verdicts.NOT: ("not reproduced", "bad", "the interval lies on the other side of the claim"),
    verdicts.CONTRADICTED: ("contradicted", "contrary", "the authors' own log or figure says the contrary"),
    verdicts.UNDECIDED: ("undecided", "open", "the interval holds both answers"),
    verdicts.ELSEWHERE: ("other setting", "beside", "measured, but not in the claim's setting: it decides nothing"),
    verdicts.UNTESTABLE: ("not measured", "none", "nothing was measured in the claim's setting"),
}


def page(found: Found) -> str:
    """claims.md."""
    judged, made = found.judged, made_here(found)
    listed = claims.overall(judged).set_index("claim")["verdict"]
    groups = []
    for name in GROUPS:
        rows = judged[judged["group"] == name]
        its = [_claim(part, listed[claim], made) for claim, part in rows.groupby("claim", sort=False)]
        groups.append({"name": name, "anchor": anchor(name), "claims": its})
    return render(
        "claims.md",
        groups=groups,
        counts=chips(listed.value_counts()),
        words=WORDS.values(),
        ours=claims.ours(found.every).drop(columns="commit"),
    )


def anchor(group: str) -> str:
    """A group's place on the page."""
    return "claims-" + re.sub(r"\W+", "-", group.lower())


def chips(counts: pd.Series) -> list[dict]:
    """How many claims have which verdict: word, kind, count, of those that any has."""
    named = {WORDS[verdict][:2]: int(counts.get(verdict, 0)) for verdict in verdicts.ALL}
    return [{"word": word, "kind": kind, "count": count} for (word, kind), count in named.items() if count]


def made_here(found: Found) -> dict[tuple[str, str], str]:
    """Where numbers were made.

    Args:
        found: what there is to report.

    Returns:
        (checkpoint, commit) -> the page of the executed notebook that measured it, ("-", "") that of the claims' own
        experiments. A number of another commit was not made by the notebook that lies here.
    """
    made = {}
    for run in found.runs:
        pages = {row["stem"]: f"{row['page']}.html" for row in found.notebooks[run.name] if row["state"] == "done"}
        if "08_claims" in pages:
            made["-", ""] = pages["08_claims"]
        with contextlib.suppress(AselError):  # said where the results were read
            measured = tables.read(run / "results.csv")[["checkpoint", "commit"]].drop_duplicates()
            for checkpoint, commit in measured.itertuples(index=False):
                if at := pages.get(f"05_benchmark_{checkpoint}"):
                    made[checkpoint, commit] = at
    return made


def linked(row: dict, made: dict[tuple[str, str], str]) -> dict:
    """A claim's row with links to where its numbers were made, as far as this checkout has it.

    Args:
        row: of `claims.table`.
        made: of `made_here`.

    Returns:
        The row with `checkpoints`, (name, page or "") each, and `notebook_page`.
    """
    commits = row["commit"].split(", ")
    pages = {name: [made.get((name, commit)) for commit in commits] for name in row["checkpoint"].split(", ")}
    there = [(name, next(filter(None, its), "")) for name, its in pages.items()]
    notebook = made.get(("-", ""), "") if row["notebook"] == "08_claims" else ""
    about = (row["data set"], f"recipe {row['recipe']}" if row["recipe"] != "-" else "-", row["start"])
    setting = ", ".join(text for text in about if text != "-")
    there = [(name, page) for name, page in there if name != "-"]
    return row | {"checkpoints": there, "notebook_page": notebook, "setting": setting}


def _claim(rows: pd.DataFrame, verdict: str, made: dict[tuple[str, str], str]) -> dict:
    """A claim for the template: its own row, and those of other settings."""
    first, *others = (linked(row, made) for row in rows.to_dict("records"))
    word, kind, _ = WORDS[verdict]
    here = first["measured"]
    about = {"text": first["claim"], "word": word, "kind": kind, "here": "" if here == "-" else here}
    return about | {"row": first, "said_here": WORDS.get(first["here"], (first["here"],))[0], "others": others}
