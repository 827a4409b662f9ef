"""Which rows belong together, and the summaries of them."""

import pandas as pd
import pytest

from asel_lib.identity import ModelKey
from asel_lib.reporting import rows, summaries
from tests.made_up import result, results


def test_the_summary_has_accuracy_interval_cost_and_speed_up():
    line = summaries.summary(results()).iloc[0]
    assert line["accuracy at 0.5, %"] == "62.5 (57.5-67.5)"
    assert line["GMACs"] == "1 / 0.5 / 0.2"
    assert line["speed-up"] == "1.00x / 2.00x / 5.00x"
    assert summaries.to_markdown(summaries.summary(results())).count("\n") == 2


def test_seeds_are_averaged_and_other_machines_are_not():
    both = pd.concat([results(), results(seed=1, accuracy=0.9), results(device="gpu")])
    groups = {run.label: run.rows for run in rows.runs(both)}
    assert sorted(groups) == ["masked, device cpu", "masked, device gpu"]
    means = rows.over_seeds(groups["masked, device cpu"])
    assert set(means["seeds"]) == {2}
    assert means["accuracy"].iloc[0] == pytest.approx((0.55 + 0.9) / 2)


def test_ablations_and_models_for_one_ratio_are_never_averaged_with_the_others():
    key = ModelKey("aid", "direct", "glance", "anytime")
    others = [
        ModelKey("aid", "direct", "glance", "anytime", "wide"),
        ModelKey("aid", "direct", "glance", "anytime", "", 0.3),
    ]
    every = pd.concat([results(one, ("glance",)) for one in (key, *others)])
    assert sorted(run.note for run in rows.runs(every)) == ["", "trained ratio 0.3", "variant wide"]
    assert set(rows.own_choice(every)["checkpoint"]) == {key.name}


def test_of_a_policy_with_a_model_of_its_own_other_models_rows_are_left_out():
    glance = results(ModelKey("aid", "direct", "glance", "anytime"), ("glance", "random"), accuracy=0.6)
    random = results(ModelKey("aid", "direct", "random", "anytime"), ("random",), accuracy=0.7)
    (run,) = rows.runs(pd.concat([glance, random]))
    means = rows.over_seeds(run.rows).groupby("policy")["accuracy"].first()
    assert means.to_dict() == pytest.approx({"glance": 0.6, "random": 0.7})


def test_of_a_measurement_made_twice_the_last_counts():
    again = results(accuracy=0.1, timestamp="2026-02-01T00:00:00+00:00")
    [run] = rows.runs(pd.concat([again, results()]))
    assert set(run.rows["accuracy"]) == {0.1}


def guided():
    policy = "line_guided:lines=xdog,choice=top"
    found = [results()]
    for seed in range(3):
        for name in (policy, "random"):
            key = ModelKey("aid", "direct", name, seed=seed)
            levels = {"accuracy": 0.5 + seed / 100, "accuracy_low": 0.46, "accuracy_high": 0.54}
            found.append(results(key, (name,), **levels))
    # random patches on the model of another selector
    found.append(results(ModelKey("aid", "direct", "glance", "anytime"), ("random",)))
    return pd.concat(found)


def test_selectors_are_compared_by_the_models_trained_with_them():
    table = summaries.selectors(guided(), ratios=(1.0, 0.5, 0.05))
    assert table["selector"].tolist() == ["line_guided:lines=xdog,choice=top", "random"]
    line = table.iloc[0]
    assert line["seeds"] == 3 and line["test images"] == 500
    assert line["at 0.5"] == "51.0 (50.0-52.0) ± 4.0"
    assert line["at 0.05"] == "-"  # not measured
    assert summaries.selectors(results()).empty


def test_the_objects_share_is_shown_where_it_is_known():
    frame = pd.concat([results(), results("synthetic_finetuned", object_area_kept=0.6)])
    table = summaries.objects_kept(frame)
    assert set(table["data set"]) == {"synthetic"}
    line = table[table["policy"] == "random"].iloc[0]
    assert line["at 0.5"] == "60.0 / 62.5"


def test_seeds_measured_on_another_machine_count_for_accuracy_and_not_for_cost():
    keys = [ModelKey("aid", "direct", "random", seed=seed) for seed in range(3)]
    usual = [results(keys[0], ("random",)), results(keys[1], ("random",), accuracy=0.6)]
    elsewhere = {"device": "another cpu", "dtype": "bfloat16", "timestamp": "z"}
    further = results(keys[2], ("random",), accuracy=0.9, latency_ms=1e6, **elsewhere)
    frame = pd.concat([*usual, further], ignore_index=True)
    pooled = rows.pooled(frame)
    (run,) = rows.runs(pooled)
    means, two = rows.over_seeds(run.rows), rows.over_seeds(pd.concat(usual))
    assert (means["seeds"] == 3).all() and means["accuracy"].gt(two["accuracy"]).all()
    expected = frame.groupby(["policy", "keep_ratio"])["accuracy"].mean()
    assert means["accuracy"].tolist() == pytest.approx(expected.tolist())
    assert means["latency_ms"].tolist() == pytest.approx(two["latency_ms"].tolist())
    assert frame["latency_ms"].max() == 1e6  # the given stays
    assert pooled.groupby("seed")["elsewhere"].agg(set).tolist() == [{""}, {""}, {"another cpu, bfloat16"}]
    assert len(rows.runs(frame)) == 2

    again = results(keys[0], ("random",), **elsewhere)  # measured in both: two measurements, as they are
    other = results(ModelKey("aid", "direct", "central"), ("central",), **elsewhere)  # no seed of it has a cost there
    for more in (again, other):
        alone = rows.pooled(pd.concat([*usual, more]))
        assert len(rows.runs(alone)) == 2 and alone["elsewhere"].eq("").all()
    # One machine each: the older is the usual one, so that a new seed does not move the cost of the old.
    assert rows.pooled(pd.concat([further, usual[0]]))["device"].eq("cpu").all()


def test_compared_policies_are_told_over_the_seeds_that_all_have():
    every = [
        result(ModelKey("aid", "direct", name, seed=seed))
        for name, seed in (("random", 0), ("random", 1), ("central", 0))
    ]
    means = rows.telling(pd.DataFrame(every), common=True)
    assert set(means["seeds"]) == {1} and set(means["seeds_left_out"]) == {1}
    assert set(rows.telling(pd.DataFrame(every))["seeds"]) == {1, 2}


def test_the_setting_nearest_to_the_papers_is_told():
    every = pd.concat([results(profile="demo", timestamp="z"), results(profile="compact")])
    assert set(rows.chain(every, "aid", "masked")["profile"]) == {"compact"}
    assert rows.chain(every, "aid", "anytime").empty
