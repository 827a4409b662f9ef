"""The files that describe the environment agree, and the scripts that build it do what they say."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from fnmatch import fnmatch
from pathlib import Path, PurePath

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

import asel_lib
from pipeline.check_environment import RUN, lacking, wanted

REPOSITORY = Path(__file__).parents[1]
SCRIPTS = ("bootstrap.sh", "run_all.sh", "run_tests.sh", ".ci/run", "binder/postBuild")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
LOCK = (REPOSITORY / "requirements.lock").read_text()
WANTED = [str(requirement) for requirement in wanted(tuple(PROJECT["optional-dependencies"]))]


def locked() -> dict[str, list[str]]:
    """name -> its versions in the lock; several where they depend on the Python version or the system."""
    versions: dict[str, list[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==([^ \\]+)", LOCK, re.M):
        versions.setdefault(name, []).append(version)
    return versions


@pytest.mark.parametrize("asked", WANTED)
def test_lock_holds_what_the_project_asks_for(asked):
    requirement = Requirement(asked)
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
    assert lacking((*RUN, "export", "serve", "test")) == []


def test_the_extra_all_is_all_of_them_but_test():
    extras = set(PROJECT["optional-dependencies"])
    assert extras > {"notebooks", "pipeline", "report", "export", "serve", "cluster", "test", "all"}
    assert {*map(str, wanted(("all",)))} == {*map(str, wanted(tuple(extras - {"test", "all"})))}
    assert {one.name for one in wanted(("report",))} > {one.name for one in wanted(("figures",))}, "extras name extras"


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
    base = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "ASEL_TORCH")}
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


# --- PyTorch for the CPU ---

CPU_UV = """
echo "$@" >> "{folder}/uv.log"
case "$*" in
  --version) ;;
  venv*) mkdir -p "{venv}/bin"
    printf '#!/bin/sh\\ncase "$1" in -) cat >/dev/null ;; *) exec "{python}" "$@" ;; esac\\n' > "{venv}/bin/python"
    chmod +x "{venv}/bin/python" ;;
  *--dry-run*) {reached} ;;
esac
"""


def tools_for(clone: Path, reached: bool = True) -> Path:
    """A Python that is new enough and a uv that installs nothing, and says what it was asked for."""
    folder = clone.parent / "tools"
    text = CPU_UV.format(folder=folder, venv=clone / ".venv", python=sys.executable, reached=["false", "true"][reached])
    program(folder / "python3", f'exec "{sys.executable}" "$@"')
    program(folder / "uv", text)
    return folder


def test_pytorch_for_the_cpu_comes_from_its_own_index_and_the_rest_from_the_lock(clone):
    tools = tools_for(clone)
    answer = start(clone, tools, ASEL_TORCH="cpu")
    assert answer.returncode == 0, answer.stderr
    assert "with PyTorch for the CPU" in answer.stderr
    sync, install = (tools / "uv.log").read_text().splitlines()[-2:]
    assert "pip sync" in sync and "--require-hashes" in sync and sync.endswith(".venv/cpu.lock")
    (torch,), (vision,) = locked()["torch"], locked()["torchvision"]
    assert "--torch-backend cpu --no-deps" in install and install.endswith(f"torch=={torch} torchvision=={vision}")
    rest = (clone / ".venv/cpu.lock").read_text()
    left_out = {*re.findall(r"^([a-z0-9-]+)==", LOCK, re.M)} - {*re.findall(r"^([a-z0-9-]+)==", rest, re.M)}
    assert {"torch", "torchvision", "triton"} < left_out
    assert all(name.startswith(("torch", "triton", "nvidia-", "cuda-")) for name in left_out)
    assert rest.count("--hash=") > 1000

    asked = (tools / "uv.log").read_text()
    for choice in ({}, {"ASEL_TORCH": "cpu"}):  # the choice holds until another is made
        assert start(clone, tools, **choice).returncode == 0
        assert (tools / "uv.log").read_text() == asked
    start(clone, tools, ASEL_TORCH="")
    assert (tools / "uv.log").read_text().removeprefix(asked).rstrip().endswith("requirements.lock")


def test_where_the_index_of_cpu_wheels_cannot_be_reached_the_lock_is_installed_and_a_line_says_so(clone):
    tools = tools_for(clone, reached=False)
    answer = start(clone, tools, ASEL_TORCH="cpu")
    assert answer.returncode == 0, answer.stderr
    assert "index of PyTorch's CPU wheels cannot be reached" in answer.stderr
    assert (tools / "uv.log").read_text().splitlines()[-1].endswith("requirements.lock")


def test_another_torch_than_the_cpus_is_refused_by_name(clone):
    answer = start(clone, tools_for(clone), ASEL_TORCH="rocm")
    assert answer.returncode != 0
    assert "ASEL_TORCH is 'rocm': expected cpu" in answer.stderr


# --- the Dockerfile and Binder, without a daemon ---


def instructions() -> list[tuple[str, str]]:
    """(instruction, its words) of the Dockerfile."""
    lines = (REPOSITORY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]


def context() -> list[str]:
    """The files that `docker build .` sends: all that git knows of or does not ignore, less .dockerignore."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, check=True, capture_output=True, text=True).stdout.splitlines()
    patterns = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[:1] not in ("", "#")]

    def ignored(name: str) -> bool:
        answer = False
        for pattern in patterns:
            plain = pattern.removeprefix("!").removeprefix("**/")
            above = [PurePath(name), *PurePath(name).parents]
            if any(each.match(plain) if "**/" in pattern else fnmatch(str(each), plain) for each in above):
                answer = not pattern.startswith("!")
        return answer

    return [name for name in listed if (REPOSITORY / name).is_file() and not ignored(name)]


def test_the_steps_of_the_dockerfile_work_in_an_empty_folder(tmp_path):
    home, sent, environment = tmp_path / "project", context(), {}
    home.mkdir()
    tools, ran = tools_for(home), []
    for instruction, words in instructions():
        if instruction == "ARG":
            name, _, value = words.partition("=")
            environment[name] = value
        elif instruction == "COPY":
            *sources, target = [word for word in words.split() if not word.startswith("--")]
            for source in sources:
                found = [name for name in sent if source == "." or name == source or name.startswith(f"{source}/")]
                assert found, f"COPY {source}: there is no such file in what is sent"
                for name in found:
                    file = home / (name if source == "." else Path(target, Path(name).name))
                    file.parent.mkdir(parents=True, exist_ok=True)
                    if file.suffix != ".safetensors":
                        shutil.copy(REPOSITORY / name, file)
        elif instruction == "RUN" and "useradd" not in words:
            path = {"PATH": f"{tools}:/usr/bin:/bin"} | environment
            subprocess.run(["bash", "-c", words], cwd=home, env=path, check=True)
        elif instruction in ("ENTRYPOINT", "CMD"):
            ran += json.loads(words)
    assert ran == ["./run_all.sh", "--profile", "demo"]
    built = (tools / "uv.log").read_text()
    answer = start(home, tools, **environment)
    assert answer.returncode == 0 and "--profile" in answer.stdout, answer.stderr
    assert (tools / "uv.log").read_text() == built, "the environment of the first layer serves the whole"
    assert {"saved_models/synthetic_anytime.safetensors", "data/README.md", "notebooks/00_quickstart.ipynb"} <= {*sent}
    assert not [name for name in sent if name.startswith((".git/", "benchmarks_results/runs"))]


def test_binder_builds_the_projects_environment_as_the_kernel_of_the_notebooks(clone):
    shutil.copytree(REPOSITORY / "binder", clone / "binder")
    plain = yaml.safe_load((clone / "binder/environment.yml").read_text())["dependencies"]
    python = next(Requirement(entry.replace("=", "==", 1)) for entry in plain if entry.startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{next(iter(python.specifier)).version}.0")
    tools, server = tools_for(clone), clone.parent / "server"
    own = {"PATH": f"{tools}:/usr/bin:/bin", "CONDA_PREFIX": str(server), "HOME": str(clone.parent)}
    subprocess.run([clone / "binder/postBuild"], cwd=clone, env=own, check=True)
    kernel = json.loads((server / "share/jupyter/kernels/python3/kernel.json").read_text())
    assert "ipykernel_launcher" in kernel["argv"]
    notebooks = [json.loads(file.read_text())["metadata"] for file in REPOSITORY.glob("notebooks/*.ipynb")]
    used = {about["kernelspec"]["name"] for about in notebooks}
    assert used == {"python3"}


def test_an_old_python_is_refused_by_name(clone):
    for name in ("python3", "python3.14", "python3.13", "python3.12", "python3.11", "python"):
        program(clone.parent / f"old/{name}", '[ "$1" = --version ] && echo Python 3.9.1 || exit 1')
    answer = start(clone, clone.parent / "old")
    assert answer.returncode != 0
    assert "Python 3.11 or newer is needed; Python 3.9.1" in answer.stderr
