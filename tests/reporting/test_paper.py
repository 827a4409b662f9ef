"""The papers' figures from a table of results alone: what they draw, where nothing was measured, what was published."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from asel_lib.identity import ModelKey
from asel_lib.methods import policy_label
from asel_lib.registry import FIGURES
from asel_lib.reporting import figures, paper_numbers, shown, style
from asel_lib.reporting.figures import paper
from tests.made_up import result

XDOG = "line_guided:lines=xdog,choice=sample"
ASEL, ANYTIME = policy_label("learned"), policy_label("glance")


@pytest.fixture
def frame():
    """Made-up rows of recipe `masked` and `anytime` on AID (the second with two seeds), and of AgentViT there."""
    rows = [
        result(
            ModelKey("aid", schedule, selector, recipe, seed=seed),
            ratio,
            policy,
            n_images=100,
            accuracy=0.5 + ratio / 4 + seed / 10,
            accuracy_low=0.4,
            accuracy_high=0.9,
            latency_ms=80 * ratio,
            latency_iqr_ms=2,
            throughput=800 / ratio,
        )
        for schedule, selector, recipe, policies, seeds in (
            ("published", "learned", "masked", ("learned", "random", "central"), (0,)),
            ("published", "glance", "anytime", ("glance", "random"), (0, 1)),
            ("agentvit", "agent", "agent", ("agent", "random"), (0,)),
            ("direct", XDOG, "dropped", (XDOG,), (0,)),
        )
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
    np.testing.assert_allclose(drawn(speed)[ASEL], [[800, 75], [1600, 62.5], [8000, 52.5]])
    np.testing.assert_allclose(drawn(ratio)["central"][:, 1], [52.5, 62.5, 75])
    np.testing.assert_allclose(drawn(ratio_any)[ANYTIME][:, 1], [57.5, 67.5, 80])  # mean of two seeds
    for axes in (ratio, ratio_any):
        np.testing.assert_allclose(drawn(axes)[f"{ASEL}, published"][0], [0.1, 64.3])
        np.testing.assert_allclose(drawn(axes)["central, published"][-1], [0.9, 91.3], atol=2)
    published = next(line for line in ratio.get_lines() if line.get_label() == f"{ASEL}, published")
    assert published.get_markerfacecolor() == "none" and published.get_alpha() < 1
    assert "recipe masked" in ratio.get_title() and "random weights" in ratio.get_title()
    assert not written(figure)


def test_a_panel_without_results_says_so_and_shows_what_was_published(frame):
    alone = frame[frame["recipe"] != "anytime"]
    figure = paper.dataset_figure(alone, "aid")
    assert written(figure) == ["no results of recipe anytime on aid in this table"] * 2
    empty = paper.dataset_figure(alone, "eurosat")
    assert len(written(empty)) == 4
    assert f"{ASEL}, published" in drawn(empty.axes[2])
    assert figure.rows["recipe"].unique().tolist() == ["masked"] and empty.rows.empty


def test_the_comparison_with_agentvit_has_its_four_parts(frame):
    figure = paper.against_agentvit(frame, "aid")
    assert len(figure.axes) == 8
    assert [axes.get_title()[:3] for axes in figure.axes[::2]] == ["(a)", "(b)", "(c)", "(d)"]
    np.testing.assert_allclose(drawn(figure.axes[6])[policy_label("agent")], [[0.1, 0.1], [0.5, 0.5], [1, 1]])
    assert ANYTIME in drawn(figure.axes[1])


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
    np.testing.assert_allclose(drawn(latency)[ASEL], [[0.1, 8], [0.5, 40], [1, 80]])
    np.testing.assert_allclose(drawn(gmacs)[ASEL][:, 1], [0.1, 0.5, 1])


NAMES = [name for name in FIGURES.names() if name.startswith(("paper_", "line_guided_"))]


def test_all_are_drawn_with_their_data_whatever_a_run_has(frame):
    assert len(NAMES) == 8
    files = figures.files(keys=[])
    for name in NAMES:
        assert [f"{name}.{end}" in files for end in ("png", "pdf", "csv")] == [
            True,
            True,
            name != "paper_1_architecture",
        ]


@pytest.mark.parametrize("name", ["paper_1_architecture", "paper_3_aid"])
def test_a_figure_is_saved_with_its_data_and_in_words(frame, tmp_path, name):
    figures.save(figures.draw(name, frame), tmp_path, name)
    with Image.open(tmp_path / f"{name}.png") as image:
        assert len(image.info["Alt"]) > 100 and np.asarray(image.convert("L")).std() > 5
    assert (tmp_path / f"{name}.pdf").is_file()
    assert (tmp_path / f"{name}.csv").is_file() == (name != "paper_1_architecture")
    if name == "paper_3_aid":
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
    log = paper_numbers.asel("rsscn7")
    assert paper_numbers.value(log, 0.7, policy="random") == pytest.approx(0.938)
    assert paper_numbers.value(log, 1.0, "throughput", policy="learned") == 9947
    assert paper_numbers.asel("synthetic").empty
    with pytest.raises(KeyError, match="0.15"):
        paper_numbers.value(log, 0.15, policy="learned")
    counted = paper_numbers.costs()
    assert paper_numbers.value(counted, 1.0, "gmacs", policy="learned") == 1.09
    assert set(paper_numbers.agentvit()["accuracy"].round(4)) == {0.7939, 0.7580, 0.7331}
    table = paper_numbers.line_guided()
    assert paper_numbers.value(table, 0.3, "gflops") / paper_numbers.value(table, 1.0, "gflops") < 0.32


def test_of_each_data_set_one_line_guided_confusion_and_one_of_anytime_are_shown():
    keys = [
        ModelKey.parse("aid_finetuned"),
        ModelKey("aid", "direct", "line_guided:lines=sobel,choice=top"),
        ModelKey("aid", "direct", XDOG),
        ModelKey.parse("aid_anytime"),
        ModelKey.parse("b_warmup"),
        ModelKey.parse("b_finetuned"),
    ]
    pairs = pd.DataFrame([key.columns() for key in keys])
    assert shown.confused(pairs) == [f"aid-direct-{XDOG.replace(':', ',')}-s0", "aid_anytime", "b_warmup"]
    assert shown.confused(pairs[:0]) == []


def test_of_each_data_set_a_sheet_by_lines_and_one_of_what_anytime_chooses():
    dropped = ModelKey("aid", "published", "learned")
    made = [
        ("aid_anytime", "glance"),
        ("aid_anytime", "line_guided"),
        (dropped, "line_guided"),
        (dropped, "learned"),
        (ModelKey("b", "published", "learned"), "line_guided"),
        (ModelKey("b", "direct", XDOG), XDOG),
        ("c_anytime", "line_guided"),
        ("c_anytime", "glance"),
    ]
    keys = [(ModelKey.parse(key) if isinstance(key, str) else key, policy) for key, policy in made]
    rows = pd.DataFrame([key.columns() | {"policy": policy} for key, policy in keys])
    sheets = {stem: part["policy"].tolist() for stem, part in shown.patch_sheets(rows)}
    assert sheets == {
        "aid-published-learned-s0_selection": ["line_guided"],
        "aid_anytime_own_selection": ["glance"],
        f"b-direct-{XDOG.replace(':', ',')}-s0_selection": [XDOG],
        "c_anytime_selection": ["line_guided"],
        "c_anytime_own_selection": ["glance"],
    }
    assert shown.patch_sheets(rows[:0]) == []
