"""The SLURM profile, on a cluster that is this machine (tests/slurm_stand_in.py)."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
import yaml

from pipeline import run

REPOSITORY = Path(__file__).parents[1]
COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scontrol", "scancel", "sinfo")
# In place of the notebooks: each writes its outputs (by the paths of the real Snakefile) and takes no time.
STEPS = """
import os
from pathlib import Path
from asel_lib import paths
from asel_lib.paths import checkpoint_name

run = paths.run(profile)
def write(*files):
    for file in files:
        (run / file).parent.mkdir(parents=True, exist_ok=True)
        (run / file).write_text("there")
def fails(what):
    for often in ("once", "always"):
        if (file := paths.root() / f"fail {often} at {what}").exists():
            if often == "once":
                file.unlink()
            raise RuntimeError(f"{what} failed, as it was told to")
"""
TRAINING = 'profile = "demo"\ndataset = ""\nrecipe = "dropped"\nseed = 0\nretrain = False'
TRAIN = """
made = checkpoint_name(dataset, STAGE, recipe, seed)
fails(made)
write(*(f"checkpoints/{made}{end}" for end in (".safetensors", ".json", "_history.csv")))
"""
BENCHMARK = """
fails(f"benchmark of {checkpoint}")
write(f"results/{checkpoint}.csv", f"confusion/{checkpoint}.csv", f"patches/{checkpoint}.csv")
write(f"answers/{checkpoint}.csv.gz")
write(*(f"figures/{checkpoint}_kept_patches.{end}" for end in ("png", "pdf")))
"""
DRAW = """
from asel_lib.reporting import figures, paper
names = [f"synthetic_{name}" for name in figures.FIGURES] + ["gflops_scaling", *paper.FIGURES]
write("results.csv", *(f"figures/{name}.{end}" for name in names for end in ("png", "pdf", "csv")))
"""
NOTEBOOKS = {
    "00_quickstart": ('checkpoint = ""\nprofile = "demo"', STEPS, "fails('quickstart')"),
    "01_cifar10_warmup": (TRAINING, STEPS, TRAIN.replace("STAGE", "'warmup'")),
    "02_remote_sensing_transfer": (TRAINING, STEPS, TRAIN.replace("STAGE", "'finetuned'")),
    "05_benchmark": ('profile = "demo"\ncheckpoint = ""', STEPS, BENCHMARK),
    "06_paper_figures": ('profile = "demo"', STEPS, DRAW),
    "08_claims": ('profile = "demo"\nagent_checkpoint = ""\nmoved_checkpoint = ""', STEPS, 'write("claims.csv")'),
}


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A copy of the project with these notebooks; `fail once at X` or `fail always at X` in it stops one."""
    place = tmp_path / "a copy"
    for name in ("pipeline", "slurm"):
        shutil.copytree(REPOSITORY / name, place / name)
    shutil.copytree(REPOSITORY / "asel_lib", place / "asel_lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "Snakefile", place)
    (place / "notebooks").mkdir()
    for name, (parameters, *cells) in NOTEBOOKS.items():
        made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in (parameters, *cells)])
        made.cells[0].metadata["tags"] = ["parameters"]
        made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(made, place / "notebooks" / f"{name}.ipynb")
    for variable, folder in {"ASEL_ROOT": "", "ASEL_DATA": "data", "ASEL_CACHE": "cache"}.items():
        monkeypatch.setenv(variable, str(place / folder))
    monkeypatch.setenv("PYTHONPATH", str(place))
    return place


@pytest.fixture
def cluster(tmp_path, monkeypatch) -> Path:
    """Its commands on the path; -> a folder with a file for each job."""
    bin, jobs = tmp_path / "bin", tmp_path / "jobs"
    bin.mkdir()
    jobs.mkdir()
    for name in COMMANDS:
        program = f'#!/bin/sh\nexec {sys.executable} -S -E {REPOSITORY}/tests/slurm_stand_in.py {name} "$@"\n'
        (bin / name).write_text(program)
        (bin / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("STAND_IN_SLURM", str(jobs))
    return jobs


def submitted(jobs: Path) -> dict[str, list[dict]]:
    """rule and wildcards -> the jobs that were submitted for it, one after the other."""
    found: dict[str, list[dict]] = {}
    for file in sorted(jobs.glob("*.json"), key=lambda file: int(file.stem)):
        job = json.loads(file.read_text())
        found.setdefault(job["options"]["--comment"].removeprefix("rule_"), []).append(job)
    return found


@pytest.mark.slow
def test_the_profile_runs_every_notebook_as_a_job_tries_again_and_goes_on_past_what_fails(checkout, cluster):
    (checkout / "fail once at quickstart").touch()
    (checkout / "fail always at benchmark of synthetic_finetuned_dropped").touch()
    command = [sys.executable, checkout / "pipeline/run.py", "--recipes", "dropped", "--cluster", "slurm"]
    # The executor looks after 1 s, 12 s, 33 s: a job that takes a little longer is noticed much later.
    command += ["--", "--retries", "1", "--slurm-init-seconds-before-status-checks", "1"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=400)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    made = submitted(cluster)
    # Nothing else was left to do: figures, claims and report need that benchmark.
    assert {name: [job["state"] for job in tried] for name, tried in made.items()} == {
        "warmup_wildcards_synthetic_closeups_warmup_dropped": ["COMPLETED"],
        "transfer_wildcards_synthetic_finetuned_dropped": ["COMPLETED"],
        "benchmark_wildcards_synthetic_finetuned_dropped": ["FAILED", "FAILED"],
        "quickstart": ["FAILED", "COMPLETED"],
    }
    assert "RuntimeError: benchmark of synthetic_finetuned_dropped failed, as it was told to" in answer.stdout
    assert re.search(r" s  Job \d+ has been submitted with SLURM jobid 1 ", answer.stdout)
    asked = made["warmup_wildcards_synthetic_closeups_warmup_dropped"][0]["options"]
    assert (asked["--gpus"], asked["--mem"], asked["-t"], asked["--cpus-per-task"]) == ("1", "32000", "480", "8")
    assert "--exclusive" in made["benchmark_wildcards_synthetic_finetuned_dropped"][0]["options"]
    assert "--gpus" not in made["quickstart"][0]["options"]


def test_the_profile_names_rules_that_there_are():
    profile = yaml.safe_load((REPOSITORY / "slurm/config.yaml").read_text())
    rules = set(re.findall(r"^rule (\w+):", (REPOSITORY / "Snakefile").read_text(), re.M))
    assert set(profile["set-resources"]) | set(profile["set-threads"]) <= rules


def test_a_cluster_profile_is_found_by_name_or_path_and_one_that_is_not_there_is_named(tmp_path, capsys):
    assert run.cluster_profile("slurm") == str(REPOSITORY / "slurm")
    shutil.copytree(REPOSITORY / "slurm", tmp_path / "ours")
    assert run.parse(["--cluster", str(tmp_path / "ours")]).cluster == str(tmp_path / "ours")
    with pytest.raises(SystemExit):
        run.parse(["--cluster", "slrum"])
    assert "--cluster is 'slrum': expected slurm, or a folder with a config.yaml" in capsys.readouterr().err
