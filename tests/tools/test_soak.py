import pytest

from tools import soak

KEPT = []


def column(values):
    return [{"memory_mib": value} for value in values]


def test_growth_is_told_from_noise():
    noise = [0.3, -0.2, 0.1, -0.3, 0.2, 0.0, -0.1, 0.25, -0.25, 0.1, 0.0, -0.2]
    flat = soak.growth(column(900 + n for n in noise), "memory_mib")
    rising = soak.growth(column(900 + 0.5 * k + n for k, n in enumerate(noise)), "memory_mib")
    assert not flat.grows(0.0) and rising.grows(0.1)
    assert rising.slope == pytest.approx(0.5, abs=0.1)
    early = soak.growth(column([500, 700, 900] + [900.0] * 9), "memory_mib")  # caches that fill at the beginning
    assert not early.grows(0.0) and early.slope == 0
    with pytest.raises(ValueError, match="5 runs: expected at least 6"):
        soak.growth(column(range(5)), "memory_mib")


@pytest.mark.slow
def test_what_leaks_is_seen(tmp_path):
    """Forty megabytes, more than malloc would take from what was freed before, and a file a run."""

    def leak(number):
        KEPT.append((b"x" * (40 * 2**20), open(tmp_path / str(number), "w")))

    rows = soak.soak(12, leak, tell=lambda _: None)
    while KEPT:
        KEPT.pop()[1].close()
    assert soak.growth(rows, "open_files").slope == pytest.approx(1.0)
    assert soak.growth(rows, "memory_mib").grows(soak.MOST_MEMORY)


@pytest.mark.soak
@pytest.mark.slow
def test_training_and_benchmarking_again_and_again_is_flat(workplace):
    """Ten runs see what leaks a megabyte; 200 of them by `python -m tools.soak` see a tenth of that."""
    rows = soak.soak(10, lambda number: soak.train_and_benchmark("smoke", number), tell=lambda _: None)
    assert not soak.growth(rows, "open_files").grows(0.0), rows
    assert not soak.growth(rows, "threads").grows(0.0), rows
    assert not soak.growth(rows, "memory_mib").grows(1.0), rows
