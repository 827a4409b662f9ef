import numpy as np
import pandas as pd
import pytest

from asel_lib.reporting import comparison, tables

RATIOS = (0.1, 0.5, 1.0)


def rows(method, policy, recipe, checkpoint, level, seed=0, **others):
    return [
        dict.fromkeys(tables.COLUMNS, 0)
        | {
            "dataset": "aid",
            "method": method,
            "policy": policy,
            "recipe": recipe,
            "checkpoint": checkpoint,
            "seed": seed,
            "keep_ratio": ratio,
            "accuracy": level + ratio / 5,
            "accuracy_low": level,
            "accuracy_high": level + 0.4,
            "gmacs": ratio,
            "latency_ms": 80 * ratio,
            "latency_iqr_ms": 2,
            "throughput": 800 / ratio,
            "n_images": 100,
            "batch_size": 64,
            "profile": "compact",
            "device": "cpu",
            "dtype": "float32",
            "split": "test",
            "commit": "abc",
            "timestamp": "t",
            "start": "random",
        }
        | others
        for ratio in RATIOS
    ]


@pytest.fixture
def frame():
    found = rows("asel", "learned", "paper", "aid_finetuned", 0.5)
    found += rows("asel", "random", "paper", "aid_finetuned", 0.1)
    found += rows("asel", "learned", "dropped", "aid_finetuned_dropped", 0.6)
    found += rows("agentvit", "agent", "agent", "aid_agentvit", 0.3)
    found += rows("agentvit", "random", "agent", "aid_agentvit", 0.2)
    found += rows("agentvit", "agent", "agent", "aid_agentvit_seed1", 0.4, seed=1)
    for policy, recipe, level in (("agent", "agent", 0.35), ("learned", "paper", 0.45), ("learned", "dropped", 0.55)):
        found += rows("line_guided", policy, recipe, f"aid_line_guided_{policy}_{recipe}", level)
    found += rows("line_guided", "line_guided:lines=xdog,choice=top", "dropped", "aid_line_guided_xdog_top", 0.9)
    found += rows("asel", "learned", "dropped", "aid_finetuned_dropped", 0.99, profile="demo")  # of another run
    return pd.DataFrame(found)


def drawn(figure):
    return {line.get_label(): line.get_xydata() for line in figure.axes[0].get_lines()}


def test_the_published_setting_sets_warmed_up_asel_against_agentvit(frame):
    lines = drawn(comparison.accuracy_keep(frame, "aid"))
    assert list(lines) == ["ASEL, paper", "ASEL, dropped", "AgentViT", "AgentViT, random patches"]
    np.testing.assert_allclose(lines["ASEL, dropped"], [[0.1, 62], [0.5, 70], [1, 80]])
    np.testing.assert_allclose(lines["AgentViT"], [[0.1, 37], [0.5, 45], [1, 55]])  # mean of two seeds


def test_the_equal_setting_takes_models_of_the_same_start(frame):
    lines = drawn(comparison.equal_setting(frame, "aid"))
    assert list(lines) == ["ASEL, paper", "ASEL, dropped", "AgentViT"]
    np.testing.assert_allclose(lines["AgentViT"], [[0.1, 37], [0.5, 45], [1, 55]])


def test_costs_are_those_measured(frame):
    np.testing.assert_allclose(drawn(comparison.gmacs(frame, "aid"))["AgentViT"], [[r, r] for r in RATIOS])
    throughput = drawn(comparison.accuracy_throughput(frame, "aid"))["ASEL, paper"]
    np.testing.assert_allclose(throughput, [[8000, 52], [1600, 60], [800, 70]])
    bars = comparison.latency_50(frame, "aid").axes[0].patches
    assert sorted(round(bar.get_height()) for bar in bars) == [40, 40, 40, 80, 80, 80]


def test_the_files_have_the_published_names_and_are_not_drawn_of_nothing(frame, tmp_path):
    files = comparison.all_figures(frame, "aid", tmp_path)
    assert {file.name for file in files if file.suffix == ".png"} == {
        "aid_asel_vs_agentvit_1_acc_keep.png",
        "aid_asel_vs_agentvit_2_acc_throughput.png",
        "aid_asel_vs_agentvit_3_gflops.png",
        "aid_asel_vs_agentvit_4_latency_50.png",
        "aid_asel_vs_agentvit_5_equal.png",
    }
    assert all(file.stat().st_size > (200 if file.suffix == ".csv" else 2000) for file in files)
    assert comparison.all_figures(frame[frame["method"] == "asel"], "aid", tmp_path) == []
    assert comparison.all_figures(frame, "rsscn7", tmp_path) == []
    alone = frame[frame["method"] != "line_guided"]
    assert not drawn(comparison.latency_50(alone, "aid")) and len(comparison.all_figures(alone, "aid", tmp_path)) == 15
    assert "no results of AgentViT" in comparison.equal_setting(alone, "aid").texts[0].get_text()


def test_the_table_says_seeds_images_and_intervals(frame):
    table = comparison.table(frame, "aid", (1.0, 0.5)).set_index("method")
    assert table.loc["AgentViT", "seeds"] == 2 and table.loc["ASEL, paper", "test images"] == 100
    assert table.loc["AgentViT", "at 0.5"] == "45.0 (40.0-50.0) ± 20.0"
    assert (
        table.loc["ASEL, dropped", "at 1"] == "80.0 ± 20.0" and table.loc["ASEL, paper", "ms at 1 / 0.5"] == "80 / 40"
    )
    assert comparison.table(frame, "rsscn7").empty


def record(
    name, stage, method, selector, recipe, start="random", seed=0, best=2, seconds=10.0, train=100, one_ratio=False
):
    history = [{"epoch": number, "seconds": seconds} for number in (1, 2, 3)]
    return {
        "name": name,
        "stage": stage,
        "method": method,
        "model": {"selector": selector},
        "recipe": recipe,
        "start": start,
        "seed": seed,
        "dataset": name.partition("_")[0],
        "profile": "compact",
        "settings": {"ratio_low": 0.2, "ratio_high": 0.2 if one_ratio else 0.7},
        "split": {"train": train},
        "history": history,
        "metrics": {"best_epoch": best, "epochs": 3, "val_accuracy": 0.5},
    }


def test_a_transfer_costs_its_warm_up_too():
    records = [
        record("cifar10_warmup", "warmup", "asel", "learned", "paper", train=1000, best=3),
        record("aid_finetuned", "finetuned", "asel", "learned", "paper", "cifar10_warmup from random"),
        record("aid_finetuned_dropped", "finetuned", "asel", "learned", "dropped", "cifar10_warmup from random"),
        record("aid_agentvit", "agentvit", "agentvit", "agent", "agent"),
        record("aid_agentvit_seed1", "agentvit", "agentvit", "agent", "agent", seed=1, best=3),
    ]
    records += [
        record("aid_line_guided_learned_keep0.3", "line_guided", "line_guided", "learned", "dropped", one_ratio=True),
        record("aid_line_guided_agent", "line_guided", "line_guided", "agent", "agent"),
        record("aid_line_guided_xdog_top", "line_guided", "line_guided", "line_guided:choice=top", "dropped"),
    ]
    table = comparison.training_cost(records)
    assert table.loc[table["setting"] == "equal", "method"].tolist() == ["AgentViT"]
    table = table[table["setting"] == "as published"].set_index("method")
    assert sorted(table.index) == ["ASEL, paper", "AgentViT"], "a transfer without its warm-up here is left out"
    assert table.loc["ASEL, paper", "images seen"] == 3200 and table.loc["ASEL, paper", "seconds"] == 50
    assert table.loc["ASEL, paper", "epochs"] == 6 and table.loc["ASEL, paper", "epochs to best"] == 5
    assert table.loc["AgentViT", "images seen"] == 250 and table.loc["AgentViT", "seeds"] == 2


def test_only_rows_measured_alike_are_drawn_together(frame):
    elsewhere = frame.assign(device="gpu", timestamp="s", accuracy=0.99)
    mixed = pd.concat([frame, elsewhere], ignore_index=True)
    for draw in (comparison.accuracy_keep, comparison.equal_setting):
        ours, theirs = drawn(draw(frame, "aid")), drawn(draw(mixed, "aid"))
        assert ours.keys() == theirs.keys()
        for label, line in ours.items():
            np.testing.assert_allclose(line, theirs[label])
        assert "gpu" not in draw(mixed, "aid").get_label()


def test_the_equal_setting_compares_common_seeds_from_one_start(frame):
    more = rows("line_guided", "agent", "agent", "aid_line_guided_agent_seed1", 0.0, seed=1)
    more += rows("line_guided", "learned", "paper", "aid_line_guided_learned_paper_imagenet", 0.0, start="imagenet")
    lines = drawn(comparison.equal_setting(pd.concat([frame, pd.DataFrame(more)], ignore_index=True), "aid"))
    for label, line in drawn(comparison.equal_setting(frame, "aid")).items():
        np.testing.assert_allclose(lines[label], line)
