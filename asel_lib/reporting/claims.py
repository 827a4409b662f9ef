"""The papers' claims judged: a verdict is computed from rows of the claim's own setting, and from nothing else.

What was measured in another setting stands beside it and decides nothing. Rows of our own recipes test no claim of a
paper; they are a table of their own (`ours`).
"""

from collections.abc import Iterator

import pandas as pd

from asel_lib.reporting import settings, verdicts
from asel_lib.reporting.claimed import GROUPS, Claim, claims
from asel_lib.reproducibility import commit

COLUMNS = (
    "verdict",
    "claim",
    "claimed",
    "its own record",
    "measured",
    "here",
    "why",
    "data set",
    "recipe",
    "start",
    "group",
    "where",
    "checkpoint",
    "notebook",
    "device",
    "commit",
)
OURS = ("recipe", "question", "data set", "measured", "start", "checkpoint", "commit")
BESIDE = {"published": ("anytime", ("glance", "random", "central"))}  # schedule -> our recipe on it, and its policies


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Judge every claim.

    Args:
        frame: results.

    Returns:
        COLUMNS. Of each claim one row in its own setting, measured or not, then a row for each other setting, whose
        verdict is ELSEWHERE. here: what our rows alone say, whatever the claim's own record says. notebook: what made
        the row's numbers; a run names its executed copies <notebook>_<checkpoint>.
    """
    rows = [row for claim in claims() for row in _judged(claim, frame)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def ours(frame: pd.DataFrame) -> pd.DataFrame:
    """Our own recipe, asked what the claims ask of the published one, on the same schedule; there are no verdicts.

    Args:
        frame: results.

    Returns:
        Columns OURS.
    """
    rows = []
    for claim in claims():
        if claim.setting.schedule not in BESIDE or claim.counted or claim.played:
            continue
        recipe, policies = BESIDE[claim.setting.schedule]
        for dataset, _, measured in settings.found(frame, claim.setting.by(recipe, *policies)):
            finding = claim.check(measured, policies[0])
            about = {"recipe": recipe, "question": claim.text, "data set": dataset, "measured": finding.measured}
            about |= {name: measured[name].iloc[0] for name in ("checkpoint", "commit")}
            rows.append(about | {"start": _setting(measured)})
    return pd.DataFrame(rows, columns=list(OURS))


def overall(judged: pd.DataFrame) -> pd.DataFrame:
    """A row a claim: what its record or its own setting say; where that was not measured, and another was, ELSEWHERE.

    Args:
        judged: of `table`.

    Returns:
        Columns claim, group, verdict.
    """
    rows = []
    for claim, its in judged.groupby("claim", sort=False):
        verdict = its["verdict"].iloc[0]
        if verdict == verdicts.UNTESTABLE and len(its) > 1:
            verdict = verdicts.ELSEWHERE
        rows.append({"claim": claim, "group": its["group"].iloc[0], "verdict": verdict})
    return pd.DataFrame(rows, columns=["claim", "group", "verdict"])


def untested(judged: pd.DataFrame) -> pd.DataFrame:
    """The claims that have no verdict of their own: claim, and what is missing. judged: of `table`."""
    own = judged.drop_duplicates("claim")
    found = own[own["verdict"] == verdicts.UNTESTABLE]
    return found[["claim", "why"]].rename(columns={"why": "missing"}).reset_index(drop=True)


def groups(judged: pd.DataFrame) -> pd.DataFrame:
    """How many claims of each group have which verdict.

    Args:
        judged: of `table`.

    Returns:
        A row a group, a column a verdict of `verdicts.ALL`.
    """
    counts = pd.crosstab(*(overall(judged)[name] for name in ("group", "verdict")))
    return counts.reindex(index=GROUPS, columns=list(verdicts.ALL), fill_value=0)


def _judged(claim: Claim, frame: pd.DataFrame) -> Iterator[dict]:
    about = dict.fromkeys(COLUMNS, "-") | {
        "claim": claim.text,
        "claimed": claim.number,
        "its own record": claim.record,
        "group": claim.group,
        "where": claim.where,
        "data set": claim.setting.datasets[0],
        "recipe": claim.setting.recipe,
    }
    own, others = _evidence(claim, frame)
    here = own.pop("finding", None) or _missing(claim, frame)
    verdict, why = here.verdict, here.why
    if claim.contradicted:
        verdict, why = verdicts.CONTRADICTED, f"{claim.judged(claim.says).why}, by the record; {why}"
    yield about | own | {"verdict": verdict, "here": here.verdict, "measured": here.measured, "why": why}
    for other in others:
        finding = other.pop("finding")
        yield (
            about
            | other
            | {
                "verdict": verdicts.ELSEWHERE,
                "here": "-",
                "measured": finding.measured,
                "why": f"measured in another setting than the claim's; there: {finding.why}",
            }
        )


def _evidence(claim: Claim, frame: pd.DataFrame) -> tuple[dict, list[dict]]:
    """What decides (empty: nothing was measured), and what was measured in other settings: a Finding as `finding`, and
    what it is of."""
    at = {"notebook": "08_claims", "commit": commit()}
    if claim.played:
        return {"finding": claim.played(), "recipe": "-"} | at, []
    if claim.counted:
        from asel_lib.evaluation.counted import MODELS, counted  # torch: seconds to import

        finding = claim.judged(counted(claim.counted))
        side = MODELS[claim.counted][1]
        about = {"data set": "-", "recipe": "-", "start": f"counted at {side} px, untrained"}
        return {"finding": finding} | about | at, []
    own, others = {}, []
    for dataset, inside, rows in settings.found(frame, claim.setting):
        one = {"finding": claim.judged(rows), "data set": dataset, "start": _setting(rows)}
        one |= {name: rows[name].iloc[0] for name in ("checkpoint", "device", "commit")} | {"notebook": "05_benchmark"}
        if inside and (not own or own["finding"].verdict == verdicts.UNTESTABLE):  # e.g. measured, but not timed
            own = one
        elif not inside:
            others.append(one)
    return own, others


def _missing(claim: Claim, frame: pd.DataFrame) -> verdicts.Finding:
    setting = claim.setting
    size = next(side for side, patches in settings.PATCHES.items() if patches == setting.patches)
    wanted = f"recipe {setting.recipe} on {' or '.join(setting.datasets)}, {setting.start} start, {size} px"
    return verdicts.Finding("-", verdicts.UNTESTABLE, f"no results of {wanted}")


def _setting(rows: pd.DataFrame) -> str:
    seeds, one = int(rows["seeds"].max()), rows.iloc[0]
    seen = f"{seeds} seed{'s' if seeds > 1 else ''}"
    if left := int(rows["seeds_left_out"].max()):
        seen += f" that both have (one has {left} more)"
    seen += f", {rows['n_images'].max():g} {one['split']} images"
    return f"{one['start'].replace('_', ' ')}; {one['profile']}, {seen}"
