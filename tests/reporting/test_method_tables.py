import pandas as pd
import pytest

from asel_lib.identity import ModelKey
from asel_lib.methods import LINE_GUIDED, method
from asel_lib.reporting import figures
from asel_lib.reporting import method_tables as methods
from asel_lib.reporting.figures.ablation import ablation
from asel_lib.reporting.figures.methods_tradeoff import tradeoffs
from tests.made_up import result

RATIOS = (0.1, 0.2, 0.5, 1.0)


def rows(selector, recipe, level, seed=0, cost=1.0, policy="", variant="", **others):
    key = ModelKey("aid", "direct", selector, recipe, variant, seed=seed)
    return [
        result(
            key,
            ratio,
            policy,
            accuracy=level + ratio / 10,
            accuracy_low=level + ratio / 10 - 0.02,
            accuracy_high=level + ratio / 10 + 0.02,
            gmacs=ratio**cost,
            throughput=800 / ratio,
            n_images=100,
            **others,
        )
        for ratio in RATIOS
    ]


@pytest.fixture
def frame():
    found = rows("glance", "anytime", 0.8) + rows("glance", "anytime", 0.82, seed=1)
    found += rows("glance", "anytime", 0.7, policy="random")  # random patches on the model of another selector
    found += rows("random", "anytime", 0.75)
    found += rows("glance", "anytime", 0.1, variant="wide")  # an ablation
    found += rows("random", "dropped", 0.78) + rows("learned", "masked", 0.5)
    found += rows("evit", "dropped", 0.9, cost=0.3)
    found += rows("line_guided:lines=xdog,choice=sample", "dropped", 0.74)
    found += rows("line_guided:lines=sobel,choice=top", "dropped", 0.99)
    found += rows("tome", "dropped", 0.99, device="gpu")  # measured elsewhere
    return pd.DataFrame(found)


OURS, EVIT = (method(*pair).label for pair in (("glance", "anytime"), ("evit", "dropped")))


def test_each_method_is_shown_by_the_models_trained_with_it_and_measured_alike(frame):
    found = methods.found(frame, "aid")
    starts = {one.text: part["accuracy"].iloc[0] for one, part in found.items()}
    assert starts == pytest.approx(
        {
            "glance/anytime": 0.82,
            "random/anytime": 0.76,
            "random": 0.79,
            "learned/masked": 0.51,
            "evit": 0.91,
            LINE_GUIDED: 0.75,
        }
    )
    without = methods.found(frame[(frame["recipe"] != "anytime") & (frame["device"] != "gpu")], "aid")
    assert {one.text for one in without} == {"evit", "learned/masked", LINE_GUIDED, "random"}


def test_the_figure_draws_every_method_against_both_costs(frame):
    figure = tradeoffs(frame, "aid")
    found = {one.label: part for one, part in methods.found(frame, "aid").items()}
    for axes, x in zip(figure.axes, ("gmacs", "throughput"), strict=True):
        lines = {line.get_label(): line.get_xydata() for line in axes.get_lines()}
        assert lines.keys() == found.keys()
        row = found[EVIT].iloc[1]
        assert lines[EVIT][1] == pytest.approx([row[x], 100 * row["accuracy"]])
        assert len(axes.collections) == len(lines)  # bands
    made = [name for name in figures.files(keys=figures.keys_of(frame)) if "7_methods" in name]
    assert made == ["aid_7_methods.png", "aid_7_methods.pdf", "aid_7_methods.csv"]
    others = figures.keys_of(frame[frame["selector"] == "evit"])  # a method alone is no comparison
    assert not any("7_methods" in name for name in figures.files(keys=others))
    assert "no results" in tradeoffs(frame, "rsscn7").get_label()


def test_a_selector_and_a_recipe_that_nobody_listed_stand_beside_the_others(frame):
    more = rows("mine", "strange", 0.6) + rows("glance", "strange", 0.61)
    every = pd.concat([frame, pd.DataFrame(more)], ignore_index=True)
    added = {method("mine", "strange").label, method("glance", "strange").label}
    lines = {line.get_label() for line in tradeoffs(every, "aid").axes[0].get_lines()}
    assert added <= lines and added <= set(methods.table(every, "aid")["method"])
    assert tradeoffs(every, "aid").rows["selector"].eq("mine").any()


def test_the_table_and_the_advice_follow_from_the_rows(frame):
    table = methods.table(frame, "aid").set_index("method")
    assert table.loc[OURS, "at 0.2"] == "83.0 (82.0-84.0) ± 2.0" and table.loc[OURS, "seeds"] == 2
    assert table.loc[EVIT, "at 0.3"] == "-"
    advice = methods.advice(frame, "aid", budgets=(0.05, 0.2, 0.55, 1.0))
    assert advice["operations"].tolist() == ["up to 20%", "up to 55%", "up to 100%"]  # nothing costs only 5 %
    assert advice["best"].tolist() == [OURS, EVIT, EVIT]  # EViT's cheapest costs half
    assert advice["random in its interval"].tolist() == ["no", "no", "no"]
    fast = methods.advice(frame, "aid", by="speed", budgets=(11, 3, 1))  # ten times at a tenth
    assert fast["speed"].tolist() == ["at least 3x", "at least 1x"]
    assert fast["keep ratio"].tolist() == [0.33, 1.0] and fast["best"].tolist() == [EVIT, EVIT]
    assert fast["accuracy"].tolist() == ["93.3 (91.3-95.3)", "100.0 (98.0-102.0)"]  # a third of the way from 0.2 to 0.5
    assert fast["random"].tolist() == ["81.3", "88.0"] and fast["seeds"].tolist() == [1, 1]
    dear = methods.advice(frame, "aid", budgets=(0.3,))  # EViT costs more at every ratio
    assert dear["best"].tolist() == [OURS] and dear["keep ratio"].tolist() == [0.3]
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
    figure = ablation(gaps, "aid")
    assert [cell.get_title() for cell in figure.axes] == ["at 0.1", "at 0.5"]
    points, (left, right), _ = figure.axes[0].containers[0].lines[:3]
    assert points.get_xdata() == pytest.approx([-5, 1]) and list(points.get_ydata()) == ["one", "two"]
    assert left.get_xdata() == pytest.approx([-7, -1]) and right.get_xdata() == pytest.approx([-2, 4])
    assert figure.rows is gaps and "40 images" in figure.get_label()
    assert "no ablation of aid" in ablation(pd.DataFrame(), "aid").get_label()


def test_models_of_random_patches_are_shown_with_the_even_layout_too_and_need_no_anytime(frame):
    both = rows("random", "dropped", 0.78) + rows("random", "dropped", 0.8, policy="even")
    table = methods.table(pd.DataFrame(both), "aid").set_index("method")
    assert table.index.tolist() == ["random", "random, asked with the even layout"]
    assert table.loc["random, asked with the even layout", "at 0.1"].startswith("81.0")
    best = methods.advice(pd.DataFrame(both), "aid", budgets=[0.5]).iloc[0]
    assert best["best"] == "random, asked with the even layout" and best["random"] == "83.0"
    assert methods.found(frame[frame["dataset"] == "other"], "aid") == {}
