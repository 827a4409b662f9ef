"""Every path of the project, absolute. Three environment variables move them:

ASEL_ROOT   the checkout: saved_models/, benchmarks_results/ (default: the folder above this package)
ASEL_DATA   the image sets (default: <root>/data)
ASEL_CACHE  decoded images (default: <data>/.cache)
"""

import os
from pathlib import Path


def _from_environment(variable: str, default: Path) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().resolve()


def root() -> Path:
    return _from_environment("ASEL_ROOT", Path(__file__).parent.parent)


def data() -> Path:
    return _from_environment("ASEL_DATA", root() / "data")


def cache() -> Path:
    return _from_environment("ASEL_CACHE", data() / ".cache")


def saved_models() -> Path:
    """Shipped checkpoints."""
    return root() / "saved_models"


def results() -> Path:
    """Committed reference results; `run(profile)` lies below it and is ignored by git."""
    return root() / "benchmarks_results"


def run(profile: str) -> Path:
    """All that one profile's run writes: checkpoints/ results/ figures/ notebooks/ state/."""
    return results() / "runs" / profile
