"""Every path of the project, absolute. Three environment variables move them:

ASEL_ROOT   saved_models/, benchmarks_results/ (default: the checkout; where the package was installed without one, a
            folder of the user's own, e.g. ~/.local/share/asel)
ASEL_DATA   the image sets (default: <root>/data)
ASEL_CACHE  decoded images (default: <data>/.cache; without a checkout the user's folder for caches)
"""

import os
from functools import cache as once
from pathlib import Path


def _from_environment(variable: str, default: Path) -> Path:
    return Path(os.environ.get(variable) or default).expanduser().resolve()


def root() -> Path:
    return _from_environment("ASEL_ROOT", _checkout() or _of_user("data"))


def data() -> Path:
    return _from_environment("ASEL_DATA", root() / "data")


def cache() -> Path:
    moved = any(os.environ.get(variable) for variable in ("ASEL_ROOT", "ASEL_DATA"))
    return _from_environment("ASEL_CACHE", data() / ".cache" if moved or _checkout() else _of_user("cache"))


def saved_models() -> Path:
    """Shipped checkpoints."""
    return root() / "saved_models"


def results() -> Path:
    """Committed reference results; `run(profile)` lies below it and is ignored by git."""
    return root() / "benchmarks_results"


def run(profile: str) -> Path:
    """All that one profile's run writes: checkpoints/ results/ figures/ notebooks/ state/."""
    return results() / "runs" / profile


@once
def _checkout() -> Path | None:
    """The folder above this package, where that is the project's: site-packages is not, whatever lies in it."""
    above = Path(__file__).parent.parent
    project = above / "pyproject.toml"
    return above if project.is_file() and 'name = "asel"' in project.read_text(encoding="utf-8") else None


def _of_user(kind: str) -> Path:
    import platformdirs

    return {"data": platformdirs.user_data_path, "cache": platformdirs.user_cache_path}[kind]("asel", appauthor=False)
