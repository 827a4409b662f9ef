"""Each claim of the papers beside its own record and what was measured here, with a verdict that is computed from the
results table. What can be judged in another setting than the paper's is judged there (differences, orders, ratios of
times); accuracies as such are not, unless they were measured in the paper's setting."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import pandas as pd

from asel_lib.reporting import published_values as published
from asel_lib.reporting import tables, verdicts
from asel_lib.reporting.comparison import telling
from asel_lib.reporting.figures import XDOG
from asel_lib.reporting.paper import chain
from asel_lib.reproducibility import commit

COLUMNS = (
    "claim",
    "where",
    "its own record",
    "data set",
    "recipe",
    "start",
    "measured",
    "verdict",
    "why",
    "checkpoint",
    "notebook",
    "device",
    "commit",
)


@dataclass(frozen=True)
class Claim:
    """record: what the authors' own log or picture shows. check: rows of one model's policies (means over seeds) -> a
    Finding; it is asked once for each (data set, rows) that `rows` gives."""

    text: str
    where: str
    record: str
    rows: Callable[[pd.DataFrame], Iterator[tuple[str, str, pd.DataFrame]]]
    check: verdicts.Check


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """frame: results (`tables.read`). -> COLUMNS, a row a claim and what it was tested on. notebook: what made the
    row's numbers, of these checkpoints; a run names its executed copies <notebook>_<checkpoint>."""
    lines = []
    for claim in claims():
        about = {"claim": claim.text, "where": claim.where, "its own record": claim.record}
        for dataset, recipe, rows in claim.rows(frame):
            line = about | dict.fromkeys(COLUMNS[3:], "-") | {"data set": dataset, "recipe": recipe}
            if rows.empty:
                why = f"no results of recipe {recipe} on {dataset} in the table"
                finding = verdicts.Finding("-", verdicts.UNTESTABLE, why)
            else:
                finding, one = claim.check(rows, recipe), rows.iloc[0]
                line |= {name: one[name] for name in ("checkpoint", "device", "commit")} | {"start": _setting(rows)}
                line["notebook"] = "08_claims" if one["checkpoint"] == "-" else "05_benchmark"
            lines.append(line | {"measured": finding.measured, "verdict": finding.verdict, "why": finding.why})
    return pd.DataFrame(lines, columns=list(COLUMNS))


# --- which rows a claim is tested on ---


def _chains(dataset: str, recipes=("paper", "anytime")):
    """Of the warmed-up and transferred models, by the published recipe and by ours."""

    def rows(frame: pd.DataFrame):
        for recipe in recipes:
            yield dataset, recipe, chain(frame, dataset, recipe)

    return rows


def _method(
    method: str,
    recipe: str,
    datasets: tuple[str, ...],
    policies: tuple[str, ...],
    own: bool = False,
    common: bool = False,
):
    """Of a method's models; own: each policy by the models trained with it; common: over the seeds that all of the
    policies have, since they are compared."""

    def rows(frame: pd.DataFrame):
        for dataset in datasets:
            part = frame[(frame["dataset"] == dataset) & (frame["method"] == method) & (frame["recipe"] == recipe)]
            part = part[part["policy"].isin(policies)]
            part = telling(tables.own(part) if own and len(part) else part, common)
            yield dataset, recipe, part

    return rows


def _alone(dataset: str):
    """One row, for what is tested by an experiment."""

    def rows(frame: pd.DataFrame):
        yield dataset, "-", pd.DataFrame([{"checkpoint": "-", "device": "-", "commit": commit()}])

    return rows


def _cached_split(rows: pd.DataFrame, recipe: str) -> verdicts.Finding:
    from asel_lib.evaluation.leaks import cached_split  # torch: seconds to import, and only this claim needs it

    moved = cached_split(AID_IMAGES)
    measured = f"{moved['trained_on']:.0%} of {moved['test_images']} test images were trained on before"
    verdict = verdicts.NOT if moved["moved"] else verdicts.REPRODUCED
    return verdicts.Finding(measured, verdict, "played through with the published generator; see 08_claims")


# --- the claims ---


def _record(dataset: str, *ratios: float, policy: str = "learned") -> str:
    log = published.asel(dataset)
    values = [published.value(log, ratio, policy=policy) for ratio in ratios]
    return "log: " + ", ".join(f"{value * 100:.1f} % at {ratio:g}" for value, ratio in zip(values, ratios, strict=True))


def _record_wins(dataset: str) -> str:
    log = published.asel(dataset)
    log = log[log["keep_ratio"] < 1].pivot_table(index="keep_ratio", columns="policy", values="accuracy")
    said = []
    for other, source in (("random", "log"), ("central", "figure")):
        won = log.index[log[other] > log["learned"]]
        said += [f"{source}: {other} ahead at {verdicts.listed(won)}"] if len(won) else []
    return "; ".join(said)


def _record_speed(dataset: str, ratio: float) -> str:
    log = published.asel(dataset)
    speeds = [published.value(log, one, "throughput", policy="learned") for one in (ratio, 1.0)]
    return f"log: {speeds[0]:,.0f} / {speeds[1]:,.0f} = {speeds[0] / speeds[1]:.2f}x"


def _record_figure(dataset: str, method: str, ratio: float) -> str:
    return f"figure: {published.value(published.comparison(dataset), ratio, method=method) * 100:.1f} % at {ratio:g}"


AID_IMAGES = 10_000


@cache
def claims() -> tuple[Claim, ...]:
    """The claims of the three papers, in their order."""
    return (*_asel(), *_agentvit(), *_line_guided())


def _asel() -> Iterator[Claim]:
    aid, eurosat, rsscn7 = _chains("aid"), _chains("eurosat"), _chains("rsscn7")

    def levels(text, where, dataset, rows, values):
        """What a set's accuracies are said to be, and what they are said to lose, which any start can test."""
        record, whole = _record(dataset, *values), values.get(1.0)
        yield Claim(text, where, record, rows, verdicts.levels(values))
        if whole is not None:
            least = min(values)
            lost = (whole - values[least]) * 100
            name = f"{text.partition(':')[0]}: keeping {least:g} of the patches costs {lost:.1f} points"
            yield Claim(name, where, record, rows, verdicts.loss(least, lost))

    yield from levels("AID: 96.1 % with all patches, 94.8 % at 0.5", "5.2", "aid", aid, {1.0: 0.961, 0.5: 0.948})
    eurosat_levels = {1.0: 0.975, 0.5: 0.972, 0.3: 0.959}
    yield from levels(
        "EuroSAT: 97.5 % with all, 97.2 % at 0.5, 95.9 % at 0.3", "5.1", "eurosat", eurosat, eurosat_levels
    )
    text = "RSSCN7: 94.5 % with all, 91.4 % at 0.5"
    yield from levels(text, "5.3", "rsscn7", rsscn7, {1.0: 0.945, 0.5: 0.914})
    record = f"{_record('aid', 0.2)}; {_record_figure('aid', 'ASEL', 0.2)}, on a second split"
    check = verdicts.levels({0.2: 0.94}, least=True)
    yield Claim("AID: more than 94 % at 0.2", "5.5, Fig. 6a", record, aid, check)
    record = _record("aid", 1, 0.2)
    yield Claim("AID: keeping 0.2 of the patches costs 2.1 points", "5.2, 5.5", record, aid, verdicts.loss(0.2, 2.1))
    text = "RSSCN7: learned beats random at every keep ratio"
    yield Claim(text, "5.3", _record_wins("rsscn7"), rsscn7, verdicts.ahead(None, "random"))
    text = "80 % of the patches are 50 % faster"
    yield Claim(text, "abstract", _record_speed("cifar10", 0.8), aid, verdicts.faster(0.8, 1.5))
    text = "half of the patches take half of the time"
    yield Claim(text, "ASEL", _record_speed("cifar10", 0.5), aid, verdicts.faster(0.5, 2.0))
    text, record = "cached checkpoints skip training and go on to the benchmark", "the split moves with the cache"
    yield Claim(text, "README", record, _alone("aid"), _cached_split)
    one = published.costs().query("method == 'ASEL'").iloc[0]
    record = f"plotted {one['gmacs']:g} at {one['keep_ratio']:g}: a {one['how']}, which is all that is quadratic"
    yield Claim("GFLOPs follow a quadratic curve", "5.4", record, aid, verdicts.quadratic())


def _agentvit() -> Iterator[Claim]:
    aid = _method("agentvit", "agent", ("aid",), ("agent", "random"))
    record = f"{_record_figure('aid', 'AgentViT', 0.2)}; its policy is given the true labels"
    check = verdicts.levels({0.2: 0.69}, "agent", start="random")
    yield Claim("AID: AgentViT falls to about 69 % at 0.2", "ASEL, Fig. 6a", record, aid, check)
    text = "AgentViT's GFLOPs are in proportion to the keep ratio"
    (how,) = published.costs().query("method == 'AgentViT'")["how"].unique()
    yield Claim(text, "Fig. 6d", f"{how}, not a count", aid, verdicts.cost_in_proportion())
    original = published.agentvit().set_index("policy")["accuracy"] * 100
    record = f"CIFAR-10: agent {original['agent']:.2f} %, random {original['random']:.2f} %"
    every = _method("agentvit", "agent", ("cifar10", "aid", "rsscn7"), ("agent", "random"))
    where = "AgentViT (Cauteruccio et al. 2025)"
    yield Claim("the agent's patches beat random ones", where, record, every, verdicts.ahead("agent", "random", (0.5,)))


def _line_guided() -> Iterator[Claim]:
    sets = ("rsscn7", "aid", "imagenet10")
    rows = _method("line_guided", "dropped", sets, (XDOG,), own=True)
    both = _method("line_guided", "dropped", sets, (XDOG, "random"), own=True, common=True)
    where, table = "line-guided README", published.line_guided()
    whole, some = (published.value(table, ratio) * 100 for ratio in (1.0, 0.3))
    record = f"ImageNet-10: {some:.1f} % at 0.3, {whole:.1f} % at 1"
    yield Claim(
        "30 % of the patches are as accurate as all (to a point)", where, record, rows, verdicts.loss(0.3, 1, XDOG)
    )
    text = "accuracy is flat from 1 down to 0.2"
    yield Claim(text, f"{where}, picture", "flat within about a point", rows, verdicts.flat(0.2, 1.0, XDOG))
    record = f"{published.value(table, 0.1) * 100:.0f} % at 0.1, random 4 to 5 lower"
    ahead = verdicts.ahead(XDOG, "random", (0.1,), points=4.0)
    yield Claim("line-guided is 4 to 5 points ahead of random at 0.1", f"{where}, picture", record, both, ahead)
    text, ratios = "random is within a point of line-guided above 0.2", tuple(k / 10 for k in range(3, 10))
    yield Claim(text, f"{where}, picture", "within a point", both, verdicts.close(XDOG, "random", ratios, 1.0))
    costs = [published.value(table, ratio, "gflops") for ratio in (0.3, 1.0)]
    record = f"{costs[0]:g} / {costs[1]:g} = {costs[0] / costs[1]:.2f}, attention not counted"
    share = verdicts.cost_share(0.3, costs[0] / costs[1], XDOG)
    yield Claim("30 % of the patches cost a third of the operations", where, record, rows, share)


def _setting(rows: pd.DataFrame) -> str:
    if "seeds" not in rows:  # nothing was trained
        return "-"
    seeds, one = int(rows["seeds"].max()), rows.iloc[0]
    seen = f"{seeds} seed{'s' if seeds > 1 else ''}"
    if left := int(rows["seeds_left_out"].max()):
        seen += f" that both have (one has {left} more)"
    seen += f", {rows['n_images'].max():g} images"
    return f"{one['start'].replace('_', ' ')}; {one['profile']}, {seen}"
