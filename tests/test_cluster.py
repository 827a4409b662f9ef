"""The SLURM profile, on a cluster that is this machine (tests/slurm_stand_in.py)."""

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import nbformat
import pytest
import yaml

from asel_lib import configs
from pipeline import options
from pipeline.plan import make_plan
from pipeline.steps import make_steps, rules_of

REPOSITORY = Path(__file__).parents[1]
COMMANDS = ("sbatch", "srun", "squeue", "sacct", "scontrol", "scancel", "sinfo")
# In place of the notebooks: each writes its outputs (by the paths of the real Snakefile) and takes no time.
STEPS = """
import os
from pathlib import Path
from asel_lib import configs, paths
from asel_lib.identity import ModelKey

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
made = ModelKey(dataset, SCHEDULE, SELECTOR, recipe, seed=seed).name
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
from pipeline.plan import figure_files, make_plan
settings = configs.load(profile)
sets = {name: name for name in (settings.warmup_dataset, *settings.datasets)}
names = figure_files(make_plan(settings, sets, ["dropped"], [0]))
write("results.csv", *(f"figures/{name}" for name in names))
"""


def training(schedule: str, selector: str) -> str:
    return TRAIN.replace("SCHEDULE", repr(schedule)).replace("SELECTOR", selector)


NOTEBOOKS = {
    "00_quickstart": ('checkpoint = ""\nprofile = "demo"', STEPS, "fails('quickstart')"),
    "01_cifar10_warmup": (TRAINING, STEPS, training("warmup", "'learned'")),
    "02_remote_sensing_transfer": (TRAINING, STEPS, training("published", "'learned'")),
    "03_direct_training": (TRAINING + '\nselector = ""', STEPS, training("direct", "selector")),
    "05_benchmark": ('profile = "demo"\ncheckpoint = ""', STEPS, BENCHMARK),
    "06_paper_figures": ('profile = "demo"', STEPS, DRAW),
    "08_claims": ('profile = "demo"\nagent_checkpoint = ""\nmoved_checkpoint = ""', STEPS, 'write("claims.csv")'),
    "09_speed": ('profile = "demo"', STEPS),
    "10_export": ('profile = "demo"', STEPS),
}


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A copy of the project with these notebooks; `fail once at X` or `fail always at X` in it stops one."""
    place = tmp_path / "a copy"
    for name in ("pipeline", "slurm"):
        shutil.copytree(REPOSITORY / name, place / name)
    shutil.copytree(REPOSITORY / "asel_lib", place / "asel_lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(REPOSITORY / "Snakefile", place)
    with (place / "asel_lib/configs/demo.yaml").open("a") as demo:  # whose name has commas
        demo.write('methods: ["line_guided:lines=xdog,choice=top"]\n')
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


WARMED, TUNED = "synthetic_closeups-warmup-learned-s0", "synthetic-published-learned-s0"
GUIDED = "synthetic-direct-line_guided", "lines=xdog", "choice=top-s0"


@pytest.mark.slow
def test_the_profile_runs_every_notebook_as_a_job_tries_again_and_goes_on_past_what_fails(checkout, cluster):
    (checkout / "fail once at quickstart").touch()
    (checkout / f"fail always at benchmark of {TUNED}").touch()
    command = [sys.executable, checkout / "pipeline/run.py", "--recipes", "dropped", "--cluster", "slurm"]
    # The executor looks after 1 s, 12 s, 33 s: a job that takes a little longer is noticed much later.
    command += ["--", "--retries", "1", "--slurm-init-seconds-before-status-checks", "1"]
    answer = subprocess.run(command, capture_output=True, text=True, cwd="/", timeout=400)
    assert answer.returncode == 1, answer.stdout + answer.stderr
    made = submitted(cluster)
    # Nothing else was left to do: figures, claims and report need that benchmark.
    assert {name: [job["state"] for job in tried] for name, tried in made.items()} == {
        f"warmup_wildcards_{WARMED}": ["COMPLETED"],
        f"transfer_wildcards_{TUNED}": ["COMPLETED"],
        f"direct_2_options_wildcards_{'_'.join(GUIDED)}": ["COMPLETED"],
        f"benchmark_wildcards_{TUNED}": ["FAILED", "FAILED"],
        f"benchmark_2_options_wildcards_{'_'.join(GUIDED)}": ["COMPLETED"],
        "quickstart": ["FAILED", "COMPLETED"],
    }
    assert f"RuntimeError: benchmark of {TUNED} failed, as it was told to" in answer.stdout
    assert re.search(r" s  Job \d+ has been submitted with SLURM jobid 1 ", answer.stdout)
    run = checkout / "benchmarks_results/runs/demo"
    assert (run / f"results/{','.join(GUIDED)}.csv").is_file()
    for name in (f"warmup_wildcards_{WARMED}", f"direct_2_options_wildcards_{'_'.join(GUIDED)}"):
        asked = made[name][0]["options"]
        assert (asked["--gpus"], asked["--mem"], asked["-t"], asked["--cpus-per-task"]) == ("1", "32000", "480", "8")
    assert "--exclusive" in made[f"benchmark_wildcards_{TUNED}"][0]["options"]
    assert "--gpus" not in made["quickstart"][0]["options"]


def test_the_profile_gives_resources_to_every_rule_that_trains_or_measures_and_names_no_other():
    shipped, compact = yaml.safe_load((REPOSITORY / "slurm/config.yaml").read_text()), configs.load("compact")
    plan = make_plan(compact, {"aid": "aid"}, ["masked", "anytime"], [0], agentvit=True)
    one_option = make_plan(replace(compact, methods=("glance:choice=top/anytime",)), {"aid": "aid"}, ["masked"], [0])
    steps = make_steps(compact, plan, [0]) + make_steps(compact, one_option, [0])
    rules = {rule.name: step for step in steps for rule in rules_of(step)}
    heavy = {name for name, step in rules.items() if step.purpose != "shows"}
    assert heavy <= set(shipped["set-resources"]) <= set(rules)
    assert heavy <= set(shipped["set-threads"]) <= set(rules)


def test_a_cluster_profile_is_found_by_name_or_path_and_one_that_is_not_there_is_named(tmp_path, capsys):
    assert options.cluster_profile("slurm") == str(REPOSITORY / "slurm")
    shutil.copytree(REPOSITORY / "slurm", tmp_path / "ours")
    assert options.parse(["--cluster", str(tmp_path / "ours")]).cluster == str(tmp_path / "ours")
    with pytest.raises(SystemExit):
        options.parse(["--cluster", "slrum"])
    assert "--cluster is 'slrum': expected slurm, or a folder with a config.yaml" in capsys.readouterr().err
