import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from asel_lib import tables
from asel_lib.data.batches import transform
from asel_lib.evaluation.accuracy import confusion
from asel_lib.identity import ModelKey
from asel_lib.methods import LINE_GUIDED, policy_label
from asel_lib.registry import FIGURES
from asel_lib.reporting import figures, style
from asel_lib.reporting.confusion import confusion_matrices
from asel_lib.reporting.figures import policies
from asel_lib.reporting.figures.scaling import gmacs_scaling
from asel_lib.reporting.figures.tradeoff import tradeoff
from asel_lib.reporting.figures.training import history
from asel_lib.viewer import sheets
from tests.made_up import result


@pytest.fixture
def frame():
    rows = [
        result(
            ModelKey("aid", "published", "learned", recipe),
            ratio,
            policy,
            accuracy=0.4 + ratio / 2 + n / 20,
            accuracy_low=0.3 + ratio / 2,
            accuracy_high=0.6 + ratio / 2,
            selector_gmacs=0.02,
            latency_ms=80 * ratio,
            latency_iqr_ms=2,
            throughput=800 / ratio,
            n_images=100,
        )
        for recipe in ("masked", "dropped")
        for n, policy in enumerate(("learned", "random", "central"))
        for ratio in (0.1, 0.5, 1.0)
    ]
    return pd.DataFrame(rows)


ASEL = policy_label("learned")


def lines(axes):
    return {line.get_label(): line.get_xydata().tolist() for line in axes.get_lines()}


def test_strategies_draws_the_accuracy_of_each_policy_in_a_panel_a_recipe(frame):
    panels = policies.strategies(frame, "aid").axes
    assert len(panels) == 2
    for panel in panels:
        drawn = lines(panel)
        np.testing.assert_allclose(drawn["random"], [[0.1, 50], [0.5, 70], [1.0, 95]])
        assert {ASEL, "random", "central"} <= drawn.keys()
    assert panels[0].get_ylabel() == "top-1 accuracy (%)"


@pytest.mark.parametrize(("draw", "column"), [(policies.gmacs, "gmacs"), (policies.latency, "latency_ms")])
def test_costs_are_drawn_against_the_keep_ratio(frame, draw, column):
    drawn = lines(draw(frame, "aid").axes[0])["central"]
    rows = frame[(frame["recipe"] == "dropped") & (frame["policy"] == "central")]
    np.testing.assert_allclose(drawn, rows[["keep_ratio", column]].to_numpy())
    low, high = draw(frame.assign(**{column: frame.index}), "aid").axes[0].get_ylim()
    assert low == 0 and high >= frame.index.max()  # every line is inside, whichever is drawn last


def test_throughput_is_drawn_against_accuracy(frame):
    drawn = lines(policies.throughput(frame, "aid").axes[0])[ASEL]
    np.testing.assert_allclose(drawn, [[8000, 45], [1600, 65], [800, 90]])


def test_accuracy_is_drawn_against_what_an_image_costs(frame):
    drawn = lines(policies.accuracy_vs_gmacs(frame.assign(gmacs=frame["keep_ratio"] * 2), "aid").axes[0])[ASEL]
    np.testing.assert_allclose(drawn, [[0.2, 45], [1.0, 65], [2.0, 90]])


def guided(frame):
    """The frame's rows, and those of three seeds of two line-guided trainings and of random beside them."""
    rows = frame[(frame["recipe"] == "dropped") & (frame["policy"] == "random")]
    names = ("line_guided:lines=xdog,choice=top", "line_guided:lines=sobel,choice=top", "random")
    return pd.concat(
        [frame]
        + [
            rows.assign(
                **ModelKey("aid", "direct", name, seed=seed).columns(),
                policy=name,
                accuracy=rows["accuracy"] + n / 10 + (seed - 1) / 100,
            )
            for n, name in enumerate(names)
            for seed in range(3)
        ]
    )


def test_the_tradeoff_sets_the_line_guided_models_against_random(frame):
    figure = tradeoff(guided(frame), "aid")
    assert len(figure.axes) == 2
    names = {"line-guided (xdog, top)", "line-guided (sobel, top)", "random"}
    for axes, x in zip(figure.axes, ([0.1, 0.5, 1.0], [0.1, 0.5, 1.0]), strict=True):
        drawn = lines(axes)
        assert {label for label in drawn if not label.startswith("_")} == names
        np.testing.assert_allclose(drawn["random"], np.transpose([x, [70, 90, 115]]))
    assert "mean of 3 seeds" in figure.axes[0].get_title()
    assert len(tradeoff(frame, "aid").axes) == 2  # where there is no line-guided training
    assert not tradeoff(frame, "eurosat").axes


def test_each_panel_can_be_read_by_itself(frame):
    panels = policies.strategies(guided(frame), "aid").axes
    assert len(panels) == 3
    assert [panel.get_xlabel() for panel in panels] == ["", "keep ratio", "keep ratio"]  # the second has none below it
    for panel in panels:
        if panel.get_xlabel():
            assert all(tick.label1.get_visible() for tick in panel.xaxis.get_major_ticks())
    legends = [{text.get_text() for text in panel.get_legend().texts} for panel in panels if panel.get_legend()]
    assert len(legends) == 2 and "line-guided (xdog, top)" in legends[0]


def test_lines_of_more_policies_than_styles_are_still_told_apart(frame):
    drawn = tradeoff(guided(frame), "aid").axes[0].get_lines()
    looks = {(line.get_color(), line.get_marker()) for line in drawn if not line.get_label().startswith("_")}
    assert len(looks) == 3


@pytest.mark.parametrize(
    ("policy", "label"),
    [("mine", "mine"), ("line_guided:lines=xdog,choice=top,sigma=0.3", "line-guided (xdog, top, 0.3)")],
)
def test_policies_are_named_for_a_reader(policy, label):
    assert policy_label(policy) == label


def test_scaling_is_drawn_as_a_share_of_all_patches():
    table = pd.DataFrame({"architecture": ["a", "a", "b", "b"], "keep_ratio": [0.5, 1.0] * 2, "gmacs": [1, 4, 30, 60]})
    figure = gmacs_scaling(table)
    drawn = lines(figure.axes[0])
    np.testing.assert_allclose(drawn["a, formula (1: 4 GMACs)"], [[0.5, 25], [1, 100]])
    np.testing.assert_allclose(drawn["b, formula (1: 60 GMACs)"], [[0.5, 50], [1, 100]])


def test_scaling_shows_what_was_counted_and_what_was_published_beside_the_formula(frame):
    table = pd.DataFrame({"architecture": "a", "keep_ratio": [0.5, 1.0], "gmacs": [1, 4]})
    compact = frame.assign(profile="compact", gmacs=2 * frame["keep_ratio"] ** 2)
    guided = compact.assign(policy=LINE_GUIDED, gmacs=frame["keep_ratio"] * 3)
    without = frame[frame["keep_ratio"] < 1].assign(profile="smoke")  # not counted at 1: no share to draw
    figure = gmacs_scaling(table, pd.concat([compact, guided, frame.assign(profile="demo"), without]))
    drawn, marks = lines(figure.axes[0]), {line.get_label(): line for line in figure.axes[0].get_lines()}
    np.testing.assert_allclose(
        drawn["counted: profile compact, line-guided (xdog, sample) (1: 3 GMACs)"], [[0.1, 10], [0.5, 50], [1, 100]]
    )
    assert "counted: profile demo, random (1: 1 GMACs)" in drawn and not any("smoke" in label for label in drawn)
    (label,) = (label for label in drawn if label.startswith("published"))
    np.testing.assert_allclose(sorted(drawn[label]), [[0.3, 100 * 0.448 / 1.408], [1, 100]])
    assert marks[label].get_markerfacecolor() == "none" and "attention not counted" in label
    looks = {(line.get_marker(), line.get_linestyle(), line.get_color()) for line in marks.values()}
    assert len(looks) == len(marks)
    assert set(figure.rows) == {"series", "keep_ratio", "gmacs", "share"} and len(figure.rows) == 2 + 3 + 3 + 2


def test_a_data_set_without_results_says_so_in_the_figures_place(frame):
    figure = policies.strategies(frame, "eurosat")
    assert not figure.axes
    assert figure.texts[0].get_text() == "no results for eurosat"


PUBLISHED = ("1_strategies", "2_throughput", "3_gflops", "4_latency", "5_accuracy_vs_gflops", "6_combined_tradeoff")


def test_the_figures_are_saved_under_their_published_names_and_the_same_rows_make_the_same_files(frame, tmp_path):
    paths = figures.save(policies.strategies(frame, "aid"), tmp_path, FIGURES["1_strategies"].stem("aid"))
    assert [path.name for path in paths] == [f"aid_1_strategies.{kind}" for kind in ("png", "pdf", "csv")]
    image = Image.open(paths[0])
    assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
    assert np.asarray(image.convert("L")).std() > 10
    before = [path.read_bytes() for path in paths]
    again = figures.save(figures.draw("1_strategies", frame, "aid"), tmp_path, "aid_1_strategies")
    assert again == paths and [path.read_bytes() for path in again] == before
    made = {name for name in figures.files(keys=figures.keys_of(frame)) if name.startswith("aid_")}
    assert made == {f"aid_{name}.{kind}" for name in PUBLISHED for kind in ("png", "pdf", "csv")}


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


def shown(axes):
    return np.asarray(axes.get_images()[0].get_array())


def coloured(picture, grid=(4, 4)):
    """The patches of a red picture (4 x 4 patches) that are not greyed, in raster order's numbering."""
    cells = picture.reshape(4, -1, 4, picture.shape[1] // 4, 3).mean(axis=(1, 3))
    return {patch for patch in range(16) if cells[patch // 4, patch % 4, 0] == 255}


def test_the_weights_sheet_shows_the_weights_and_what_both_choices_keep(tiny):
    model, images = tiny(selector="glance"), torch.randn(2, 3, 32, 32)
    torch.nn.init.normal_(model.selector.network[-1].weight, std=30)
    model.calibrate([(images, None)], [0.4])
    red = np.full((2, 32, 32, 3), (255, 0, 0), np.uint8)
    sheet = sheets.weights_sheet(model, images, red, 0.25, average=0.4)
    colour, weights, kept, auto = (axes.get_images()[0].get_array() for axes in sheet.axes[:4])
    assert (colour == red[0]).all()
    np.testing.assert_allclose(weights.ravel(), model.log_weights(images)[0].detach().numpy(), rtol=1e-5)
    assert coloured(kept) == set(model.select(images, 0.25)[0].tolist())
    _, selection = model(images, "auto:0.4", return_selection=True)
    assert coloured(auto) == {patch for patch in selection.kept[0].tolist() if patch >= 0}
    assert sheet.axes[3].texts[0].get_text() == str(len(coloured(auto)))
    assert len(sheets.weights_sheet(model, images, red).axes) == 6
    with pytest.raises(ValueError, match="no weights"):
        sheets.weights_sheet(tiny(selector="random"), images, red)


@pytest.mark.parametrize("policy", ["evit", "tome", "dynamicvit"])
def test_the_sheet_shows_what_is_left_of_methods_that_take_tokens_out_between_the_blocks(tiny, policy):
    model, images = tiny(selector=policy), torch.randn(2, 3, 32, 32)
    red = np.full((2, 32, 32, 3), (255, 0, 0), np.uint8)
    sheet = sheets.kept_patches_sheet(model, images, red, [0, 1], "abcd", ratios=(1.0, 0.25))
    full, few = (coloured(sheet.axes[i].get_images()[0].get_array()) for i in (0, 2))
    assert len(full) == 16
    kept = set(range(16)) if policy == "tome" else set(model.select(images, 0.25)[0].tolist()) - {-1}
    assert few == kept


def kept_rows(**changes):
    """A table of kept patches: two images on a grid of 4 x 4, four patches kept of each."""
    row = dict.fromkeys(tables.PATCHES.columns, "") | {
        "dataset": "aid",
        "checkpoint": "c",
        "policy": "line_guided:lines=sobel,choice=top",
        "keep_ratio": 0.25,
        "image": "a/1.png",
        "class": "a",
        "answer": "a",
        "rows": 4,
        "columns": 4,
        "kept": "15 14 11 10",
        "scores": " ".join(f"{-15 + n}" for n in range(16)),
        "scores_of": "log-probabilities from sobel line drawings",
        "centre": "0.875 0.9",
    }
    return pd.DataFrame([row | changes, row | {"image": "b/2.png", "answer": "b"} | changes])


def test_the_patch_sheet_shows_the_drawing_the_scores_and_what_is_kept():
    red, drawn = np.full((32, 32, 3), (255, 0, 0), np.uint8), np.zeros((64, 64))
    drawn[48:, 48:] = 1
    rows = kept_rows()
    sheet = sheets.patch_sheet(rows, {"a/1.png": red, "b/2.png": red}, {"a/1.png": drawn})
    colour, line, scores, kept = sheet.axes[:4]
    assert (shown(colour) == red).all()
    np.testing.assert_allclose(shown(line), 1 - drawn)
    np.testing.assert_allclose(shown(scores).ravel(), np.exp(np.arange(16) - 15.0))
    assert coloured(shown(kept)) == {10, 11, 14, 15}
    cross = [mark for mark in kept.get_lines() if mark.get_marker() == "+"]
    np.testing.assert_allclose(cross[0].get_xydata(), [[0.9, 0.875]])
    assert (
        sheet.axes[0].get_ylabel() == "✓ a" and sheet.axes[4].get_ylabel().startswith("✗ a") and sheet.rows is not rows
    )
    assert "1 of 2 images right" in sheet.get_label() and "not here" not in sheet.get_label()


def test_drawings_are_made_of_the_images_that_are_there():
    image = np.zeros((64, 64, 3), np.uint8)
    image[:, 32:] = 255
    sheet = sheets.patch_sheet(kept_rows(), {"b/2.png": image})
    assert [axes.get_title() for axes in sheet.axes[:4]] == ["colour", "lines", "scores", "kept 25%"]
    line = shown(sheet.axes[5])
    assert line[:, 31:33].max() < 0.1 and line[:, :25].min() > 0.9
    assert shown(sheet.axes[1]).min() == 1, "of the image that is not there"
    assert "1 images are not here" in sheet.get_label()


def test_without_the_images_the_kept_patches_are_shown_on_a_neutral_ground_and_it_is_said():
    sheet = sheets.patch_sheet(kept_rows())
    assert [axes.get_title() for axes in sheet.axes[:2]] == ["scores", "kept 25%"]
    ground = shown(sheet.axes[1]).astype(int)
    assert (ground[3, 3] == ground[2, 2]).all() and len(np.unique(ground.reshape(16, 3), axis=0)) == 2
    assert abs(ground[3, 3].mean() - ground[0, 0].mean()) > 60, "told apart in grey"
    assert "the images are not here" in sheet.get_supxlabel().replace("\n", " ")
    said = style.describe(sheet)
    assert "the images are not here" in said and "a/1.png (a, taken for a): 4 of 16 patches" in said


def test_a_policy_without_scores_or_lines_has_no_panel_for_them():
    rows = kept_rows(policy="random", scores="", scores_of="random draws the patches: it has no scores", centre="")
    sheet = sheets.patch_sheet(rows, {"a/1.png": np.zeros((8, 8, 3), np.uint8)})
    assert [axes.get_title() for axes in sheet.axes[:2]] == ["colour", "kept 25%"]
    assert not sheets.patch_sheet(rows[:0]).axes


def test_drawings_are_shown_dark_on_white():
    drawn = np.zeros((2, 64, 64), np.uint8)
    drawn[0, 10] = 255
    sheet = sheets.lines_sheet(np.zeros((2, 32, 32, 3), np.uint8), drawn)
    picture = shown(sheet.axes[2])
    assert picture[10].max() == 0 and picture[11].min() == 255


def test_confusion_is_shown_as_counts_and_as_shares_of_a_class():
    table = confusion(np.array([0, 0, 0, 0, 1]), np.array([0, 0, 0, 1, 1]), ["a", "b", "never"], dataset="aid")
    assert table["images"].sum() == 5 and set(table["dataset"]) == {"aid"}
    sheet = confusion_matrices(table)
    counts, shares = (
        np.array([float(text.get_text()) for text in axes.texts]).reshape(3, 3) for axes in sheet.axes[:2]
    )
    assert counts.tolist() == [[3, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert shares.tolist() == [[75, 25, 0], [0, 100, 0], [0, 0, 0]]


def test_own_images_are_shown_without_a_verdict(tiny):
    model = tiny()
    model.classes, model.transform = tuple("abcd"), transform(32, (0.5,) * 3, (0.5,) * 3)
    model.record = {"transform": {"size": 32, "mean": [0.5] * 3, "std": [0.5] * 3}}
    sheet = sheets.predictions_sheet(model, [Image.new("RGB", (60, 40), "red")], ratios=(1.0, 0.5))
    assert sheet.axes[0].get_title() in "abcd"
    assert sheet.axes[0].get_images()[0].get_array()[0, 0].tolist() == [255, 0, 0]


def test_history_and_data_sheet_take_what_there_is():
    drawn = history(pd.DataFrame({"epoch": [1, 2], "train_loss": [2.0, 1.0], "val_accuracy": [0.5, 0.7]}))
    assert [axes.get_ylabel() for axes in drawn.axes] == ["loss", "top-1 accuracy (%)"]
    sheet = sheets.data_sheet(np.zeros((9, 8, 8, 3), np.uint8), [0] * 8 + [1], ["a", "b"], 3)
    assert [axes.get_title() for axes in sheet.axes if axes.get_visible()] == ["a", "b", "a"]


def test_a_policy_looks_the_same_in_every_panel(frame):
    agent = frame[(frame["recipe"] == "masked") & (frame["policy"] == "learned")].assign(policy="agent")
    guided = frame[frame["policy"] == "learned"].assign(policy="line_guided:lines=xdog,choice=top")
    both = policies.strategies(pd.concat([frame, agent, guided], ignore_index=True), "aid").axes
    colors = [{line.get_label(): line.get_color() for line in panel.get_lines()} for panel in both]
    assert len(colors) == 2 and any(policy_label("agent") in panel for panel in colors)
    for label in colors[0].keys() & colors[1].keys():
        assert colors[0][label] == colors[1][label], label
