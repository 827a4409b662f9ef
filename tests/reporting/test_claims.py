"""Verdicts follow from the rows, and each turns where the rows say otherwise."""

from dataclasses import replace

import pandas as pd
import pytest

from asel_lib.identity import ModelKey
from asel_lib.methods import LINE_GUIDED
from asel_lib.reporting import claims, summaries, verdicts
from asel_lib.tables import RESULTS
from tests.made_up import result


def made(policy="learned", half=0.02, start="random", profile="compact", **columns) -> pd.DataFrame:
    """Rows of one model (means over seeds) at 0.2, 0.5 and 1; columns: lists of three."""
    ratios = [0.2, 0.5, 1.0]
    given = {"accuracy": [0.7, 0.8, 0.8], "gmacs": ratios, "latency_ms": [20, 50, 100], "latency_iqr_ms": [1, 1, 1]}
    given |= columns
    rows = pd.DataFrame({"policy": policy, "keep_ratio": ratios, "start": start, "profile": profile} | given)
    return rows.assign(accuracy_low=rows["accuracy"] - half, accuracy_high=rows["accuracy"] + half)


def verdict(check, rows, own="learned"):
    return check(rows, own).verdict


def test_a_loss_is_judged_with_its_interval():
    rows = made()  # 10 points from 1 to 0.2, plus or minus 2.8
    assert verdict(verdicts.loss(0.2, 13), rows) == verdicts.REPRODUCED
    assert verdict(verdicts.loss(0.2, 7), rows) == verdicts.NOT
    assert verdict(verdicts.loss(0.2, 9), rows) == verdicts.UNDECIDED
    found = verdicts.loss(0.2, 9)(rows, "learned")
    assert found.measured == "+10.0 points lost from 1 to 0.2 (± 2.8)"
    assert verdict(verdicts.loss(0.3, 9), rows) == verdicts.UNTESTABLE


def test_flat_means_at_every_keep_ratio_down_to_the_least():
    rows = made(accuracy=[0.8, 0.7, 0.8])  # a dip in the middle
    assert verdict(verdicts.flat(0.2, 5), rows) == verdicts.NOT
    assert verdict(verdicts.loss(0.2, 5), rows) == verdicts.REPRODUCED
    assert verdict(verdicts.flat(0.2, 5), made(accuracy=[0.78, 0.79, 0.8])) == verdicts.REPRODUCED


def test_accuracies_are_judged_by_their_intervals():
    check = verdicts.levels({1.0: 0.81, 0.5: 0.79})
    assert verdict(check, made()) == verdicts.REPRODUCED
    assert verdict(check, made(accuracy=[0.7, 0.7, 0.8])) == verdicts.NOT
    assert verdict(check, made(accuracy=[0.7, 0.9, 0.8])) == verdicts.NOT
    assert verdict(verdicts.levels({0.3: 0.7}), made()) == verdicts.UNTESTABLE
    assert verdict(verdicts.levels({0.2: 0.7}, "agent"), made("agent")) == verdicts.REPRODUCED


def test_more_than_so_much_is_kept_by_more():
    assert verdict(verdicts.levels({0.2: 0.6}, least=True), made()) == verdicts.REPRODUCED
    assert verdict(verdicts.levels({0.2: 0.6}), made()) == verdicts.NOT
    found = verdicts.levels({0.2: 0.75}, least=True)(made(), "learned")
    assert found.verdict == verdicts.NOT and "above the interval at 0.2" in found.why


@pytest.mark.parametrize(
    ("other", "expected"),
    [([0.6, 0.7, 0.8], verdicts.REPRODUCED), ([0.8, 0.7, 0.8], verdicts.NOT), ([0.69, 0.79, 0.8], verdicts.UNDECIDED)],
)
def test_ahead_means_at_every_keep_ratio_and_beyond_the_interval(other, expected):
    rows = pd.concat([made(), made("random", accuracy=other)])
    found = verdicts.ahead(None, "random", (0.2, 0.5))(rows, "learned")
    assert found.verdict == expected
    if expected == verdicts.NOT:
        assert "at 0.2" in found.why and "0.5" not in found.why
    assert verdict(verdicts.ahead(None, "random"), rows) == verdicts.UNTESTABLE  # not at every published ratio


def test_by_so_many_points_is_judged_too():
    rows = pd.concat([made(), made("random", accuracy=[0.68, 0.7, 0.8])])
    assert verdict(verdicts.ahead("learned", "random", (0.2,), 4.0), rows) == verdicts.UNDECIDED
    assert verdict(verdicts.ahead("learned", "random", (0.2,), 6.0), rows) == verdicts.NOT
    assert verdict(verdicts.ahead("learned", "random", (0.5,), 6.0), rows) == verdicts.REPRODUCED
    assert verdict(verdicts.ahead("learned", "random", (0.5,), 8.0), rows) == verdicts.UNDECIDED


@pytest.mark.parametrize(
    ("other", "expected"),
    [([0.7, 0.8, 0.8], verdicts.REPRODUCED), ([0.7, 0.7, 0.8], verdicts.NOT), ([0.7, 0.77, 0.8], verdicts.UNDECIDED)],
)
def test_close_means_on_both_sides(other, expected):
    for policies in (("learned", "random"), ("random", "learned")):
        rows = pd.concat([made(policies[0]), made(policies[1], accuracy=other)])
        assert verdict(verdicts.close("learned", "random", (0.2, 0.5), 4.0), rows) == expected


def test_speed_is_a_ratio_of_times_and_cost_of_counts():
    rows = made()
    assert verdict(verdicts.faster(0.5, 1.9), rows) == verdicts.REPRODUCED
    assert verdict(verdicts.faster(0.5, 2.0), rows) == verdicts.UNDECIDED
    assert verdict(verdicts.faster(0.5, 2.2), rows) == verdicts.NOT
    assert verdict(verdicts.faster(0.5, 2.2), made(latency_ms=[20, 50, float("nan")])) == verdicts.UNTESTABLE
    assert verdict(verdicts.cost_share(0.2, 0.2, "learned"), rows) == verdicts.REPRODUCED
    assert verdict(verdicts.cost_share(0.5, 0.4, "learned"), rows) == verdicts.NOT
    assert verdict(verdicts.cost_in_proportion(), rows) == verdicts.REPRODUCED
    assert verdict(verdicts.cost_in_proportion(), made(gmacs=[0.3, 0.55, 1])) == verdicts.NOT


@pytest.mark.parametrize(
    ("square", "patches", "expected"),
    [(0.3, 196, verdicts.REPRODUCED), (0.0, 196, verdicts.NOT), (0.0, 64, verdicts.UNTESTABLE)],
)
def test_a_quadratic_part_is_found_where_there_is_one(square, patches, expected):
    ratios = [0.1, 0.3, 0.5, 0.7, 0.9, 1.0]
    kept = [int(ratio * patches) for ratio in ratios]  # rounding down bends nothing
    cost = [0.1 + k / patches + square * (k / patches) ** 2 for k in kept]
    rows = pd.DataFrame({"policy": "learned", "keep_ratio": ratios, "gmacs": cost, "kept_patches": kept})
    assert verdict(verdicts.quadratic(), rows) == expected
    assert verdict(verdicts.quadratic(), rows[2:]) == verdicts.UNTESTABLE


EMPTY = RESULTS.empty()


def test_without_results_only_counts_experiments_and_the_record_decide():
    judged = claims.table(EMPTY)
    assert list(judged) == list(claims.COLUMNS)
    assert len(judged) == len(judged["claim"].unique()) == len(claims.claims()) >= 20
    of = judged.set_index("claim")
    decided = of["notebook"] == "08_claims"
    assert set(of.loc[~decided, "here"]) == {verdicts.UNTESTABLE}
    assert of.loc[~decided, "why"].str.contains("no results of recipe").all()
    assert of.loc[decided, "here"].to_dict() == {
        "GFLOPs follow a quadratic curve": verdicts.REPRODUCED,
        "cached checkpoints skip training and go on to the benchmark": verdicts.NOT,
        "AgentViT's GFLOPs are in proportion to the keep ratio": verdicts.NOT,
        "30 % of the patches cost a third of the operations": verdicts.REPRODUCED,
    }
    assert "14.1% of the cost at 1" in of.loc["GFLOPs follow a quadratic curve", "measured"]
    assert of.loc["GFLOPs follow a quadratic curve", "start"] == "counted at 224 px, untrained"


def test_a_claim_that_its_own_record_denies_is_contradicted_whatever_is_measured():
    denied = {
        "AID: 96.1 % at 1, 94.8 % at 0.5",
        "AID: more than 94 % at 0.2",
        "AID: keeping 0.2 of the patches costs at most 2.1 points",
        "RSSCN7: learned beats random at every keep ratio",
        "80 % of the patches are 50 % faster",
        "AID: AgentViT falls to about 69 % at 0.2",
    }
    judged = claims.table(EMPTY)
    assert set(judged.loc[judged["verdict"] == verdicts.CONTRADICTED, "claim"]) == denied
    records = judged.set_index("claim")["its own record"]
    assert records["AID: 96.1 % at 1, 94.8 % at 0.5"] == "log: 92.3 % at 1, 91.8 % at 0.5"
    assert records["RSSCN7: learned beats random at every keep ratio"] == (
        "log: random ahead at 0.7, 0.8; figure: central ahead at 0.1, 0.2"
    )
    assert "13,356 / 9,944 = 1.34x" in records["80 % of the patches are 50 % faster"]
    assert records["GFLOPs follow a quadratic curve"].startswith("plotted 1.09 at 1: a count without the fused")
    assert records["AgentViT's GFLOPs are in proportion to the keep ratio"].startswith("the formula 1.1 x keep ratio")
    assert records["the agent's patches beat random ones"] == "CIFAR-10: agent 75.80 %, random 73.31 %"

    speed = judged_of(frame(latency_ms=[10.0, 20.0, 100.0], keep_ratio=[0.2, 0.8, 1.0], patches=[39, 156, 196]))
    speed = speed.loc["80 % of the patches are 50 % faster"]
    assert speed["verdict"] == verdicts.CONTRADICTED and speed["here"] == verdicts.REPRODUCED
    assert speed["measured"].startswith("5.00x at 0.8") and "less than 1.5x, by the record" in speed["why"]


CHAIN = ModelKey("aid", "published", "learned", "masked")
OTHERWISE = {"dataset": "rsscn7", "schedule": "direct", "selector": "glance", "recipe": "dropped", "variant": "linear"}


def frame(start="cifar10_warmup from imagenet", key=CHAIN, patches=(39, 98, 196), **columns):
    """Rows of results, as one seed of the published chain at 224 px has them."""
    about = dict(split="test", device="cpu", dtype="float32", torch="2", selector_gmacs=0.0, top5=1.0)
    about |= dict(batch_size=64, compiled=False, n_images=100, commit="c", timestamp="t")
    columns = {"policy": key.selector} | columns
    about |= dict(throughput=1.0, peak_memory_mb=1.0, kept_patches=list(patches))
    return RESULTS.checked(made(start=start, **columns).assign(**key.columns(), **about), "made here")


def judged_of(rows) -> pd.DataFrame:
    return claims.table(rows).set_index("claim")


def test_a_claim_is_judged_by_rows_of_its_own_setting_alone():
    text = "AID: keeping 0.5 of the patches costs at most 1.3 points"
    its_own = frame(accuracy=[0.7, 0.8, 0.8], half=0.002)
    decided = judged_of(its_own).loc[text]  # one row: a Series
    assert decided["verdict"] == decided["here"] == verdicts.REPRODUCED
    assert decided["start"] == "cifar10 warmup from imagenet; compact, 1 seed, 100 test images"
    assert decided["checkpoint"] == "aid_finetuned" and decided["commit"] == "c"
    assert decided["notebook"] == "05_benchmark"
    for other in (
        frame("cifar10_warmup from random", half=0.002),
        frame(patches=(12, 32, 64), half=0.002),  # 128 px
        frame("cifar10_warmup from random", accuracy=[0.2, 0.5, 0.8], half=0.002),
    ):
        first, beside = judged_of(other).loc[text].to_dict("records")
        assert first["verdict"] == verdicts.UNTESTABLE and "imagenet start, 224 px" in first["why"]
        assert beside["verdict"] == verdicts.ELSEWHERE and "points lost" in beside["measured"]
        first, beside = judged_of(pd.concat([its_own, other])).loc[text].to_dict("records")
        assert first["verdict"] == verdicts.REPRODUCED and beside["verdict"] == verdicts.ELSEWHERE
    changed = (replace(CHAIN, **{name: value}) for name, value in OTHERWISE.items())
    for absent in (frame(key=key, policy="learned") for key in changed):
        assert judged_of(absent).loc[text, "verdict"] == verdicts.UNTESTABLE


def test_a_claim_is_listed_once_by_its_record_or_its_own_setting():
    judged = claims.table(frame("cifar10_warmup from random"))
    assert judged["claim"].duplicated().any()
    found = claims.overall(judged).set_index("claim")["verdict"]
    assert len(found) == len(claims.claims())
    assert found["AID: keeping 0.5 of the patches costs at most 1.3 points"] == verdicts.ELSEWHERE
    assert found["AID: 96.1 % at 1, 94.8 % at 0.5"] == verdicts.CONTRADICTED
    assert found["EuroSAT: 97.5 % at 1, 97.2 % at 0.5, 95.9 % at 0.3"] == verdicts.UNTESTABLE
    counts = claims.groups(judged)
    assert counts.to_numpy().sum() == len(claims.claims())
    assert counts.loc["Speed", [verdicts.CONTRADICTED, verdicts.ELSEWHERE]].tolist() == [1, 1]


def test_our_own_recipe_tests_no_claim_and_stands_apart():
    mine = frame(key=replace(CHAIN, selector="glance", recipe="anytime"), accuracy=[0.94, 0.95, 0.97], half=0.002)
    assert set(claims.table(mine)["checkpoint"]) == {"-"}
    found = claims.ours(mine).set_index("question")
    assert found.loc["AID: more than 94 % at 0.2", "measured"] == "94.0 (93.8-94.2) % at 0.2"
    assert set(found["recipe"]) == {"anytime"} and "verdict" not in found
    assert claims.ours(frame()).empty


def test_a_model_trained_for_one_keep_ratio_is_asked_at_that_one():
    def of(trained, accuracy):
        key = ModelKey("imagenette", "direct", LINE_GUIDED, keep_ratio=trained)
        return frame("imagenet", key, (51, 128, 256), accuracy=accuracy)

    rows = pd.concat([of(0.2, [0.75, 0.1, 0.1]), of(1.0, [0.1, 0.1, 0.75])])
    flat = claims.table(rows).set_index("claim").loc["accuracy is flat from 1 down to 0.2"]
    assert flat["measured"].startswith("+0.0 points lost from 1 to 0.2") and flat["data set"] == "imagenette"


def test_policies_are_compared_over_the_seeds_that_both_have():
    def of(policy, seed, accuracy):
        return frame("random", ModelKey("aid", "direct", policy, seed=seed), half=0.001, accuracy=accuracy)

    guided = [of(LINE_GUIDED, 0, [0.7, 0.8, 0.8])]
    random = [of("random", seed, [0.4 if seed else 0.69, 0.8, 0.8]) for seed in range(3)]
    every = pd.concat(guided + random).replace({"keep_ratio": {0.2: 0.1}})
    judged = claims.table(every).query("`data set` == 'aid'").set_index("claim")
    ahead = judged.loc["line-guided is 4 to 5 points ahead of random at 0.1"]
    assert ahead["verdict"] == verdicts.ELSEWHERE and ahead["measured"].startswith("+1.0 ")  # not +20.7
    assert ahead["start"] == "random; compact, 1 seed that both have (one has 2 more), 100 test images"
    assert ahead["checkpoint"] == "aid-direct-line_guided,lines=xdog,choice=sample-s0, aid-direct-random-s0"

    apart = pd.concat([guided[0].assign(seed=7), *random])
    judged = claims.table(apart).query("`data set` == 'aid'").set_index("claim")
    assert "line-guided is 4 to 5 points ahead of random at 0.1" not in judged.index


def published(dataset: str, seed: int = 0, **changes) -> pd.DataFrame:
    """Rows of one seed of the published recipe in the paper's setting, as a run of profile `compact` writes them."""
    key, rows = ModelKey(dataset, "published", "learned", "masked", seed=seed), []
    for policy, behind in (("learned", 0.0), ("random", 0.03), ("central", 0.02)):
        for ratio in (0.05, *(k / 10 for k in range(1, 11))):
            accuracy = 0.97 - (1 - ratio) * (0.015 + behind)
            about = dict(accuracy=accuracy, accuracy_low=accuracy - 0.002, accuracy_high=accuracy + 0.002)
            about |= dict(start="cifar10_warmup from imagenet", kept_patches=max(1, int(196 * ratio + 1e-9)))
            rows.append(result(key, ratio, policy, **about | {"n_images": 2000} | changes))
    return RESULTS.checked(pd.DataFrame(rows), "made here")


def test_rows_of_the_papers_sets_decide_its_claims_as_they_come():
    """Nothing but rows is needed: AID, EuroSAT and RSSCN7 leave no claim of ASEL open; UC Merced has none."""
    its = claims.table(EMPTY)
    asel = set(
        its.loc[
            its["group"].isin(("Accuracy with fewer patches", "Learned selection against random", "Speed")), "claim"
        ]
    )
    sets = ("aid", "eurosat", "rsscn7", "ucmerced")
    every = pd.concat([published(name, seed) for name in sets for seed in range(3)])
    judged = claims.table(every)
    found = claims.overall(judged).set_index("claim")["verdict"]
    assert len(asel) >= 10 and verdicts.UNTESTABLE not in set(found[list(asel)])
    assert asel.isdisjoint(claims.untested(judged)["claim"])
    assert not judged["verdict"].eq(verdicts.ELSEWHERE).any() and "ucmerced" not in set(judged["data set"])
    own = judged.set_index("claim")
    assert own.loc["EuroSAT: keeping 0.3 of the patches costs at most 1.6 points", "verdict"] == verdicts.REPRODUCED
    assert own.loc["EuroSAT: 97.5 % at 1, 97.2 % at 0.5, 95.9 % at 0.3", "verdict"] == verdicts.NOT
    learned = own.loc["RSSCN7: learned beats random at every keep ratio"]
    assert learned["verdict"] == verdicts.CONTRADICTED and learned["here"] == verdicts.REPRODUCED
    assert own.loc["AID: keeping 0.5 of the patches costs at most 1.3 points", "start"].endswith(
        "compact, 3 seeds, 2000 test images"
    )


def test_a_claim_of_speed_is_judged_where_the_published_network_was_timed():
    text, untimed = "half of the patches take half of the time", dict(latency_ms=float("nan"), throughput=float("nan"))
    only = judged_of(published("rsscn7", **untimed)).loc[text]
    assert only["verdict"] == verdicts.UNTESTABLE and only["why"] == "not timed at 0.5 and 1"
    both = judged_of(pd.concat([published("aid", **untimed), published("rsscn7", latency_iqr_ms=0.0)])).loc[text]
    assert both["verdict"] == verdicts.REPRODUCED and both["data set"] == "rsscn7"
    assert both["measured"].startswith("2.00x at 0.5 on ")


def test_what_was_measured_on_another_copy_of_a_set_says_so():
    copy = claims.table(published("rsscn7", split="unseen", n_images=794)).set_index("claim")
    decided = copy.loc["RSSCN7: keeping 0.5 of the patches costs at most 3.1 points"]
    assert decided["verdict"] == verdicts.REPRODUCED and decided["start"].endswith("1 seed, 794 unseen images")
    tables = summaries.summary(published("rsscn7", split="unseen", n_images=794))
    assert tables["test images"].tolist() == ["794 unseen"]
    assert summaries.summary(published("rsscn7"))["test images"].tolist() == [2000]


def test_each_claim_without_a_verdict_says_what_is_missing():
    left = claims.untested(claims.table(EMPTY)).set_index("claim")["missing"]
    assert left["EuroSAT: keeping 0.3 of the patches costs at most 1.6 points"] == (
        "no results of recipe masked on eurosat, imagenet start, 224 px"
    )
    assert "GFLOPs follow a quadratic curve" not in left
    beside = claims.untested(claims.table(frame("cifar10_warmup from random")))
    assert "AID: keeping 0.5 of the patches costs at most 1.3 points" in set(beside["claim"])
