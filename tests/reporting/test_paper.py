"""The papers' figures from a table of results alone: what they draw, where nothing was measured, what was published."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from asel_lib.reporting import paper, published_values, style, tables


@pytest.fixture
def frame():
    """Made-up rows of recipe `paper` and `anytime` on AID (the second with two seeds), and of AgentViT there."""
    rows = []
    for method, recipe, policies, checkpoint, seeds in (
        ("asel", "paper", ("learned", "random", "central"), "aid_finetuned", (0,)),
        ("asel", "anytime", ("glance", "random"), "aid_anytime", (0, 1)),
        ("agentvit", "agent", ("agent", "random"), "aid_agentvit", (0,)),
        ("line_guided", "dropped", ("line_guided:lines=xdog,choice=sample",), "aid_line_guided_xdog_sample", (0,)),
    ):
        rows += [
            dict.fromkeys(tables.COLUMNS, 0)
            | {
                "dataset": "aid",
                "method": method,
                "recipe": recipe,
                "policy": policy,
                "seed": seed,
                "start": "random",
                "checkpoint": f"{checkpoint}_seed{seed}" if seed else checkpoint,
                "keep_ratio": ratio,
                "n_images": 100,
                "accuracy": 0.5 + ratio / 4 + seed / 10,
                "accuracy_low": 0.4,
                "accuracy_high": 0.9,
                "gmacs": ratio,
                "latency_ms": 80 * ratio,
                "latency_iqr_ms": 2,
                "throughput": 800 / ratio,
                "batch_size": 64,
                "profile": "compact",
                "device": "cpu",
                "dtype": "float32",
                "split": "test",
                "commit": "abc",
                "timestamp": "t",
            }
            for policy in policies
            for seed in seeds
            for ratio in (0.1, 0.5, 1.0)
        ]
    return pd.DataFrame(rows)


def drawn(axes):
    return {line.get_label(): line.get_xydata() for line in axes.get_lines()}


def written(figure):
    return [text.get_text().replace("\n", " ") for axes in figure.axes for text in axes.texts]


def test_both_recipes_stand_side_by_side_with_what_was_published(frame):
    figure = paper.dataset_figure(frame, "aid")
    speed, speed_any, ratio, ratio_any = figure.axes
    np.testing.assert_allclose(drawn(speed)["learned"], [[800, 75], [1600, 62.5], [8000, 52.5]])
    np.testing.assert_allclose(drawn(ratio)["central"][:, 1], [52.5, 62.5, 75])
    np.testing.assert_allclose(drawn(ratio_any)["glance"][:, 1], [57.5, 67.5, 80])  # mean of two seeds
    for axes in (ratio, ratio_any):
        np.testing.assert_allclose(drawn(axes)["learned, published"][0], [0.1, 64.3])
        np.testing.assert_allclose(drawn(axes)["central, published"][-1], [0.9, 91.3], atol=2)
    published = next(line for line in ratio.get_lines() if line.get_label() == "learned, published")
    assert published.get_markerfacecolor() == "none" and published.get_alpha() < 1
    assert "recipe paper" in ratio.get_title() and "random weights" in ratio.get_title()
    assert not written(figure)


def test_a_panel_without_results_says_so_and_shows_what_was_published(frame):
    alone = frame[frame["recipe"] != "anytime"]
    figure = paper.dataset_figure(alone, "aid")
    assert written(figure) == ["no results of recipe anytime on aid in this table"] * 2
    empty = paper.dataset_figure(alone, "eurosat")
    assert len(written(empty)) == 4
    assert "learned, published" in drawn(empty.axes[2])
    assert figure.rows["recipe"].unique().tolist() == ["paper"] and empty.rows.empty


def test_the_comparison_with_agentvit_has_its_four_parts(frame):
    figure = paper.against_agentvit(frame, "aid")
    assert len(figure.axes) == 8
    assert [axes.get_title()[:3] for axes in figure.axes[::2]] == ["(a)", "(b)", "(c)", "(d)"]
    np.testing.assert_allclose(drawn(figure.axes[6])["AgentViT"], [[0.1, 0.1], [0.5, 0.5], [1, 1]])
    assert "anytime" in drawn(figure.axes[1])


def test_what_was_published_stands_in_every_part_of_the_comparison_that_has_it(frame):
    accuracy, pareto, latency, gmacs = (drawn(axes) for axes in paper.against_agentvit(frame, "aid").axes[::2])
    np.testing.assert_allclose(accuracy["AgentViT, published"][1], [0.2, 58.2])
    np.testing.assert_allclose(pareto["ASEL, published"][-1], [9994, 97.3])
    np.testing.assert_allclose(latency["ASEL, published"][-1], [1, 64e3 / 9994])
    np.testing.assert_allclose(gmacs["ASEL, published"], [[1, 1.09]])
    np.testing.assert_allclose(gmacs["AgentViT, published"][:, 1], 1.1 * gmacs["AgentViT, published"][:, 0])
    assert "AgentViT, published" not in pareto and "AgentViT, published" not in latency, "it was not published"


@pytest.mark.parametrize("draw", [paper.costs, paper.against_agentvit])
def test_published_costs_leave_ours_room_to_be_read(frame, draw):
    figure = draw(frame.assign(gmacs=frame["gmacs"] * 0.19), "aid")
    assert [axes.get_xlabel() for axes in figure.axes].count("throughput (img/s)") == (
        draw is paper.against_agentvit
    ) * 2
    assert all(axes.get_xlabel() for axes in figure.axes)
    costs = [axes for axes in figure.axes if "accuracy" not in axes.get_ylabel()]
    for axes in costs:
        assert axes.get_yscale() == "log"
        low, high = np.log(axes.get_ylim())
        ours = next(line for line in axes.get_lines() if "published" not in line.get_label()).get_ydata()
        assert np.ptp(np.log(ours)) > 0.25 * (high - low)
        assert any("published" in line.get_label() for line in axes.get_lines())
    assert "logarithmic" in figure.get_supxlabel()


def test_cost_is_drawn_as_latency_and_as_gmacs(frame):
    latency, _, gmacs, _ = paper.costs(frame, "aid").axes
    np.testing.assert_allclose(drawn(latency)["learned"], [[0.1, 8], [0.5, 40], [1, 80]])
    np.testing.assert_allclose(drawn(gmacs)["learned"][:, 1], [0.1, 0.5, 1])


def test_all_are_saved_with_their_data_and_in_words(frame, tmp_path):
    files = paper.all_figures(frame, tmp_path)
    assert {file.stem for file in files} == set(paper.FIGURES)
    for name in paper.FIGURES:
        with Image.open(tmp_path / f"{name}.png") as image:
            assert len(image.info["Alt"]) > 100 and np.asarray(image.convert("L")).std() > 5
        assert (tmp_path / f"{name}.pdf").is_file()
        assert (tmp_path / f"{name}.csv").is_file() == (name != "paper_1_architecture")
    rows = pd.read_csv(tmp_path / "paper_3_aid.csv")
    assert {"policy", "keep_ratio", "accuracy", "throughput"} <= set(rows) and len(rows) == 15


def test_a_figure_in_words_names_each_line_and_its_ends(frame):
    said = style.describe(paper.costs(frame, "aid"))
    assert "cost of an image (GMACs) against keep ratio" in said
    assert "central: 0.1 at 0.1 to 1 at 1" in said


def test_no_two_lines_of_a_panel_look_alike_in_grey(frame):
    for figure in (paper.dataset_figure(frame, "aid"), paper.against_agentvit(frame, "aid"), paper.costs(frame, "aid")):
        for axes in figure.axes:
            looks = [(line.get_marker(), line.get_markerfacecolor() == "none") for line in axes.get_lines()]
            assert len(set(looks)) == len(looks)


def test_what_was_published_is_read_as_it_was_logged():
    log = published_values.asel("rsscn7")
    assert published_values.value(log, 0.7, policy="random") == pytest.approx(0.938)
    assert published_values.value(log, 1.0, "throughput", policy="learned") == 9947
    assert published_values.asel("synthetic").empty
    with pytest.raises(KeyError, match="0.15"):
        published_values.value(log, 0.15, policy="learned")
    counted = published_values.costs()
    assert published_values.value(counted, 1.0, "gmacs", method="ASEL") == 1.09
    assert set(published_values.agentvit()["accuracy"].round(4)) == {0.7939, 0.7580, 0.7331}
    table = published_values.line_guided()
    assert published_values.value(table, 0.3, "gflops") / published_values.value(table, 1.0, "gflops") < 0.32


def test_of_each_data_set_one_line_guided_confusion_and_one_of_anytime_are_shown():
    names = {
        "aid": ["aid_finetuned", "aid_line_guided_sobel_top", "aid_line_guided_xdog_sample", "aid_anytime"],
        "b": ["b_warmup", "b_finetuned"],
    }
    pairs = pd.DataFrame([{"dataset": d, "checkpoint": n} for d, each in names.items() for n in each])
    assert paper.confused(pairs) == ["aid_line_guided_xdog_sample", "aid_anytime", "b_warmup"]
    assert paper.confused(pairs[:0]) == []


def test_of_each_data_set_a_sheet_by_lines_and_one_of_what_anytime_chooses():
    lines = "line_guided:lines=xdog,choice=sample"
    made = [
        ("aid", "aid_anytime", "anytime", "glance"),
        ("aid", "aid_anytime", "anytime", "line_guided"),
        ("aid", "aid_finetuned_dropped", "dropped", "line_guided"),
        ("aid", "aid_finetuned_dropped", "dropped", "learned"),
        ("b", "b_finetuned_dropped", "dropped", "line_guided"),
        ("b", "b_line_guided_xdog_sample", "dropped", lines),
        ("c", "c_anytime", "anytime", "line_guided"),
        ("c", "c_anytime", "anytime", "glance"),
    ]
    rows = pd.DataFrame(made, columns=["dataset", "checkpoint", "recipe", "policy"])
    shown = {stem: part["policy"].tolist() for stem, part in paper.patch_sheets(rows)}
    assert shown == {
        "aid_finetuned_dropped_selection": ["line_guided"],
        "aid_anytime_own_selection": ["glance"],
        "b_line_guided_xdog_sample_selection": [lines],
        "c_anytime_selection": ["line_guided"],
        "c_anytime_own_selection": ["glance"],
    }
    assert paper.patch_sheets(rows[:0]) == []
