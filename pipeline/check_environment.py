"""Does the running Python have what run_all.sh needs of pyproject.toml? Exit status 0 if so, else 1 and what it lacks.

    python pipeline/check_environment.py [--extra test]

It reads installed metadata only: importing torch to learn its version takes seconds.
"""

import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
RUN = ("pipeline", "report")  # the extras that run_all.sh needs


def lacking(extras: tuple[str, ...] = ()) -> list[str]:
    """What is absent, too old or too new.

    Args:
        extras: of pyproject.toml, which are wanted besides the core.

    Returns:
        A text for each: "timm", "torch (2.4.0 is here, torch>=2.11 is needed)".
    """
    try:
        import packaging.requirements  # noqa: F401  # `wanted` needs it
    except ImportError:
        return ["packaging"]
    found = []
    for requirement in wanted(extras):
        try:
            here = version(requirement.name)
        except PackageNotFoundError:
            found.append(requirement.name)
            continue
        if not requirement.specifier.contains(here, prereleases=True):
            found.append(f"{requirement.name} ({here} is here, {requirement} is needed)")
    return found


def wanted(extras: tuple[str, ...] = ()) -> Iterator:
    """The requirements of the core and of extras, and of the extras that these name, each once.

    Args:
        extras: of pyproject.toml.
    """
    from packaging.requirements import Requirement

    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    texts, asked, seen = list(project["dependencies"]), list(extras), set()
    while texts or asked:
        if not texts:
            texts += project["optional-dependencies"][asked.pop(0)]
        elif (text := texts.pop(0)) not in seen:
            seen.add(text)
            requirement = Requirement(text)
            if requirement.name == project.get("name"):
                asked += sorted(requirement.extras)
            else:
                yield requirement


if __name__ == "__main__":
    missing = lacking((*RUN, *(sys.argv[2:] if sys.argv[1:2] == ["--extra"] else ())))
    if missing:
        sys.exit(", ".join(missing))
