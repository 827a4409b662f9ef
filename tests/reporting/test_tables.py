import multiprocessing

import pandas as pd
import pytest

from asel_lib import files
from asel_lib.errors import AselError
from asel_lib.reporting import tables


def results(**changes):
    """Made-up rows of one checkpoint: learned and random at three ratios."""
    rows = [
        {
            **dict.fromkeys(tables.COLUMNS, 0),
            "dataset": "aid",
            "checkpoint": "aid_finetuned",
            "method": "asel",
            "policy": policy,
            "recipe": "paper",
            "profile": "compact",
            "start": "random",
            "keep_ratio": ratio,
            "kept_patches": int(64 * ratio),
            "split": "test",
            "n_images": 500,
            "accuracy": 0.5 + ratio / 4,
            "accuracy_low": 0.45 + ratio / 4,
            "accuracy_high": 0.55 + ratio / 4,
            "top5": 0.9,
            "gmacs": ratio,
            "selector_gmacs": 0.01,
            "latency_ms": 100 * ratio,
            "latency_iqr_ms": 1.0,
            "throughput": 640 / ratio,
            "device": "cpu",
            "dtype": "float32",
            "compiled": False,
            "torch": "2",
            "commit": "12e4567",
            "timestamp": "2026-01-01T00:00:00+00:00",
        }
        | changes
        for policy in ("learned", "random")
        for ratio in (0.2, 0.5, 1.0)
    ]
    return pd.DataFrame(rows)


def test_a_table_is_read_as_it_was_written(tmp_path):
    path = tables.write(results(), tmp_path / "new" / "results.csv")
    found = tables.read(path)
    assert list(found.columns) == list(tables.COLUMNS)
    assert found["commit"].tolist() == ["12e4567"] * 6  # not the number 12e4567
    assert found["accuracy"].tolist() == results()["accuracy"].tolist()


def test_a_folder_that_cannot_be_written_is_named_and_the_old_table_stays(tmp_path, monkeypatch):
    path = tables.write(results(), tmp_path / "results.csv")

    def read_only(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.tempfile, "mkstemp", read_only)
    with pytest.raises(AselError, match="results.csv could not be written.*Permission denied"):
        tables.write(results(accuracy=0.0), path)
    assert tables.read(path)["accuracy"].tolist() == results()["accuracy"].tolist()


def append_many(path, process, times):
    for number in range(times):
        tables.append(results(checkpoint=f"process {process}", seed=number), path)


def test_processes_that_append_at_once_lose_and_tear_no_row(tmp_path):
    """Each process in its own Python, released together; every append is a read, a concatenation and a rename."""
    path, times = tmp_path / "results.csv", 15
    processes = [multiprocessing.Process(target=append_many, args=(path, name, times)) for name in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    found = tables.read(path)
    assert len(found) == 3 * times * 6
    for name in range(3):
        mine = found[found["checkpoint"] == f"process {name}"]
        assert mine["seed"].tolist() == [number for number in range(times) for _ in range(6)]
        assert mine["commit"].eq("12e4567").all()


def test_a_table_that_somebody_keeps_locked_is_named(tmp_path):
    from filelock import FileLock

    with FileLock(tmp_path / ".results.csv.lock"):
        with pytest.raises(AselError, match="results.csv is being written by another process for 0.1 s"):
            tables.append(results(), tmp_path / "results.csv", patience=0.1)


def test_a_folder_is_read_whole(tmp_path):
    tables.write(results(), tmp_path / "a.csv")
    tables.write(results(dataset="rsscn7"), tmp_path / "b.csv")
    assert len(tables.read_all(tmp_path)) == 12
    with pytest.raises(AselError, match="run the benchmark first"):
        tables.read_all(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "is empty"), ("dataset,policy\naid,learned\n", "lacks the column.*keep_ratio"), ("\0\xff\xfe", "bad.csv")],
)
def test_a_damaged_file_is_named(tmp_path, content, message):
    (tmp_path / "bad.csv").write_text(content, encoding="latin-1")
    with pytest.raises(AselError, match=f"bad.csv.*{message}|{message}"):
        tables.read(tmp_path / "bad.csv")


def test_the_summary_has_accuracy_interval_cost_and_speed_up():
    line = tables.summary(results()).iloc[0]
    assert line["accuracy at 0.5, %"] == "62.5 (57.5-67.5)"
    assert line["GMACs"] == "1 / 0.5 / 0.2"
    assert line["speed-up"] == "1.00x / 2.00x / 5.00x"
    assert tables.to_markdown(tables.summary(results())).count("\n") == 2


def test_seeds_are_averaged_and_other_machines_are_not():
    both = pd.concat([results(), results(seed=1, accuracy=0.9), results(device="gpu")])
    groups = dict(tables.runs(both))
    assert sorted(groups) == ["paper, device cpu", "paper, device gpu"]
    means = tables.over_seeds(groups["paper, device cpu"])
    assert set(means["seeds"]) == {2}
    assert means["accuracy"].iloc[0] == pytest.approx((0.55 + 0.9) / 2)


def test_of_a_measurement_made_twice_the_last_counts():
    again = results(accuracy=0.1, timestamp="2026-02-01T00:00:00+00:00")
    [(_, rows)] = tables.runs(pd.concat([again, results()]))
    assert set(rows["accuracy"]) == {0.1}


def guided():
    policy = "line_guided:lines=xdog,choice=top"
    each = [
        results(
            method="line_guided",
            recipe="dropped",
            seed=seed,
            accuracy=0.5 + seed / 100,
            accuracy_low=0.46,
            accuracy_high=0.54,
        ).assign(policy=lambda t, p=policy: t["policy"].replace("learned", p))
        for seed in range(3)
    ]
    each = [
        rows.assign(
            checkpoint=[
                "aid_line_guided_" + ("random" if policy == "random" else "xdog_top") for policy in rows["policy"]
            ]
        )
        for rows in each
    ]
    other = results(method="line_guided", recipe="anytime", checkpoint="aid_line_guided_glance_anytime")
    other = other[other["policy"] == "random"]  # random patches on the model of another selector
    return pd.concat([results(), *each, other])


def test_selectors_are_compared_by_the_models_trained_with_them():
    table = tables.selectors(guided(), ratios=(1.0, 0.5, 0.05))
    assert table["selector"].tolist() == ["line_guided:lines=xdog,choice=top", "random"]
    line = table.iloc[0]
    assert line["seeds"] == 3 and line["test images"] == 500
    assert line["at 0.5"] == "51.0 (50.0-52.0) ± 4.0"
    assert line["at 0.05"] == "-"  # not measured
    assert tables.selectors(results()).empty


def test_the_objects_share_is_shown_where_it_is_known():
    frame = pd.concat([results(object_kept=float("nan")), results(dataset="synthetic", object_kept=0.6)])
    table = tables.objects_kept(frame)
    assert set(table["data set"]) == {"synthetic"}
    line = table[table["policy"] == "random"].iloc[0]
    assert line["at 0.5"] == "60.0 / 62.5"


def test_measurements_of_speed_stand_in_the_same_table_apart_from_the_sweeps(tmp_path):
    measured = pd.DataFrame([{"task": "inference", "policy": "plain", "latency_ms": 2.0, "speed_up": 1.5}])
    path = tables.write(tables.with_speed(results(), measured), tmp_path / "results.csv")
    assert len(tables.read(path)) == 6 and list(tables.read(path).columns) == list(tables.COLUMNS)
    (row,) = tables.read(path, speed=True).to_dict("records")
    assert (row["task"], row["speed_up"], row["dataset"]) == ("inference", 1.5, "")
    tables.append(results(dataset="rsscn7"), path)
    assert len(tables.read(path)) == 12 and len(tables.read(path, speed=True)) == 1


def test_seeds_measured_on_another_machine_count_for_accuracy_and_not_for_cost():
    usual = [results(checkpoint="aid_random"), results(checkpoint="aid_random_seed1", seed=1, accuracy=0.6)]
    elsewhere = {"device": "another cpu", "dtype": "bfloat16", "timestamp": "z"}
    further = results(checkpoint="aid_random_seed2", seed=2, accuracy=0.9, latency_ms=1e6, **elsewhere)
    frame = pd.concat([*usual, further], ignore_index=True)
    pooled = tables.pooled(frame)
    ((_, run),) = tables.runs(pooled)
    means, two = tables.over_seeds(run), tables.over_seeds(pd.concat(usual))
    assert (means["seeds"] == 3).all() and means["accuracy"].gt(two["accuracy"]).all()
    expected = frame.groupby(["policy", "keep_ratio"])["accuracy"].mean()
    assert means["accuracy"].tolist() == pytest.approx(expected.tolist())
    assert means["latency_ms"].tolist() == pytest.approx(two["latency_ms"].tolist())
    assert frame["latency_ms"].max() == 1e6  # the given stays
    assert pooled.groupby("checkpoint")["elsewhere"].agg(set).tolist() == [{""}, {""}, {"another cpu, bfloat16"}]
    assert len(tables.runs(frame)) == 2

    again = results(checkpoint="aid_random", **elsewhere)  # measured in both: two measurements, as they are
    other = results(checkpoint="aid_central", **elsewhere)  # no seed of it has a cost there
    for rows in (again, other):
        alone = tables.pooled(pd.concat([*usual, rows]))
        assert len(tables.runs(alone)) == 2 and alone["elsewhere"].eq("").all()
    # One machine each: the older is the usual one, so that a new seed does not move the cost of the old.
    assert tables.pooled(pd.concat([further, usual[0]]))["device"].eq("cpu").all()
