from dataclasses import asdict

import pandas as pd
import pytest
import torch

from asel_lib import tables
from asel_lib.data import decode
from asel_lib.evaluation.benchmark import benchmark, object_fractions, own_policies, timing_batch
from asel_lib.identity import ModelKey
from asel_lib.reporting.rows import over_seeds

KEY = ModelKey("tiny", "published", "learned")
RECORD = asdict(KEY) | {"name": KEY.name, "start": "random", "split": "test"}


def test_a_row_for_every_policy_and_ratio_with_every_column(tiny):
    model, batches = tiny(), [(torch.randn(6, 3, 32, 32), torch.arange(6) % 4)]
    frame = benchmark(
        model,
        batches,
        record=RECORD,
        profile="smoke",
        ratios=[0.25, 1.0],
        policies=["learned", "random"],
        draws=2,
        timing_seconds=0.01,
        batch_size=8,
        progress=False,
    )
    assert list(frame.groupby(["policy", "keep_ratio"]).size()) == [1] * 4
    assert tuple(frame.columns) == tables.RESULTS.columns
    assert frame.drop(columns=["object_area_kept", "trained_ratio"]).notna().all().all()
    tables.RESULTS.checked(frame, "these rows")
    assert set(frame["batch_size"]) == {8}  # six images, repeated
    few, full = (frame[(frame["policy"] == "learned") & (frame["keep_ratio"] == r)].iloc[0] for r in (0.25, 1.0))
    assert few["gmacs"] < full["gmacs"]
    assert few["kept_patches"] == 4


def test_a_seed_that_is_not_timed_counts_for_accuracy_alone(tiny, tmp_path):
    images, frames = torch.randn(6, 3, 32, 32), []
    for seed, seconds in enumerate((0.01, None)):
        batches = [(images, (torch.arange(6) + seed) % 4)]
        frames.append(
            benchmark(
                tiny(),
                batches,
                record=RECORD | {"seed": seed},
                profile="smoke",
                ratios=[1.0],
                policies=["learned"],
                timing_seconds=seconds,
                batch_size=8,
                progress=False,
            )
        )
    timed, plain = (frame.iloc[0] for frame in frames)
    times = ["latency_ms", "latency_iqr_ms", "throughput", "peak_memory_mb"]
    assert plain[times].isna().all() and plain["gmacs"] == timed["gmacs"]
    tables.write(pd.concat(frames), tmp_path / "results.csv")
    (mean,) = over_seeds(tables.read(tmp_path / "results.csv")).to_dict("records")
    assert mean["seeds"] == 2 and mean["accuracy"] == (timed["accuracy"] + plain["accuracy"]) / 2
    assert mean["throughput"] == timed["throughput"]


def test_an_incomplete_record_is_named(tiny):
    record = {key: value for key, value in RECORD.items() if key != "split"}
    with pytest.raises(ValueError, match="record lacks split"):
        benchmark(tiny(), [], record=record, profile="smoke", ratios=[1.0], policies=["learned"])


def test_timing_takes_a_whole_batch_from_any_set():
    images = torch.arange(3.0).view(3, 1, 1, 1)
    repeated, lines = timing_batch([(images[:2], None), (images[2:], None)], 7)
    assert repeated.flatten().tolist() == [0, 1, 2, 0, 1, 2, 0]
    assert lines is None
    with pytest.raises(ValueError, match="no image"):
        timing_batch([], 4)


def test_line_drawings_that_batches_bring_are_timed_with_their_images(tiny):
    images, drawn = torch.randn(3, 3, 32, 32), torch.arange(3.0).view(3, 1, 1, 1).expand(3, 1, 64, 64) / 2
    repeated, lines = timing_batch([(images, torch.zeros(3), drawn)], 5)
    assert repeated.shape == (5, 3, 32, 32)
    assert lines[:, 0, 0, 0].tolist() == [0, 0.5, 1, 0, 0.5]
    policy = "line_guided:lines=given,choice=top"
    frame = benchmark(
        tiny(selector=policy),
        [(images, torch.arange(3), drawn)],
        record=RECORD,
        profile="smoke",
        ratios=[0.25],
        policies=[policy],
        timing_seconds=0.01,
        batch_size=4,
        progress=False,
    )
    assert frame["accuracy"].notna().all() and frame["latency_ms"].iloc[0] > 0


def test_the_rows_say_which_model_they_are_of(tiny):
    record = RECORD | {"schedule": "direct", "recipe": "mine", "variant": "wide", "keep_ratio": 0.3, "seed": 2}
    frame = benchmark(
        tiny(),
        [(torch.randn(2, 3, 32, 32), torch.arange(2))],
        record=record,
        profile="smoke",
        ratios=[1.0],
        policies=["learned"],
        timing_seconds=None,
        batch_size=2,
        progress=False,
    )
    row = frame.iloc[0]
    assert ModelKey.of(row) == ModelKey("tiny", "direct", "learned", "mine", "wide", 0.3, 2)
    assert row["trained_ratio"] == 0.3 and row["policy"] == "learned"


def test_a_model_on_the_direct_schedule_is_measured_by_its_own_policy():
    asked = ["learned", "random"]
    direct = {"schedule": "direct", "recipe": "dropped"}
    assert own_policies(direct | {"selector": "random"}, asked) == ["random", "even"]
    assert own_policies(direct | {"selector": "learned"}, asked) == ["learned"]
    assert own_policies(direct | {"selector": "glance", "recipe": "anytime"}, asked) == ["glance", "random", "even"]
    assert own_policies({"schedule": "published", "selector": "learned", "recipe": "masked"}, asked) == asked


def test_object_fractions_follow_the_images_and_the_models_grid(workplace, tiny):
    images = decode.load("synthetic", 32, synthetic_images=12)
    found = object_fractions(images, torch.tensor([3, 7]).numpy(), tiny())
    assert found.shape == (2, 16)
    assert found[1].mean() == pytest.approx(images.masks[7].mean(), abs=1e-6)
