"""Speed, memory and growth: what is measured is what it says, and nothing changes an answer."""

import mmap
from dataclasses import replace

import numpy as np
import pytest
import torch

from asel_lib import configs, tables
from asel_lib.evaluation import bench_inference, bench_models, growth, memory, obstacles, roofline, timing

CPU = torch.device("cpu")


@pytest.fixture
def smoke(workplace):
    return replace(configs.load("smoke"), synthetic_images=120)


def test_calls_are_timed_in_turn_and_each_as_long_as_it_takes():
    order = []
    matrix = torch.randn(256, 256)

    def work(name, times):
        order.append(name)
        for _ in range(times):
            matrix @ matrix

    times = timing.in_turn(
        {"short": lambda: work("short", 1), "long": lambda: work("long", 30)}, seconds=0.05, rounds=3
    )
    assert all(len(measured) == 3 for measured in times.values())
    assert timing.ratio(times["long"], times["short"]).middle > 5
    assert order.index("long") < len(order) - 1 - order[::-1].index("short")  # not one after the other


def test_the_floor_is_the_longer_of_operations_and_bytes():
    machine = roofline.Machine(gmacs=100.0, gbytes=10.0)
    assert machine.floor_ms(1.0, 1.0) == pytest.approx(10.0)
    assert machine.floor_ms(0.01, 50.0) == pytest.approx(5.0)


def test_a_machine_is_measured():
    machine = roofline.measure(CPU, seconds=0.05, side=256, megabytes=8)
    assert 0.5 < machine.gmacs < 1e5
    assert 0.1 < machine.gbytes < 1e4


def test_memory_is_the_highest_of_what_is_in_use_at_once():
    def work():
        for _ in range(3):
            torch.ones(1_000_000)  # freed each time: 4 MB, not 12

    assert memory.peak(work, CPU) == pytest.approx(4e6, rel=0.1)


def test_memory_that_is_mapped_from_a_file_does_not_count(tmp_path):
    before, size = memory.resident(), 100_000_000
    if not before:
        pytest.skip("this system has no /proc")
    array = np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.uint8, shape=(size,))
    array[:] = 1
    assert memory.resident() - before < 0.2 * size
    held = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # malloc may reuse what was freed before
    np.frombuffer(held, np.uint8)[:] = 1
    assert memory.resident() - before > 0.8 * size


def test_inference_is_set_against_plain_timm(smoke):
    frame = bench_inference.inference(
        smoke,
        ratios=(1.0, 0.5),
        batches=(2,),
        precisions=("float32",),
        selectors=("glance", "random"),
        seconds=0.02,
        rounds=3,
        device="cpu",
        progress=False,
    ).set_index(["policy", "keep_ratio"])
    assert set(frame.index) == {("plain", 1.0), ("glance", 1.0), ("glance", 0.5), ("random", 1.0), ("random", 0.5)}
    assert frame.loc[("plain", 1.0), "speed_up"] == 1
    assert frame.loc[("glance", 1.0), "ideal_speed_up"] == 1
    ideal = frame["ideal_speed_up"]
    assert ideal["random", 0.5] > ideal["glance", 0.5]  # which pays for choosing
    tables.SPEED.checked(frame.reset_index(), "these rows")
    assert (frame["speed_up_low"] <= frame["speed_up"]).all() and (frame["floor_ms"] > 0).all()


def test_the_plain_model_gives_the_same_logits(smoke):
    model = bench_models.model_of(smoke, "glance", CPU)
    images = bench_models.pixels(model, 3, CPU)
    with torch.inference_mode():
        torch.testing.assert_close(bench_models.plain_of(model)(images), model(images), atol=1e-5, rtol=0)


def test_dropped_tokens_need_less_memory_in_training_and_masked_ones_do_not(smoke):
    frame = bench_inference.memory_use(smoke, ratios=(1.0, 0.25), batch_size=16, device="cpu", progress=False)
    rows = frame.set_index(["recipe", "policy", "keep_ratio"])["peak_memory_mb"]
    assert rows["dropped", "learned", 0.25] < 0.6 * rows["dropped", "learned", 1.0]
    assert rows["masked", "learned", 0.25] == pytest.approx(rows["masked", "learned", 1.0], rel=0.1)
    assert rows["", "glance", 0.25] < rows["", "plain", 1.0]


def test_growth_is_measured_and_fitted(smoke):
    frame = growth.with_model(smoke, "image_size", (32, 64), seconds=0.02, device="cpu", progress=False)
    whole = frame[frame["keep_ratio"] == 1].set_index("image_size")
    assert whole["patches"].tolist() == [16, 64]
    assert whole.loc[64, "peak_memory_mb"] > 2 * whole.loc[32, "peak_memory_mb"]
    with pytest.raises(ValueError, match="what is 'depth': expected 'image_size', 'patch_size' or 'classes'"):
        growth.with_model(smoke, "depth", (1, 2))
    tables.SPEED.checked(frame, "these rows")


def test_a_set_on_disk_does_not_grow_in_memory(smoke, tmp_path, capsys, monkeypatch):
    frame = growth.with_images(smoke, (500, 3000), folder=tmp_path / "here", progress=False)
    frame = tables.SPEED.checked(frame, "these rows").set_index("images")
    pixels = 3000 * 32 * 32 * 3 / 1e6
    assert frame.loc[3000, "peak_memory_mb"] < 0.7 * pixels  # names and labels, not pixels
    assert (frame["throughput"] > 0).all()
    assert list((tmp_path / "here").iterdir()) == []
    monkeypatch.setattr(growth.shutil, "disk_usage", lambda _: type("", (), {"free": 0}))
    assert len(growth.with_images(smoke, (500,), folder=tmp_path, progress=False)) == 0
    assert "500 images left out: they need 0.0 GB" in capsys.readouterr().out


def test_what_was_taken_out_of_the_way_changes_no_answer(smoke):
    frame = obstacles.before_after(smoke, keep_ratio=0.25, batches=(1, 5), seconds=0.02, rounds=3, device="cpu")
    exact = frame[~frame["what"].str.contains("float16")]
    assert len(exact) == 8
    assert (exact["largest difference"] <= 1e-5).all()
    assert (frame["largest difference"] < 0.05).all()
    assert (frame["low"] <= frame["times as fast"]).all() and (frame["before, ms"] > 0).all()
