"""Time all methods of a profile's committed rows in one sitting, in turn. Run it after rows of new methods were shipped
(`tools.ship`), on an idle machine, before their speed is shown:

    python -m tools.time_methods PROFILE [--batch-size 64] [--seconds 4] [--rounds 7]

Every way of choosing that the rows have is timed at every keep ratio, round after round, on models of the profile's
shape with random weights (time does not depend on them), in the rows' own precision. One time of the whole model with
all patches stands for every method at keep ratio 1, so that all speed-ups are against the same. The times and the peak
memory take the place of those in benchmarks_results/results.csv; rows of other machines keep their own.
"""

import argparse
import sys
from functools import partial

import pandas as pd
import torch
from tqdm import tqdm

from asel_lib import configs, methods, paths, tables
from asel_lib.devices import autocast, default_device
from asel_lib.errors import AselError
from asel_lib.evaluation import cost, timing
from asel_lib.evaluation.bench_models import model_of, pixels
from asel_lib.reporting.rows import COSTS
from asel_lib.reproducibility import environment
from asel_lib.selection import parse

CHAIN = ("warmup", "published", "direct")  # schedules whose models have the profile's shape


def sitting(profile: configs.Profile, rows: pd.DataFrame, seconds: float, rounds: int, batch: int) -> pd.DataFrame:
    """Time and memory of each (policy, keep ratio) of rows that were measured in one precision.

    Args:
        profile: whose model is timed.
        rows: of `tables.RESULTS`.
        seconds: of timing, for each pair.
        rounds: of timing.
        batch: images of a forward.

    Returns:
        policy, keep_ratio and the columns of COSTS.
    """
    device, precision = default_device(), rows["dtype"].iloc[0]
    models, calls = {}, {}
    pairs = rows[["policy", "keep_ratio"]].drop_duplicates().sort_values(["policy", "keep_ratio"])
    for policy in pairs["policy"].unique():
        # A policy without weights can choose for any model; one with weights needs a model of its own.
        own = policy if parse(policy)[0].trained else "random"
        models[policy] = models.get(own) or model_of(profile, own, device)
    first = next(iter(models.values()))
    images = pixels(first, batch, device)
    for policy, ratio in pairs.itertuples(index=False):
        if ratio < 1:
            calls[policy, ratio] = partial(models[policy], images, ratio, policy)
    calls["", 1.0] = partial(first, images)
    with torch.inference_mode(), autocast(device, precision):
        times = timing.in_turn(calls, seconds, rounds)
    found = []
    for policy, ratio in tqdm([*pairs.itertuples(index=False)], desc="memory", unit="setting"):
        time = timing.latency(times[(policy, ratio) if ratio < 1 else ("", 1.0)], batch)
        memory = cost.peak_memory(models[policy], images, ratio, policy, precision)
        found.append((policy, ratio, time.median_ms, time.iqr_ms, time.throughput, memory))
    return pd.DataFrame(found, columns=["policy", "keep_ratio", *COSTS])


def timed(profile: str, seconds: float, rounds: int, batch: int) -> pd.DataFrame:
    """The committed rows, those of that profile's chain on this machine with new times.

    Args:
        profile: name of the profile.
        seconds: of timing, for each policy and keep ratio.
        rounds: of timing.
        batch: images of a forward.

    Raises:
        AselError: there are none.
    """
    every, here = tables.read(paths.results() / "results.csv"), environment()
    machine = here["device_name"] if here["device"] == default_device().type else default_device().type
    ours = (every["profile"] == profile) & every["schedule"].isin(CHAIN) & (every["device"] == machine)
    if not ours.any():
        raise AselError(f"results.csv has no rows of profile {profile!r} on {machine}: ship some first (tools.ship)")
    settings, parts = configs.load(profile), [every[~ours]]
    for _, rows in every[ours].groupby("dtype", sort=False):
        times = sitting(settings, rows, seconds, rounds, batch)
        new = rows.drop(columns=list(COSTS)).merge(times, on=["policy", "keep_ratio"], how="left")
        parts.append(new.assign(batch_size=batch)[list(every.columns)])
        print(f"{len(times)} settings of {times['policy'].map(methods.policy_label).nunique()} methods were timed")
    return tables.files.joined(parts)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.time_methods", description=__doc__.split("\n\n")[0])
    parser.add_argument("profile")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=4.0, help="of timing, for each policy and keep ratio")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args(arguments)
    try:
        rows = timed(asked.profile, asked.seconds, asked.rounds, asked.batch_size)
    except AselError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    tables.write(rows, paths.results() / "results.csv")
    return 0


if __name__ == "__main__":
    sys.exit(main())
