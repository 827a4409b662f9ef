from dataclasses import asdict

import numpy as np
import pandas as pd
import pytest

from asel_lib.identity import ModelKey
from asel_lib.methods import parse
from asel_lib.reporting import comparison, figures
from asel_lib.reporting.figures import agentvit
from tests.made_up import result

RATIOS = (0.1, 0.5, 1.0)


def rows(key, policy, level, **others):
    return [
        result(
            key,
            ratio,
            policy,
            accuracy=level + ratio / 5,
            accuracy_low=level,
            accuracy_high=level + 0.4,
            latency_ms=80 * ratio,
            latency_iqr_ms=2,
            throughput=800 / ratio,
            n_images=100,
            **others,
        )
        for ratio in RATIOS
    ]


def direct(selector, recipe="dropped", seed=0):
    return ModelKey("aid", "direct", selector, recipe, seed=seed)


MASKED, DROPPED, AGENT = (parse(text).label for text in ("learned/masked", "learned", "agent"))
RANDOM = f"{AGENT}, random patches"


@pytest.fixture
def frame():
    found = rows("aid_finetuned", "learned", 0.5) + rows("aid_finetuned", "random", 0.1)
    found += rows(ModelKey("aid", "published", "learned"), "learned", 0.6)
    found += rows("agentvit_aid", "agent", 0.3) + rows("agentvit_aid", "random", 0.2)
    found += rows(ModelKey("aid", "agentvit", "agent", "agent", seed=1), "agent", 0.4)
    for policy, recipe, level in (("agent", "agent", 0.35), ("learned", "masked", 0.45), ("learned", "dropped", 0.55)):
        found += rows(direct(policy, recipe), policy, level)
    found += rows(direct("line_guided:lines=xdog,choice=top"), "line_guided:lines=xdog,choice=top", 0.9)
    found += rows(ModelKey("aid", "published", "learned"), "learned", 0.99, profile="demo")  # of another run
    return pd.DataFrame(found)


def drawn(figure):
    return {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}


def test_the_published_setting_sets_warmed_up_asel_against_agentvit(frame):
    lines = drawn(agentvit.accuracy_keep(frame, "aid"))
    assert list(lines) == [MASKED, DROPPED, AGENT, RANDOM]
    np.testing.assert_allclose(lines[DROPPED], [[0.1, 62], [0.5, 70], [1, 80]])
    np.testing.assert_allclose(lines[AGENT], [[0.1, 37], [0.5, 45], [1, 55]])  # mean of two seeds


def test_the_equal_setting_takes_models_of_the_same_start(frame):
    lines = drawn(agentvit.equal_setting(frame, "aid"))
    assert list(lines) == [MASKED, DROPPED, AGENT]
    np.testing.assert_allclose(lines[AGENT], [[0.1, 37], [0.5, 45], [1, 55]])


def test_costs_are_those_measured(frame):
    np.testing.assert_allclose(drawn(agentvit.gmacs(frame, "aid"))[AGENT], [[r, r] for r in RATIOS])
    throughput = drawn(agentvit.accuracy_throughput(frame, "aid"))[MASKED]
    np.testing.assert_allclose(throughput, [[8000, 52], [1600, 60], [800, 70]])
    bars = agentvit.latency_50(frame, "aid").axes[0].patches
    assert sorted(round(bar.get_height()) for bar in bars) == [40, 40, 40, 80, 80, 80]


def test_the_files_have_the_published_names_and_are_not_drawn_of_nothing(frame):
    def made(rows):
        return [name for name in figures.files(keys=figures.keys_of(rows)) if "_asel_vs_agentvit_" in name]

    assert {name for name in made(frame) if name.endswith("png")} == {
        "aid_asel_vs_agentvit_1_acc_keep.png",
        "aid_asel_vs_agentvit_2_acc_throughput.png",
        "aid_asel_vs_agentvit_3_gflops.png",
        "aid_asel_vs_agentvit_4_latency_50.png",
        "aid_asel_vs_agentvit_5_equal.png",
    }
    assert made(frame[frame["schedule"] == "published"]) == []
    alone = frame[frame["schedule"] != "direct"]
    assert len(made(alone)) == 15
    assert "no results of AgentViT" in agentvit.equal_setting(alone, "aid").texts[0].get_text()
    assert "no results of AgentViT" in agentvit.latency_50(frame, "rsscn7").texts[0].get_text()


def test_the_table_says_seeds_images_and_intervals(frame):
    table = comparison.table(frame, "aid", (1.0, 0.5)).set_index("method")
    assert table.loc[AGENT, "seeds"] == 2 and table.loc[MASKED, "test images"] == 100
    assert table.loc[AGENT, "at 0.5"] == "45.0 (40.0-50.0) ± 20.0"
    assert table.loc[DROPPED, "at 1"] == "80.0 ± 20.0" and table.loc[MASKED, "ms at 1 / 0.5"] == "80 / 40"
    assert comparison.table(frame, "rsscn7").empty


def record(key, start="random", best=2, seconds=10.0, train=100):
    key = ModelKey.parse(key) if isinstance(key, str) else key
    return asdict(key) | {
        "name": key.name,
        "start": start,
        "profile": "compact",
        "split": {"train": train},
        "history": [{"epoch": number, "seconds": seconds} for number in (1, 2, 3)],
        "metrics": {"best_epoch": best, "epochs": 3, "val_accuracy": 0.5},
    }


def test_a_transfer_costs_its_warm_up_too():
    records = [
        record("cifar10_warmup", train=1000, best=3),
        record("aid_finetuned", "cifar10_warmup from random"),
        record(ModelKey("aid", "published", "learned"), "cifar10_warmup from random"),
        record("agentvit_aid"),
        record(ModelKey("aid", "agentvit", "agent", "agent", seed=1), best=3),
        record(ModelKey("aid", "direct", "learned", keep_ratio=0.3)),
        record(ModelKey("aid", "direct", "glance", "anytime", "wide")),
        record(direct("agent", "agent")),
        record(direct("mine", "strange")),
    ]
    table = comparison.training_cost(records)
    assert set(table.loc[table["setting"] == "equal", "method"]) == {AGENT, "mine, strange"}
    table = table[table["setting"] == "as published"].set_index("method")
    assert sorted(table.index) == sorted([MASKED, AGENT]), "a transfer without its warm-up here is left out"
    assert table.loc[MASKED, "images seen"] == 3200 and table.loc[MASKED, "seconds"] == 50
    assert table.loc[MASKED, "epochs"] == 6 and table.loc[MASKED, "epochs to best"] == 5
    assert table.loc[AGENT, "images seen"] == 250 and table.loc[AGENT, "seeds"] == 2


def test_only_rows_measured_alike_are_drawn_together(frame):
    elsewhere = frame.assign(device="gpu", timestamp="2025-01-01T00:00:00+00:00", accuracy=0.99)
    mixed = pd.concat([frame, elsewhere], ignore_index=True)
    for draw in (agentvit.accuracy_keep, agentvit.equal_setting):
        ours, theirs = drawn(draw(frame, "aid")), drawn(draw(mixed, "aid"))
        assert ours.keys() == theirs.keys()
        for label, line in ours.items():
            np.testing.assert_allclose(line, theirs[label])
        assert "gpu" not in draw(mixed, "aid").get_label()


def test_the_equal_setting_compares_common_seeds_from_one_start(frame):
    more = rows(direct("agent", "agent", seed=1), "agent", 0.0)
    more += rows(direct("learned", "masked"), "learned", 0.0, start="imagenet")
    lines = drawn(agentvit.equal_setting(pd.concat([frame, pd.DataFrame(more)], ignore_index=True), "aid"))
    for label, line in drawn(agentvit.equal_setting(frame, "aid")).items():
        np.testing.assert_allclose(lines[label], line)
