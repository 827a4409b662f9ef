"""What the three papers claim, each claim beside its own record and with the check that judges it.

The record is what the authors' own log or figure shows (`published/`). Where it can be put as rows, the very check that
judges our rows judges it too, and a claim that fails on its own record is contradicted by it.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial

import numpy as np
import pandas as pd

from asel_lib.methods import LINE_GUIDED
from asel_lib.reporting import paper_numbers, verdicts
from asel_lib.reporting.settings import PATCHES, Setting

ACCURACY, CHOICE = "Accuracy with fewer patches", "Learned selection against random"
SPEED, COST = "Speed", "Counted operations"
AGENT, GUIDED, CACHE = "AgentViT", "Line-guided selection", "Cached checkpoints"
GROUPS = (ACCURACY, CHOICE, SPEED, COST, AGENT, GUIDED, CACHE)
SLACK = 0.01  # accuracy: the log of one run may be so far from the text on another before the two contradict each other
AID_IMAGES = 10_000


@dataclass(frozen=True)
class Claim:
    """One claim of a paper.

    Args:
        text: what is claimed, as a sentence's worth.
        group: one of GROUPS.
        where: section, figure or file that says so.
        number: the paper's own number.
        record: what the authors' own log or figure shows, in words.
        setting: in which the claim was made.
        check: judges rows, of the results or of the record.
        says: the record as rows, None where it is none.
        counted: a name in `evaluation.counted.MODELS`, where counting an untrained model decides.
        played: an experiment that needs no rows, where that decides.
    """

    text: str
    group: str
    where: str
    number: str
    record: str
    setting: Setting
    check: verdicts.Check
    says: pd.DataFrame | None = None
    counted: str = ""
    played: Callable[[], verdicts.Finding] | None = None

    @property
    def contradicted(self) -> bool:
        """Whether the authors' own record says the contrary."""
        return self.says is not None and self.judged(self.says).verdict == verdicts.NOT

    def judged(self, rows: pd.DataFrame) -> verdicts.Finding:
        """What rows of its own setting, or of its record, say of it."""
        return self.check(rows, self.setting.policies[0])


@cache
def claims() -> tuple[Claim, ...]:
    """The claims of the three papers, in their order."""
    return (*_accuracies(), *_asel(), *_agentvit(), *_line_guided())


# --- the claims ---


def _accuracies() -> Iterator[Claim]:
    """What a set's accuracies are said to be, and what they are then said to lose."""
    for name, where, values in (
        ("AID", "5.2", {1.0: 0.961, 0.5: 0.948}),
        ("EuroSAT", "5.1", {1.0: 0.975, 0.5: 0.972, 0.3: 0.959}),
        ("RSSCN7", "5.3", {1.0: 0.945, 0.5: 0.914}),
        ("AID", "5.5, Fig. 6a", {1.0: 0.961, 0.2: 0.94}),
    ):
        dataset, least = name.lower(), min(values)
        record, says, setting = _record(dataset, *values), _log(dataset, SLACK), Setting((dataset,))
        if least == 0.2:
            again = f"log: {_percent(dataset, 0.2)}; figure: {_figure(dataset, 'learned', 0.2)}, on a second split"
            check = verdicts.levels({0.2: 0.94}, least=True)
            yield Claim(f"{name}: more than 94 % at 0.2", ACCURACY, where, "94 % at 0.2", again, setting, check, says)
        else:
            number = ", ".join(f"{value * 100:.1f} % at {ratio:g}" for ratio, value in values.items())
            check = verdicts.levels(values, least=True)
            yield Claim(f"{name}: {number}", ACCURACY, where, number, record, setting, check, says)
        lost = (values[1.0] - values[least]) * 100
        text = f"{name}: keeping {least:g} of the patches costs at most {lost:.1f} points"
        check = verdicts.loss(least, lost)
        yield Claim(text, ACCURACY, where, f"{lost:.1f} points", record, setting, check, says)


def _asel() -> Iterator[Claim]:
    aid, speeds = Setting(("aid",)), _log("cifar10")
    timed = Setting(("aid", "eurosat", "rsscn7"))  # one network, which is as fast on each of them
    text, check = "RSSCN7: learned beats random at every keep ratio", verdicts.ahead(None, "random")
    record = _wins("rsscn7")
    yield Claim(text, CHOICE, "5.3", "ahead at 0.1 to 0.9", record, Setting(("rsscn7",)), check, _log("rsscn7"))
    text, check = "80 % of the patches are 50 % faster", verdicts.faster(0.8, 1.5)
    yield Claim(text, SPEED, "abstract", "1.5x at 0.8", _speed("cifar10", 0.8), timed, check, speeds)
    text, check = "half of the patches take half of the time", verdicts.faster(0.5, 2.0 - 0.005)  # to two decimals
    yield Claim(text, SPEED, "ASEL paper", "2x at 0.5", _speed("cifar10", 0.5), timed, check, speeds)
    one = paper_numbers.costs().query("policy == 'learned'").iloc[0]
    record = f"plotted {one['gmacs']:g} at {one['keep_ratio']:g}: a {one['how']}, which is all that is quadratic"
    text, check = "GFLOPs follow a quadratic curve", verdicts.quadratic(patches=PATCHES[224])
    yield Claim(text, COST, "5.4", "a quadratic curve", record, aid, check, counted="asel")
    text, record = "cached checkpoints skip training and go on to the benchmark", "the split moves with the cache"
    check = partial(_never, what=text)
    yield Claim(text, CACHE, "README", "the same test images", record, aid, check, played=_cached_split)


def _agentvit() -> Iterator[Claim]:
    aid = Setting(("aid",), "agentvit", "agent", ("agent", "random"), start="random")
    record = f"figure: {_figure('aid', 'agent', 0.2)}; its policy is given the true labels"
    text, check = "AID: AgentViT falls to about 69 % at 0.2", verdicts.levels({0.2: 0.69}, "agent")
    yield Claim(text, AGENT, "ASEL, Fig. 6a", "69 % at 0.2", record, aid, check, _pictured("aid", SLACK))
    text, check = "AgentViT's GFLOPs are in proportion to the keep ratio", verdicts.cost_in_proportion()
    (how,) = paper_numbers.costs().query("policy == 'agent'")["how"].unique()
    yield Claim(text, COST, "Fig. 6d", "1.1 x keep ratio", f"{how}, not a count", aid, check, counted="agentvit")
    original = paper_numbers.agentvit().set_index("policy")["accuracy"] * 100
    record = f"CIFAR-10: agent {original['agent']:.2f} %, random {original['random']:.2f} %"
    sets = Setting(
        ("cifar10",), "agentvit", "agent", ("agent", "random"), "random", elsewhere=("aid", "eurosat", "rsscn7")
    )
    text, where = "the agent's patches beat random ones", "AgentViT (Cauteruccio et al. 2025)"
    ahead = f"{original['agent'] - original['random']:+.1f} points"
    yield Claim(text, AGENT, where, ahead, record, sets, verdicts.ahead("agent", "random", (0.5,)))


def _line_guided() -> Iterator[Claim]:
    sets = Setting(
        ("imagenet10", "imagenette"),
        "direct",
        "dropped",
        (LINE_GUIDED,),
        patches=PATCHES[256],
        own=True,
        elsewhere=("rsscn7", "aid"),
    )
    both = replace(sets, policies=(LINE_GUIDED, "random"), common=True)
    where, table = "line-guided README", paper_numbers.line_guided()
    whole, some = (paper_numbers.value(table, ratio) * 100 for ratio in (1.0, 0.3))
    record = f"ImageNet-10: {some:.1f} % at 0.3, {whole:.1f} % at 1"
    text, check = "30 % of the patches are as accurate as all (to a point)", verdicts.loss(0.3, 1, LINE_GUIDED)
    yield Claim(text, GUIDED, where, f"{some:.1f} against {whole:.1f} %", record, sets, check)
    text, picture = "accuracy is flat from 1 down to 0.2", f"{where}, picture"
    check = verdicts.flat(0.2, 1.0, LINE_GUIDED)
    yield Claim(text, GUIDED, picture, "within a point", "flat within about a point", sets, check)
    record = f"{paper_numbers.value(table, 0.1) * 100:.0f} % at 0.1, random 4 to 5 lower"
    text = "line-guided is 4 to 5 points ahead of random at 0.1"
    check = verdicts.ahead(LINE_GUIDED, "random", (0.1,), points=4.0)
    yield Claim(text, GUIDED, picture, "4 to 5 points", record, both, check)
    text, ratios = "random is within a point of line-guided above 0.2", tuple(k / 10 for k in range(3, 10))
    check = verdicts.close(LINE_GUIDED, "random", ratios, 1.0)
    yield Claim(text, GUIDED, picture, "within a point", "within a point", both, check)
    costs = [paper_numbers.value(table, ratio, "gflops") for ratio in (0.3, 1.0)]
    share = f"{costs[0]:g} / {costs[1]:g} = {costs[0] / costs[1]:.2f}"
    text = "30 % of the patches cost a third of the operations"
    check = verdicts.cost_share(0.3, costs[0] / costs[1], LINE_GUIDED)
    yield Claim(text, COST, where, share, f"{share}, attention not counted", sets, check, counted="line_guided")


# --- their records ---


def _log(dataset: str, slack: float = 0.0) -> pd.DataFrame:
    """The authors' log as rows of results: accuracy up to `slack`, time of a batch of 64 by its throughput."""
    log = paper_numbers.asel(dataset).query("source == 'log'")
    return _rows(log, slack).assign(latency_ms=64e3 / log["throughput"], latency_iqr_ms=0.0, gmacs=np.nan)


def _pictured(dataset: str, slack: float) -> pd.DataFrame:
    """What the published picture shows of AgentViT, as rows of results."""
    return _rows(paper_numbers.comparison(dataset).query("policy == 'agent'"), slack)


def _rows(table: pd.DataFrame, slack: float) -> pd.DataFrame:
    return table.assign(accuracy_low=table["accuracy"] - slack, accuracy_high=table["accuracy"] + slack)


def _record(dataset: str, *ratios: float) -> str:
    return "log: " + ", ".join(f"{_percent(dataset, ratio)} at {ratio:g}" for ratio in ratios)


def _percent(dataset: str, ratio: float) -> str:
    return f"{paper_numbers.value(paper_numbers.asel(dataset), ratio, policy='learned') * 100:.1f} %"


def _figure(dataset: str, policy: str, ratio: float) -> str:
    return f"{paper_numbers.value(paper_numbers.comparison(dataset), ratio, policy=policy) * 100:.1f} % at {ratio:g}"


def _wins(dataset: str) -> str:
    log = paper_numbers.asel(dataset)
    log = log[log["keep_ratio"] < 1].pivot_table(index="keep_ratio", columns="policy", values="accuracy")
    said = []
    for other, source in (("random", "log"), ("central", "figure")):
        won = log.index[log[other] > log["learned"]]
        said += [f"{source}: {other} ahead at {verdicts.listed(won)}"] if len(won) else []
    return "; ".join(said)


def _speed(dataset: str, ratio: float) -> str:
    log = paper_numbers.asel(dataset)
    speeds = [paper_numbers.value(log, one, "throughput", policy="learned") for one in (ratio, 1.0)]
    return f"log: {speeds[0]:,.0f} / {speeds[1]:,.0f} = {speeds[0] / speeds[1]:.2f}x"


def _cached_split() -> verdicts.Finding:
    from asel_lib.evaluation.leaks import cached_split  # torch: seconds to import, and only this claim needs it

    moved = cached_split(AID_IMAGES)
    measured = f"{moved['trained_on']:.0%} of {moved['test_images']} test images were trained on before"
    verdict = verdicts.NOT if moved["moved"] else verdicts.REPRODUCED
    return verdicts.Finding(measured, verdict, "played through with the published generator; see 08_claims")


def _never(rows: pd.DataFrame, own: str, what: str) -> verdicts.Finding:
    return verdicts.Finding("-", verdicts.UNTESTABLE, f"no rows can tell whether {what}")
