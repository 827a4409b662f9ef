import json
from pathlib import Path

import pytest

from asel_lib import configs
from asel_lib.reporting import costs

PAGE = Path(__file__).parents[2] / "docs/cluster.md"


def test_the_page_shows_what_the_function_says():
    shown = PAGE.read_text().partition("<!-- python -m asel_lib.reporting.costs -->\n")[2].partition("<!-- end -->")[0]
    assert shown == costs.text(), "python -m asel_lib.reporting.costs prints what belongs between the two comments"


@pytest.mark.parametrize(
    ("seconds", "workers", "expected"),
    [
        ([3, 3, 2, 2, 2], 1, 12),
        ([3, 3, 2, 2, 2], 2, 7),  # the longest first; the best packing has 6
        ([5, 1, 1, 1], 2, 5),  # no packing is shorter than its longest
        ([4, 4], 64, 4),
        ([], 3, 0),
    ],
)
def test_whole_trainings_are_packed_the_longest_first(seconds, workers, expected):
    assert costs.makespan(seconds, workers) == expected


def test_no_worker_is_refused():
    with pytest.raises(ValueError, match="workers is 0"):
        costs.makespan([1.0], 0)


def test_a_training_sees_its_part_of_the_images_in_each_epoch():
    profile = configs.load("compact")
    assert costs.images_seen("rsscn7", profile) == 1960 * 40
    assert costs.images_seen("aid", profile) == 7000 * 12  # a shorter schedule
    with pytest.raises(ValueError, match="how many images imagenet10 has"):
        costs.images_seen("imagenet10", profile)


def test_a_sweep_is_a_training_for_each_method_set_and_seed():
    profile = configs.load("compact")
    made = costs.sweep({"fast": 200.0, "slow": 100.0}, profile, ["rsscn7", "aid"], seeds=3)
    assert sorted(made) == sorted(3 * [392.0, 784.0, 420.0, 840.0])


def test_a_gpu_is_as_much_faster_as_its_share_of_the_rate_is_above_what_the_cpu_reached():
    gpu = costs.Gpu(peak=100e12)
    # 100 images a second x 6 x 0.2e9 operations: 0.12 TFLOP/s; a tenth of 100 TFLOP/s is 83.3 times that.
    assert costs.times_faster(100.0, 0.2, 0.1, gpu) == pytest.approx(10 / 0.12)


def record(folder, name, selector, recipe, rates, **other):
    history = [{"images_per_second": rate} for rate in rates]
    content = {"profile": "compact", "stage": "line_guided", "model": {"selector": selector}, "recipe": recipe}
    (folder / f"{name}.json").write_text(json.dumps(content | {"history": history} | other))


def test_rates_are_those_of_the_records_of_that_method_and_profile(tmp_path):
    for number, (selector, recipe) in enumerate(costs.METHODS.values()):
        record(tmp_path, f"{number}", selector, recipe, [100.0, 200.0, 300.0])
        record(tmp_path, f"{number}_seed1", selector, recipe, [400.0, 500.0])
        record(tmp_path, f"{number}_demo", selector, recipe, [9000.0], profile="demo")
        record(tmp_path, f"{number}_warmup", selector, recipe, [9000.0], stage="warmup")
    found = costs.measured(tmp_path)
    assert set(found) == set(costs.METHODS) and {rate.median for rate in found.values()} == {300.0}
    (tmp_path / "0.json").unlink()
    (tmp_path / "0_seed1.json").unlink()
    with pytest.raises(ValueError, match="how fast ASEL, paper trains"):
        costs.measured(tmp_path)
