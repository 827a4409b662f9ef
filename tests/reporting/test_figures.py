import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from asel_lib.data.batches import transform
from asel_lib.reporting import figures, sheets, tables


@pytest.fixture
def frame():
    rows = [
        dict.fromkeys(tables.COLUMNS, 0)
        | {"dataset": "aid", "policy": policy, "recipe": recipe, "keep_ratio": ratio,
           "accuracy": 0.4 + ratio / 2 + n / 20,
           "accuracy_low": 0.3 + ratio / 2, "accuracy_high": 0.6 + ratio / 2,
           "gmacs": ratio, "selector_gmacs": 0.02,
           "latency_ms": 80 * ratio, "latency_iqr_ms": 2, "throughput": 800 / ratio, "n_images": 100, "batch_size": 64,
           "device": "cpu", "dtype": "float32", "split": "test", "commit": "abc", "timestamp": "t"}
        for recipe in ("paper", "dropped") for n, policy in enumerate(("learned", "random", "central"))
        for ratio in (0.1, 0.5, 1.0)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}


def test_strategies_draws_the_accuracy_of_each_policy_in_a_panel_a_recipe(frame):
    panels = figures.strategies(frame, "aid").axes
    assert len(panels) == 2
    for panel in panels:
        drawn = lines(panel)
        np.testing.assert_allclose(drawn["random"], [[0.1, 50], [0.5, 70], [1.0, 95]])
        assert {"learned", "random", "central"} <= drawn.keys()
    assert panels[0].get_ylabel() == "top-1 accuracy (%)"


@pytest.mark.parametrize(("draw", "column"), [(figures.gmacs, "gmacs"), (figures.latency, "latency_ms")])
def test_costs_are_drawn_against_the_keep_ratio(frame, draw, column):
    drawn = lines(draw(frame, "aid").axes[0])["central"]
    rows = frame[(frame["recipe"] == "dropped") & (frame["policy"] == "central")]
    np.testing.assert_allclose(drawn, rows[["keep_ratio", column]].to_numpy())
    low, high = draw(frame.assign(**{column: frame.index}), "aid").axes[0].get_ylim()
    assert low == 0 and high >= frame.index.max()  # every line is inside, whichever is drawn last


def test_throughput_is_drawn_against_accuracy(frame):
    drawn = lines(figures.throughput(frame, "aid").axes[0])["learned"]
    np.testing.assert_allclose(drawn, [[8000, 45], [1600, 65], [800, 90]])


def test_a_data_set_without_results_says_so_in_the_figures_place(frame):
    figure = figures.strategies(frame, "eurosat")
    assert not figure.axes
    assert figure.texts[0].get_text() == "no results for eurosat"


def test_the_four_figures_are_saved_under_their_published_names(frame, tmp_path):
    paths = figures.all_figures(frame, "aid", tmp_path)
    names = [
        f"aid_{n}.{kind}" for n in ("1_strategies", "2_throughput", "3_gflops", "4_latency") for kind in ("png", "pdf")
    ]
    assert sorted(path.name for path in paths) == sorted(names) == sorted(p.name for p in tmp_path.iterdir())
    for path in paths:
        if path.suffix == ".png":
            image = Image.open(path)
            assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
            assert np.asarray(image.convert("L")).std() > 10
    before = paths[0].read_bytes()
    figures.all_figures(frame, "aid", tmp_path)
    assert paths[0].read_bytes() == before


def test_the_sheet_greys_the_dropped_patches_and_them_alone(tiny):
    model, pixels = tiny(), np.full((2, 32, 32, 3), (200, 30, 30), np.uint8)
    images = torch.randn(2, 3, 32, 32)
    sheet = sheets.kept_patches_sheet(model, images, pixels, [0, 1], "abcd", ratios=(1.0, 0.25), policy="central")
    full, few = (sheet.axes[i].get_images()[0].get_array() for i in (0, 2))
    assert (full == pixels[0]).all()
    untouched = (few == pixels[0]).all(-1)
    assert untouched[8:24, 8:24].all()
    assert untouched.mean() == 0.25
    assert sheet.axes[0].get_title()[0] in "✓✗"


def test_own_images_are_shown_without_a_verdict(tiny):
    model = tiny()
    model.classes, model.transform = tuple("abcd"), transform(32, (0.5,) * 3, (0.5,) * 3)
    model.record = {"transform": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}}
    sheet = sheets.predictions_sheet(model, [Image.new("RGB", (60, 40), "red")], ratios=(1.0, 0.5))
    assert sheet.axes[0].get_title() in "abcd"
    assert sheet.axes[0].get_images()[0].get_array()[0, 0].tolist() == [255, 0, 0]


def test_history_and_data_sheet_take_what_there_is():
    history = figures.history(pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "val_accuracy": [0.5, 0.7]}))
    assert [axes.get_ylabel() for axes in history.axes] == ["loss", "top-1 accuracy (%)"]
    sheet = sheets.data_sheet(np.zeros((9, 8, 8, 3), np.uint8), [0] * 8 + [1], ["a", "b"], 3)
    assert [axes.get_title() for axes in sheet.axes if axes.get_visible()] == ["a", "b", "a"]
