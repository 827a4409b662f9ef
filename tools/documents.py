"""Write the tables of README.md and docs/ anew from what was measured:

    python -m tools.documents [--check]

A comment above a table says what it is of: `<!-- table: methods rsscn7 -->`, with one of TABLES and its arguments.
Everything comes from the committed tables and answers: no model is run, and what this checkout has measured besides
counts for nothing. Run it after rows were shipped (`tools.ship`), or a page was changed. --check: nothing is written,
and the exit status is 1 where a page differs.
"""

import argparse
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pandas as pd

from asel_lib import configs, methods, paths, tables
from asel_lib.data import catalog
from asel_lib.errors import AselError
from asel_lib.evaluation import answers, paired
from asel_lib.evaluation import controls as controls_of
from asel_lib.files import replace_text
from asel_lib.identity import OWN_CLASSES, RESET_EMBEDDINGS, selector_name
from asel_lib.reporting import claims, comparison, method_tables, paper_numbers
from asel_lib.reporting.rows import own_choice, pooled
from asel_lib.reporting.summaries import accuracy_cell, objects_kept, to_markdown
from asel_lib.reporting.summaries import selectors as selectors_table
from asel_lib.reporting.summaries import summary as summary_table
from asel_lib.training import ablations

MARK = re.compile(r"<!-- table: (\S+)((?: \S+)*) -->\n+((?:\|.*\n)*)")
SEEDS = (0, 1, 2)
ALL = "all"  # in place of a data set: all that were measured
OURS = "glance/anytime"  # the method that others are compared with
SAME = "@"  # before a policy: the very models of OURS, choosing by that policy
MARGIN = 0.01  # of `paired.non_inferior`: one point
PUBLISHED = ("aid", "cifar10", "eurosat", "rsscn7")  # data sets that the authors' log has
SUMMARISED = (1.0, 0.5, 0.2)  # keep ratios of `summary`
BESIDE = (OURS, "random", "even", "smaller_image")  # methods that `summary` sets beside the published one
FEW = (1.0, 0.5, 0.2, 0.1)
HEADS = {"all": "", "own": OWN_CLASSES}  # of `untrained`: among all of ImageNet's classes, or the data set's own
CHOICES = {"glance:choice=sample": "`sample`", "glance:choice=top": "`top`", "random": "random"}


def pages() -> list[Path]:
    """README.md, docs/*.md and docs/results/*.md."""
    docs = paths.root() / "docs"
    return [paths.root() / "README.md", *sorted(docs.glob("*.md")), *sorted((docs / "results").glob("*.md"))]


@contextmanager
def committed_alone() -> Iterator[None]:
    """Within it the checkout has the committed tables and answers/, and no run and no checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        there = Path(folder) / "benchmarks_results"
        there.mkdir()
        for name in ("results.csv", "speed.csv", "deployed.csv", "answers"):
            (there / name).symlink_to(paths.results() / name)
        with mock.patch.dict(os.environ, {"ASEL_ROOT": folder}):
            yield


def refreshed(text: str) -> str:
    """The page with each marked table as it is measured now. AselError for a mark that says what there is not."""
    return MARK.sub(lambda found: _replaced(found[0], found[1], found[2].split(), found[3]), text)


def _replaced(whole: str, kind: str, arguments: list[str], before: str) -> str:
    asked = f"a page asks for the table {' '.join([kind, *arguments])!r}"
    if kind not in TABLES:
        raise AselError(f"{asked}: expected one of {', '.join(TABLES)}")
    try:
        table = TABLES[kind](*arguments)
    except TypeError as error:
        raise AselError(f"{asked}: {error}") from None
    if table.empty:
        raise AselError(f"{asked}: nothing was measured for it")
    if before:
        return whole.removesuffix(before) + to_markdown(table) + "\n"
    return f"{whole.rstrip()}\n\n{to_markdown(table)}\n\n"  # the mark took the empty line below it


def _results() -> pd.DataFrame:
    return tables.read(paths.results() / "results.csv")


def summary() -> pd.DataFrame:
    """The shipped models of the chain of warm-up and transfer, each by its own selector; on photographs BESIDE, trained
    in one stage; and what the authors' log says of the published one. Data set by data set, generated ones last."""
    frame = _results()
    frame = frame[frame["seed"] == 0]
    parts = [summary_table(frame[frame["schedule"].isin(("warmup", "published"))])]
    for one in map(methods.parse, BESIDE):
        rows = own_choice(frame[(frame["schedule"] == "direct") & (frame["recipe"] == one.recipe)])
        rows = rows[(rows["selector"] == one.selector) & ~rows["dataset"].map(catalog.is_generated)]
        if len(rows):
            parts.append(summary_table(rows, policies=(one.selector,)).assign(recipe=f"{one.label}, one stage"))
    ours = pd.concat(parts).drop(columns=["seeds", "setting"], errors="ignore")
    ours["speed-up"] = ours["speed-up"].replace(" / ".join("-" * len(SUMMARISED)), "-")
    found = pd.concat([ours, pd.DataFrame(map(_logged, PUBLISHED))[ours.columns]])
    places = {name: (catalog.is_generated(name), name) for name in found["data set"]}
    order = {name: place for place, name in enumerate(sorted(places, key=places.get))}
    return found.sort_values("data set", kind="stable", key=lambda names: names.map(order))


def _logged(dataset: str) -> dict[str, str]:
    """A row of `summary`: the published model as the authors' log has it; 1 / 0.5 / 0.2 as there."""
    log = paper_numbers.asel(dataset).query("source == 'log' and policy == 'learned'").set_index("keep_ratio")
    line = {"data set": dataset, "test images": "-", "recipe": "masked, the authors' log", "GMACs": "-"}
    line |= {f"accuracy at {ratio:g}, %": f"{100 * log.at[ratio, 'accuracy']:.1f}" for ratio in SUMMARISED}
    speeds = [log.at[ratio, "throughput"] / log.at[1.0, "throughput"] for ratio in SUMMARISED]
    return line | {"speed-up": " / ".join(f"{speed:.2f}x" for speed in speeds)}


def judged() -> pd.DataFrame:
    """Every claim of the papers with its verdict, in its own setting and in others."""
    table = claims.table(_results())
    return table[["verdict", "claim", "claimed", "its own record", "measured", "data set", "start", "why"]]


def verdicts() -> pd.DataFrame:
    """How many claims of each group have which verdict; verdicts that no claim has are left out."""
    table = claims.groups(claims.table(_results()))
    return table.loc[:, table.sum() > 0].replace(0, "").rename_axis("claims about").reset_index()


def untested() -> pd.DataFrame:
    """The claims that have no verdict yet, and what is missing for one."""
    found = claims.untested(claims.table(_results()))
    return found if len(found) else pd.DataFrame([{"claim": "none is left", "missing": "-"}])


def compared(dataset: str) -> pd.DataFrame:
    """Every method by its own model, on the direct schedule."""
    return _each(method_tables.table, dataset)


def advice(dataset: str, by: str) -> pd.DataFrame:
    """Which method to use when.

    Args:
        dataset: the data set's name.
        by: one of `method_tables.BUDGETS`.
    """
    return _each(method_tables.advice, dataset, by)


def _each(table: Callable[..., pd.DataFrame], dataset: str, *arguments: str) -> pd.DataFrame:
    """A table of one data set; of ALL, with a column that says which."""
    frame = pooled(_results())
    if dataset != ALL:
        return table(frame, dataset, *arguments).drop(columns="data set", errors="ignore")
    return pd.concat([table(frame, one, *arguments) for one in sorted(frame["dataset"].unique())])


def agentvit(setting: str) -> pd.DataFrame:
    """AgentViT and ASEL, "published" or "equal", on every data set that has both."""
    frame = pooled(_results()) if setting == "equal" else _results()
    datasets = sorted(frame.loc[frame["selector"] == "agent", "dataset"].unique())
    return pd.concat([comparison.table(frame, dataset, equal_setting=setting == "equal") for dataset in datasets])


def selectors(*datasets: str) -> pd.DataFrame:
    """Line-guided choosing, ASEL's selector and random patches, each by the models trained with it."""
    found = selectors_table(pooled(_results())).drop(columns="setting", errors="ignore")
    found = found[(datasets == (ALL,) or found["data set"].isin(datasets)) & (found["recipe"] == "dropped")]
    kept = found["selector"].map(selector_name).isin(("learned", "random", selector_name(methods.LINE_GUIDED)))
    found = found[kept].assign(last=found["selector"] == "random").sort_values(["data set", "last", "selector"])
    return found.assign(selector=found["selector"].map(methods.policy_label)).drop(columns=["recipe", "last"])


def objects(*arguments: str) -> pd.DataFrame:
    """Share of the deciding object kept / accuracy.

    Args:
        arguments: checkpoints, each with `=policy,policy` for some of its policies; then keep ratios, for some of them.
    """
    frame, parts = _results(), []
    named = [text for text in arguments if not _number(text)]
    ratios = [float(text) for text in arguments if _number(text)] or sorted(frame["keep_ratio"].unique())
    for name, _, policies in (text.partition("=") for text in named):
        rows = frame[(frame["checkpoint"] == name) & frame["keep_ratio"].round(6).isin(ratios)]
        table = objects_kept(rows[rows["policy"].isin(policies.split(","))] if policies else rows)
        parts.append(table.drop(columns="setting", errors="ignore"))
    found = pd.concat(parts).drop(columns="data set" if len(parts) > 1 else ["data set", "recipe"])
    return found.assign(policy=found["policy"].map(methods.policy_label))


def differences(dataset: str, profile: str, *others: str) -> pd.DataFrame:
    """`anytime` minus other methods, image by image, of kept answers alone: points, with the 95 % interval over images
    and, in brackets, that over trainings; and at which keep ratios it is no worse than they are by MARGIN.

    Args:
        dataset: the data set's name.
        profile: its name.
        others: methods (`methods.parse`); SAME and a policy: the very models of `anytime`, choosing by it.
    """
    ratios = sorted(configs.load(profile).evaluation.ratios)
    found = paired.rivals(dataset, SEEDS, profile, of=OURS)
    ours = _kept(found[OURS], profile, ratios)
    rows = []
    for other in others:
        same = other.startswith(SAME)
        names = found[OURS] if same else found.get(methods.parse(other).text, [])
        label = methods.policy_label(other[1:]) + " on its own model" if same else methods.parse(other).label
        theirs = _kept(names, profile, ratios, other[1:] if same else None)
        if not ours or not theirs:
            raise AselError(f"no answers of {other} on {dataset} are kept for all of {len(ratios)} keep ratios")
        gap = paired.differences(ours, theirs)
        row = {"anytime minus": label, "seeds": f"{gap['seeds'][0]} / {gap['their_seeds'][0]}"}
        row |= {f"at {cell.keep_ratio:g}": _points(cell) for cell in gap.itertuples()}
        sure = gap.loc[paired.non_inferior(gap, MARGIN) == "yes", "keep_ratio"]
        rows.append(row | {f"no worse by {100 * MARGIN:g} point at": ", ".join(f"{at:g}" for at in sure) or "-"})
    return pd.DataFrame(rows)


def controls(profile: str, *names: str) -> pd.DataFrame:
    """A model's own choice minus controls by the same weights, of kept answers alone: points, with the interval."""
    labels = controls_of.LABELS | {policy: methods.policy_label(policy) for policy in controls_of.POLICIES}
    rows = []
    for name in names:
        for ratio in (0.1, 0.2):
            own = answers.read(name, profile, [ratio])
            row = {"checkpoint": name, "keep ratio": f"{ratio:g}"}
            for control, label in labels.items():
                other = answers.read(name, profile, [ratio], control)
                if own is None or other is None:
                    raise AselError(f"no answers of {name} by {control} at {ratio:g} are kept")
                row[f"own choice minus {label}"] = _points(next(paired.differences([own], [other]).itertuples()))
            rows.append(row | {"own choice": f"{100 * own[ratio].mean():.1f} % of {len(own)}"})
    return pd.DataFrame(rows)


def untrained(dataset: str, among: str) -> pd.DataFrame:
    """The ImageNet head as it is (`evaluation.imagenet_head`): accuracy at each keep ratio, by every policy.

    Args:
        dataset: the data set's name.
        among: one of HEADS.
    """
    frame, found = _results(), []
    mine = (frame["dataset"] == dataset) & (frame["schedule"] == "untrained") & (frame["variant"] == HEADS[among])
    for policy, rows in frame[mine].groupby("policy", sort=False):
        rows = rows.sort_values("keep_ratio", ascending=False)
        line = {"policy": methods.policy_label(policy), "images": rows["n_images"].max()}
        line |= {f"{row.keep_ratio:g}": f"{100 * row.accuracy:.1f}" for row in rows.itertuples()}
        line["± at most"] = f"{50 * (rows['accuracy_high'] - rows['accuracy_low']).max():.1f}"
        counted = {f"{row.keep_ratio:g}": f"{row.gmacs:.2f}" for row in rows.itertuples()}
        found.append(line | {"GMACs at 0.3": counted.get("0.3", "-")})
    return pd.DataFrame(found)


def embeddings(dataset: str) -> pd.DataFrame:
    """What new patch and position embeddings cost: models for one keep ratio each, with those of their start or new."""
    frame = _results()
    own = (frame["policy"] == frame["selector"]) & (frame["trained_ratio"] == frame["keep_ratio"])
    rows = frame[own & (frame["dataset"] == dataset) & (frame["schedule"] == "direct")]
    found = []
    for (ratio, policy), each in rows.groupby(["keep_ratio", "policy"], sort=True):
        line = {"keep ratio": f"{ratio:g}", "patches": "all" if ratio == 1 else methods.policy_label(policy)}
        for said, variant in (("kept", ""), ("new", RESET_EMBEDDINGS)):
            cells = each[each["variant"] == variant].sort_values("seed").to_dict("records")
            line[f"embeddings {said}"] = accuracy_cell(next(iter(cells), None))
        found.append(line)
    return pd.DataFrame(found[::-1])


def ablation(dataset: str, epochs: str) -> pd.DataFrame:
    """What each part of the recipe is worth: accuracy by the model's own choice, and what the change does.

    Args:
        dataset: the data set's name.
        epochs: of the trainings.
    """
    unchanged = next(iter(ablations.VARIANTS.values()))[0]
    names = _ablated(dataset, epochs)
    means = paired.accuracies(names, "compact", FEW)
    gaps = paired.against(unchanged, names, "compact", FEW, progress=False)
    rows = []
    for line in means.to_dict("records"):
        row = {"changed": line["label"], "seeds": line["seeds"]}
        row |= {f"at {ratio:g}": f"{100 * line[f'{ratio:g}']:.1f}" for ratio in FEW}
        its = {cell.keep_ratio: _points(cell) for cell in gaps[gaps["label"] == line["label"]].itertuples()}
        rows.append(row | {f"change at {ratio:g}": its.get(ratio, "") for ratio in FEW})
    return pd.DataFrame(rows)


def choices(dataset: str, epochs: str) -> pd.DataFrame:
    """The ablation's models by other ways of choosing, at 0.2 / 0.1; those that learned to choose on pixels.

    Args:
        dataset: the data set's name.
        epochs: of the trainings.
    """
    means = paired.accuracies(_ablated(dataset, epochs), "compact", FEW, (None, *CHOICES), draws=2)
    cells = {
        (line["label"], line["policy"]): f"{100 * line['0.2']:.1f} / {100 * line['0.1']:.1f}"
        for line in means.to_dict("records")
    }
    labels = [label for label in dict.fromkeys(means["label"]) if all((label, way) in cells for way in CHOICES)]
    named = {"its own": "its own, `spread`"} | CHOICES
    return pd.DataFrame([{"changed": of} | {named[way]: cells[of, way] for way in named} for of in labels])


def _ablated(dataset: str, epochs: str) -> dict[str, list[str]]:
    return ablations.trained(dataset, SEEDS, answers.names("compact"), epochs=int(epochs))


def _kept(names: list[str], profile: str, ratios: list[float], policy: str | None = None) -> list[pd.DataFrame]:
    return [frame for name in names if (frame := answers.read(name, profile, ratios, policy)) is not None]


def _number(text: str) -> bool:
    return re.fullmatch(r"[\d.]+", text) is not None


def _points(cell) -> str:
    """A difference with its interval over images and, where there are several trainings, over these."""
    said = f"{100 * cell.difference:+.1f} ({100 * cell.low:+.1f} to {100 * cell.high:+.1f})"
    if math.isnan(cell.seeds_low):
        return said
    return f"{said} [{100 * cell.seeds_low:+.1f} to {100 * cell.seeds_high:+.1f}]"


TABLES: dict[str, Callable[..., pd.DataFrame]] = {
    "summary": summary,
    "methods": compared,
    "advice": advice,
    "agentvit": agentvit,
    "selectors": selectors,
    "objects": objects,
    "differences": differences,
    "controls": controls,
    "ablation": ablation,
    "choices": choices,
    "untrained": untrained,
    "embeddings": embeddings,
    "claims": judged,
    "verdicts": verdicts,
    "untested": untested,
}


def main(arguments: list[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: None: those of the process.

    Returns:
        The exit status.
    """
    parser = argparse.ArgumentParser(prog="python -m tools.documents", description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 where a page differs")
    check, found = parser.parse_args(arguments).check, pages()
    changed = {}
    with committed_alone():
        for page in found:
            text = page.read_text()
            try:
                new = refreshed(text)
            except AselError as error:
                print(f"{page.name}: {error}", file=sys.stderr)
                return 1
            if new != text:
                changed[page] = new
    for page, new in changed.items():
        if not check:
            replace_text(page, new)
        print(f"{page.name}: {'differs from' if check else 'written anew from'} what was measured")
    return int(check and bool(changed))


if __name__ == "__main__":
    sys.exit(main())
