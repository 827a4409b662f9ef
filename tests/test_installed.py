"""The package as pip installs it: the core alone, no checkout around it, checkpoints fetched by name."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path, PurePath

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
CHECKPOINT = "synthetic_anytime"
BEHAVES = f"""
import asel_lib
from PIL import Image
model = asel_lib.load("{CHECKPOINT}")
(answer,) = model.predict([Image.new("RGB", (128, 128), (90, 120, 60))], keep_ratio=0.2)
assert answer.label in model.classes and 0 < answer.probability <= 1
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """What a build starts from, in a folder of its own: building leaves files beside it."""
    copy = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, copy)
    shutil.copytree(REPOSITORY / "asel_lib", copy / "asel_lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(REPOSITORY / "saved_models", copy / "saved_models", ignore=shutil.ignore_patterns("*.safetensors"))
    return copy


@pytest.fixture(scope="module")
def installed(source) -> Path:
    """A folder with the package alone, as site-packages has it."""
    pytest.importorskip("setuptools", reason="setuptools, which builds the package, is not installed")
    folder = source.with_name("site-packages")
    subprocess.run([sys.executable, "setup.py", "-q", "build_py", "--build-lib", folder], cwd=source, check=True)
    return folder


@pytest.fixture
def run(installed, tmp_path):
    """run(code, **environment) -> the process, of a user whose home is empty, in an empty working folder."""

    def run(code: str, **environment: object) -> subprocess.CompletedProcess:
        own = {key: value for key, value in os.environ.items() if not key.startswith(("ASEL_", "XDG_"))}
        own |= {"PYTHONPATH": str(installed), "HOME": str(tmp_path / "home"), "PYTHONDONTWRITEBYTECODE": "1"}
        own |= {key: str(value) for key, value in environment.items()}
        (tmp_path / "work").mkdir(exist_ok=True)
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path / "work", env=own, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture
def mirror(tmp_path):
    """(folder, address) of a server with one shipped checkpoint."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    for ending in ("json", "safetensors"):
        shutil.copy(REPOSITORY / f"saved_models/{CHECKPOINT}.{ending}", folder)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def files(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def core() -> set[str]:
    """The distributions that `pip install .` brings here: what the core asks for, and what that asks for."""
    left, found = [(Requirement(text), "") for text in PROJECT["project"]["dependencies"]], set()
    while left:
        requirement, extra = left.pop()
        name = canonicalize_name(requirement.name)
        if (requirement.marker and not requirement.marker.evaluate({"extra": extra})) or (name, extra) in found:
            continue
        for wanted in ("", *requirement.extras):
            found.add((name, wanted))
            try:
                left += [(Requirement(text), wanted) for text in requires(name) or ()]
            except PackageNotFoundError:  # of another system
                continue
    return {name for name, _ in found}


def test_the_core_needs_neither_jupyter_nor_snakemake_nor_sphinx_nor_matplotlib():
    for heavy in ("jupyterlab", "ipykernel", "papermill", "snakemake", "sphinx", "matplotlib", "gymnasium", "onnx"):
        assert heavy not in core()
    assert {"torch", "timm", "filelock", "platformdirs"} <= core()


def test_every_file_of_the_package_is_installed(installed):
    tracked = subprocess.run(
        ["git", "ls-files", "asel_lib"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout.split()
    wanted = {name for name in tracked if (REPOSITORY / name).is_file()}
    assert wanted <= files(installed) and {PurePath(name).suffix for name in wanted} > {".py", ".yaml", ".csv", ".html"}


def test_the_installed_package_knows_each_shipped_record(installed):
    known = json.loads((installed / "asel_lib/shipped.json").read_text())
    assert sorted(known) == sorted(file.stem for file in (REPOSITORY / "saved_models").glob("*.json"))
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in known.values())


def test_the_core_loads_predicts_and_trains_where_nothing_else_is_installed(run, tmp_path):
    from PIL import Image

    allowed, provided = core(), packages_distributions()
    blocked = {name for name, by in provided.items() if not {canonicalize_name(each) for each in by} & allowed}
    assert {"matplotlib", "IPython", "snakemake", "sphinx", "gymnasium"} & provided.keys() <= blocked
    for label, colour in (("grass", "green"), ("water", "blue")):
        (tmp_path / "scenes" / label).mkdir(parents=True)
        for number in range(12):
            Image.new("RGB", (32 + number, 32), colour).save(tmp_path / "scenes" / label / f"{number}.png")
    done = run(
        f"""
import sys
BLOCKED = {sorted(blocked)!r}

from importlib.machinery import PathFinder

class Installed:  # finds the packages of the core alone
    find_distributions = PathFinder.find_distributions

    def find_spec(name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else PathFinder.find_spec(name, path, target)

sys.meta_path[sys.meta_path.index(PathFinder)] = Installed
{BEHAVES}
from asel_lib import configs, paths
from asel_lib.errors import ExtraMissing
import os
os.environ["ASEL_ROOT"] = "."
from asel_lib.training import stages
stage = stages.direct(configs.load("smoke"), {str(tmp_path / "scenes")!r}, selector="learned", progress=False)
assert list(paths.run("smoke").glob("checkpoints/*.safetensors"))

import importlib
for module, extra in (("reporting.style", "figures"), ("viewer.explorer", "notebooks")):
    try:
        importlib.import_module(f"asel_lib.{{module}}")
    except ExtraMissing as error:
        assert f"asel[{{extra}}]" in str(error), error
    else:
        raise AssertionError(module)
from asel_lib.export.write import require
try:
    require()
except asel_lib.errors.ExportError as error:
    assert "asel[export]" in str(error)
else:
    raise AssertionError("export")
from asel_lib.training.recipes.agent import AgentRun
try:
    AgentRun(stage.model, recipe_settings=None)
except ExtraMissing as error:
    assert "asel[agent]" in str(error)
else:
    raise AssertionError("agent")
""",
        ASEL_ROOT=REPOSITORY,
        ASEL_CACHE=tmp_path / "cache",
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_without_a_checkout_everything_goes_to_the_users_folders(run, tmp_path):
    places = run(
        "from asel_lib import paths; print(paths.root(), paths.data(), paths.run('demo'), paths.cache(), sep='\\n')"
    ).stdout.split()
    assert len(places) == 4
    assert all(Path(place).is_relative_to(tmp_path / "home") for place in places)
    moved = run("from asel_lib import paths; print(paths.root(), paths.cache())", ASEL_ROOT=tmp_path / "mine").stdout
    assert moved.split() == [str(tmp_path / "mine"), str(tmp_path / "mine/data/.cache")]


def test_a_pyproject_of_others_beside_the_package_makes_no_checkout(run, installed, tmp_path):
    stray = installed / "pyproject.toml"  # some packages leave theirs in site-packages
    stray.write_text('[project]\nname = "other"\n')
    try:
        place = run("from asel_lib import paths; print(paths.root())").stdout.strip()
    finally:
        stray.unlink()
    assert Path(place).is_relative_to(tmp_path / "home")


@pytest.mark.slow
def test_a_shipped_checkpoint_is_fetched_by_name_once_and_checked(run, installed, mirror, tmp_path):
    folder, address = mirror
    before = files(installed)
    missing = run(BEHAVES)
    assert missing.returncode != 0
    assert "CheckpointError" in missing.stderr and "ASEL_MODELS_URL is 'not set'" in missing.stderr
    assert str(tmp_path / "home") in missing.stderr, "it says where to put the files by hand"

    weights = folder / f"{CHECKPOINT}.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    forged = run(BEHAVES, ASEL_MODELS_URL=address)
    assert "CheckpointError" in forged.stderr and "is not the file we know" in forged.stderr

    weights.write_bytes(whole)
    assert (done := run(BEHAVES, ASEL_MODELS_URL=f"{address}/")).returncode == 0, done.stderr[-3000:]
    shutil.rmtree(folder)
    assert (done := run(BEHAVES)).returncode == 0, done.stderr[-3000:]
    assert files(installed) == before, "nothing is written beside the installed package"


@pytest.mark.slow
def test_pip_brings_the_core_alone_into_an_empty_environment(source, tmp_path):
    """Where a registry can be reached; the versions are the lock's."""
    uv = shutil.which("uv") or pytest.skip("uv is not here")
    python, quiet = tmp_path / "venv/bin/python", {"capture_output": True, "text": True}
    subprocess.run([uv, "venv", "--python", sys.executable, tmp_path / "venv"], check=True, **quiet)
    lock = re.sub(r" \\\n(?: +--hash=\S+(?: \\)?\n)+", "\n", (REPOSITORY / "requirements.lock").read_text())
    (tmp_path / "versions.txt").write_text(lock)
    command = [uv, "pip", "install", "--python", python, "--constraint", tmp_path / "versions.txt", source]
    done = subprocess.run(command, **quiet)
    if done.returncode:
        pytest.skip(f"no registry can be reached: {done.stderr[-300:]}")
    listed = subprocess.run([uv, "pip", "list", "--python", python], check=True, **quiet).stdout
    assert not re.search(r"(?m)^(jupyter|ipykernel|snakemake|sphinx|matplotlib|onnx)", listed)
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"ASEL_ROOT": str(REPOSITORY)}
    done = subprocess.run([python, "-c", BEHAVES], cwd=tmp_path, env=own, **quiet)
    assert done.returncode == 0, done.stderr[-3000:]
