import pandas as pd
import pytest

from asel_lib.reporting import methods, tables

RATIOS = (0.1, 0.2, 0.5, 1.0)


def rows(policy, recipe, written, level, seed=0, cost=1.0, **others):
    name = f"aid_line_guided_{written}" + (f"_seed{seed}" if seed else "")
    return [
        dict.fromkeys(tables.COLUMNS, 0)
        | {
            "dataset": "aid",
            "method": "line_guided",
            "policy": policy,
            "recipe": recipe,
            "checkpoint": name,
            "seed": seed,
            "keep_ratio": ratio,
            "accuracy": level + ratio / 10,
            "accuracy_low": level + ratio / 10 - 0.02,
            "accuracy_high": level + ratio / 10 + 0.02,
            "gmacs": ratio**cost,
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
    found = rows("glance", "anytime", "glance_anytime", 0.8) + rows("glance", "anytime", "glance_anytime", 0.82, seed=1)
    found += rows("random", "anytime", "glance_anytime", 0.7)  # random patches on the model of another selector
    found += rows("random", "anytime", "random_anytime", 0.75)
    found += rows("glance", "anytime", "glance_anytime_wide", 0.1)  # an ablation
    found += rows("random", "dropped", "random", 0.78) + rows("learned", "paper", "learned_paper", 0.5)
    found += rows("evit", "dropped", "evit", 0.9, cost=0.3)
    found += rows("line_guided:lines=xdog,choice=sample", "dropped", "xdog_sample", 0.74)
    found += rows("line_guided:lines=sobel,choice=top", "dropped", "sobel_top", 0.99)
    found += rows("tome", "dropped", "tome", 0.99, device="gpu")  # measured elsewhere
    return pd.DataFrame(found)


def test_each_method_is_shown_by_the_models_trained_with_it_and_measured_alike(frame):
    found = methods.found(frame, "aid")
    starts = {label: part["accuracy"].iloc[0] for label, part in found.items()}
    assert starts == pytest.approx(
        {
            "anytime": 0.82,
            "anytime, random patches": 0.76,
            "random (PatchDropout)": 0.79,
            "ASEL, paper": 0.51,
            "line-guided": 0.75,
            "EViT": 0.91,
        }
    )
    assert methods.found(frame[frame["recipe"] != "anytime"], "aid") == {}


def test_the_figure_draws_every_method_against_both_costs(frame, tmp_path):
    figure = methods.tradeoffs(frame, "aid")
    for axes, x in zip(figure.axes, ("gmacs", "throughput"), strict=True):
        lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
        assert lines.keys() == methods.found(frame, "aid").keys()
        row = methods.found(frame, "aid")["EViT"].iloc[1]
        assert lines["EViT"][1] == pytest.approx([row[x], 100 * row["accuracy"]])
        assert len(axes.collections) == len(lines)  # bands
    files = methods.all_figures(frame, "aid", tmp_path)
    assert [file.name for file in files] == ["aid_7_methods.png", "aid_7_methods.pdf", "aid_7_methods.csv"]
    assert methods.all_figures(frame, "rsscn7", tmp_path) == []
    assert "no results" in methods.tradeoffs(frame, "rsscn7").get_label()


def test_every_look_is_another(frame):
    looks = [(color, marker) for _, color, marker, _ in methods.METHODS.values()]
    assert len(set(looks)) == len(looks) and len({color for color, _ in looks}) == len(looks)


def test_the_table_and_the_advice_follow_from_the_rows(frame):
    table = methods.table(frame, "aid").set_index("method")
    assert table.loc["anytime", "at 0.2"] == "83.0 (82.0-84.0) ± 2.0" and table.loc["anytime", "seeds"] == 2
    assert table.loc["EViT", "at 0.3"] == "-"
    advice = methods.advice(frame, "aid", budgets=(0.05, 0.2, 0.55, 1.0))
    assert advice["operations"].tolist() == ["up to 20%", "up to 55%", "up to 100%"]  # nothing costs only 5 %
    assert advice["best"].tolist() == ["anytime", "EViT", "EViT"]  # EViT's cheapest costs half
    assert advice["random in its interval"].tolist() == ["no", "no", "no"]
    fast = methods.advice(frame, "aid", by="speed", budgets=(11, 3, 1))  # ten times at a tenth
    assert fast["speed"].tolist() == ["at least 3x", "at least 1x"]
    assert fast["keep ratio"].tolist() == [0.33, 1.0] and fast["best"].tolist() == ["EViT", "EViT"]
    assert fast["accuracy"].tolist() == ["93.3 (91.3-95.3)", "100.0 (98.0-102.0)"]  # a third of the way from 0.2 to 0.5
    assert fast["random"].tolist() == ["81.3", "88.0"] and fast["seeds"].tolist() == [1, 1]
    dear = methods.advice(frame, "aid", budgets=(0.3,))  # EViT costs more at every ratio
    assert dear["best"].tolist() == ["anytime"] and dear["keep ratio"].tolist() == [0.3]
    assert dear["accuracy"].tolist() == ["84.0 (82.0-86.0)"]
    assert methods.advice(frame.assign(throughput=800), "aid", by="speed").empty  # nothing gains time
    with pytest.raises(ValueError, match="unknown budget 'price'"):
        methods.advice(frame, "aid", by="price")
    unmatched = frame[~frame["policy"].isin(["random"])]
    assert methods.advice(unmatched, "aid", budgets=(0.2,))["random in its interval"].tolist() == ["-"]
    near = frame.assign(accuracy_low=frame["accuracy"] - 0.2)
    assert methods.advice(near, "aid", budgets=(0.2,))["random in its interval"].tolist() == ["yes"]


def test_the_ablation_draws_each_difference_with_its_interval():
    ratios = [0.1, 0.5]
    gaps = pd.DataFrame(
        {
            "keep_ratio": ratio,
            "difference": gap,
            "low": gap - 0.02,
            "high": gap + 0.03,
            "n_images": 40,
            "seeds": 3,
            "their_seeds": 3,
            "label": label,
        }
        for label, gap in (("one", -0.05), ("two", 0.01))
        for ratio in ratios
    )
    figure = methods.ablation(gaps, "aid")
    assert [cell.get_title() for cell in figure.axes] == ["at 0.1", "at 0.5"]
    points, (left, right), _ = figure.axes[0].containers[0].lines[:3]
    assert points.get_xdata() == pytest.approx([-5, 1]) and list(points.get_ydata()) == ["one", "two"]
    assert left.get_xdata() == pytest.approx([-7, -1]) and right.get_xdata() == pytest.approx([-2, 4])
    assert figure.rows is gaps and "40 images" in figure.get_label()
    assert "no ablation of aid" in methods.ablation(pd.DataFrame(), "aid").get_label()
