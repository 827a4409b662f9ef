"""What 05_benchmark measures of a trained model, in this process: for `tools.determinism` and `tools.soak`, which train
and measure by the library's calls. Not run by itself."""

from pathlib import Path

from asel_lib import paths, tables
from asel_lib.configs import Profile
from asel_lib.data.sets import open_recorded, recorded_batches
from asel_lib.evaluation.benchmark import benchmark, object_fractions, own_policies
from asel_lib.training.jobs import Stage


def measure(stage: Stage, profile: Profile) -> Path:
    """Measure a training's model on its test part.

    Args:
        stage: the training.
        profile: what is measured, and in whose run the rows are written.

    Returns:
        The CSV file of the rows.
    """
    images, split = open_recorded(stage.record)
    measured = profile.evaluation
    rows = benchmark(
        stage.model,
        recorded_batches(images, split.test, stage.record, measured.batch_size),
        record=stage.record | {"split": split.tested},
        profile=profile.name,
        ratios=measured.ratios,
        policies=own_policies(stage.record, measured.policies),
        draws=measured.draws,
        timing_seconds=measured.timing_seconds,
        batch_size=measured.batch_size,
        object_fraction=object_fractions(images, split.test, stage.model),
        progress=False,
    )
    return tables.write(rows, paths.run(profile.name) / "results" / f"{stage.file.stem}.csv")
