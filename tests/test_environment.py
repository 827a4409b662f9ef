"""The files that describe the environment agree, and the scripts that build it do what they say."""

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import asel_lib
from pipeline.check_environment import lacking

REPOSITORY = Path(__file__).parents[1]
SCRIPTS = ("bootstrap.sh", "run_all.sh", "run_tests.sh", ".ci/run")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
LOCK = (REPOSITORY / "requirements.lock").read_text()
WANTED = [*PROJECT["dependencies"], *(one for extra in PROJECT["optional-dependencies"].values() for one in extra)]


def locked() -> dict[str, list[str]]:
    """name -> its versions in the lock; several where they depend on the Python version or the system."""
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==([^ \\]+)", LOCK, re.M):
        versions.setdefault(name, []).append(version)
    return versions


@pytest.mark.parametrize("wanted", WANTED)
def test_lock_holds_what_the_project_asks_for(wanted):
    requirement = Requirement(wanted)
    assert requirement.name in locked(), f"lock lacks {requirement.name}: regenerate it, see its first lines"
    for version in locked()[requirement.name]:
        assert version in requirement.specifier


def test_every_locked_package_has_a_hash():
    packages = re.split(r"^(?=[a-z0-9-]+==)", LOCK, flags=re.M)[1:]
    assert len(packages) > 100
    assert [p.splitlines()[0] for p in packages if "--hash=sha256:" not in p] == []


@pytest.mark.parametrize("file", ["requirements.lock", "environment.yml", "pyproject.toml", *SCRIPTS])
def test_no_address_of_a_package_index_is_written_down(file):
    assert not re.search(r"://|--(extra-)?index-url|--find-links", (REPOSITORY / file).read_text())


def test_lock_tells_how_it_is_regenerated():
    assert "uv pip compile pyproject.toml" in LOCK[:300]


def test_conda_environment_installs_the_same_python_and_lock():
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    plain = [entry for entry in environment["dependencies"] if isinstance(entry, str)]
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    python = next(Requirement(entry) for entry in plain if entry.startswith("python"))
    assert python.specifier == SpecifierSet(PROJECT["requires-python"])
    assert "pip" in plain
    assert pip == ["-r requirements.lock"]


def test_versions_agree():
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert PROJECT["version"] == asel_lib.__version__ == citation["version"]
    assert PROJECT["license"] == citation["license"] == "Apache-2.0"


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_is_valid_bash(script):
    subprocess.run(["bash", "-n", REPOSITORY / script], check=True)
    assert script == "bootstrap.sh" or os.access(REPOSITORY / script, os.X_OK)


def test_the_pipeline_starts_without_torch():
    code = "import sys, pipeline.run; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_this_environment_lacks_nothing():
    assert lacking(("test",)) == []


def test_a_package_that_is_absent_or_too_old_is_named(tmp_path, monkeypatch):
    project = tmp_path / "pyproject.toml"
    project.write_text('[project]\ndependencies = ["no-such-package", "numpy>=999", "pyyaml"]')
    monkeypatch.setattr("pipeline.check_environment.PROJECT", project)
    absent, old = lacking()
    assert absent == "no-such-package"
    assert old.startswith("numpy (") and "numpy>=999" in old


# --- bootstrap.sh, in a copy whose path has a space ---


@pytest.fixture
def clone(tmp_path) -> Path:
    copy = tmp_path / "a clone"
    copy.mkdir()
    for name in ("bootstrap.sh", "run_all.sh", "pyproject.toml", "requirements.lock"):
        shutil.copy(REPOSITORY / name, copy)
    for name in ("pipeline", "asel_lib"):
        (copy / name).symlink_to(REPOSITORY / name)
    return copy


def start(clone: Path, path: Path | None = None, **environment: str) -> subprocess.CompletedProcess:
    """run_all.sh --help from another folder, with no environment active unless `environment` says so."""
    base = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH")}
    base["PATH"] = f"{path}:/usr/bin:/bin" if path else "/usr/bin:/bin"
    return subprocess.run(
        [clone / "run_all.sh", "--help"], cwd="/", env=base | environment, capture_output=True, text=True
    )


def program(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("#!/bin/sh\n" + text)
    file.chmod(0o755)
    return file


def own_environment(clone: Path) -> None:
    """A .venv as a finished build leaves it."""
    program(clone / ".venv/bin/python", f'exec "{sys.executable}" "$@"')
    stamp = subprocess.run(
        ["bash", "-c", ". ./bootstrap.sh; stamp"], cwd=clone, check=True, capture_output=True, text=True
    )
    (clone / ".venv/asel.stamp").write_text(stamp.stdout)


def broken_tools(clone: Path) -> Path:
    """A Python that is new enough and a uv that cannot install anything, and says what it was asked for."""
    program(clone.parent / "tools/python3", f'exec "{sys.executable}" "$@"')
    program(clone.parent / "tools/uv", f'echo "$@" >> "{clone.parent}/uv.log"; [ "$1" = --version ]')
    return clone.parent / "tools"


def test_active_environment_is_used_when_it_has_everything(clone):
    if sys.prefix == sys.base_prefix:
        pytest.skip("these tests run outside of a virtual environment")
    answer = start(clone, VIRTUAL_ENV=sys.prefix)
    assert answer.returncode == 0, answer.stderr
    assert "--profile" in answer.stdout
    assert not (clone / ".venv").exists()


def test_finished_environment_starts_at_once(clone):
    own_environment(clone)
    begun = time.monotonic()
    answer = start(clone)
    assert answer.returncode == 0, answer.stderr
    assert time.monotonic() - begun < 15  # building it takes minutes


@pytest.mark.parametrize("change", ["lock", "place", "interrupted"])
def test_environment_is_built_anew_when_it_is_not_that_of_this_lock(clone, change):
    own_environment(clone)
    tools = broken_tools(clone)
    if change == "lock":
        (clone / "requirements.lock").write_text("numpy==2.0.0\n")
    elif change == "place":
        clone = clone.rename(clone.with_name("moved clone"))
    else:
        (clone / ".venv/asel.stamp").unlink()
    answer = start(clone, tools)
    assert answer.returncode != 0
    assert "Building .venv" in answer.stderr
    assert "pip sync" in (clone.parent / "uv.log").read_text()
    assert not (clone / ".venv/asel.stamp").exists(), "a build that failed must be taken up again"


def test_an_old_python_is_refused_by_name(clone):
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python"):
        program(clone.parent / f"old/{name}", '[ "$1" = --version ] && echo Python 3.9.1 || exit 1')
    answer = start(clone, clone.parent / "old")
    assert answer.returncode != 0
    assert "Python 3.11 or newer is needed; Python 3.9.1" in answer.stderr
