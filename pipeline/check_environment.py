"""Does the running Python have what pyproject.toml asks for? Exit status 0 if so, else 1 and what it lacks.

    python pipeline/check_environment.py [--extra test]

It reads installed metadata only: importing torch to learn its version takes seconds.
"""

import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def lacking(extras: tuple[str, ...] = ()) -> list[str]:
    """What is absent, too old or too new, e.g. ["timm", "torch (2.4.0 is here, torch>=2.11 is needed)"]."""
    try:
        from packaging.requirements import Requirement
    except ImportError:  # whoever has matplotlib or Snakemake has it
        return ["packaging"]
    project = tomllib.loads(PROJECT.read_text())["project"]
    wanted = list(project["dependencies"])
    for extra in extras:
        wanted += project["optional-dependencies"][extra]
    found = []
    for requirement in map(Requirement, wanted):
        try:
            here = version(requirement.name)
        except PackageNotFoundError:
            found.append(requirement.name)
            continue
        if not requirement.specifier.contains(here, prereleases=True):
            found.append(f"{requirement.name} ({here} is here, {requirement} is needed)")
    return found


if __name__ == "__main__":
    missing = lacking(tuple(sys.argv[2:]) if sys.argv[1:2] == ["--extra"] else ())
    if missing:
        sys.exit(", ".join(missing))
