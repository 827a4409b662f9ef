"""run_all.sh behind its bootstrap: arguments, one notebook, the whole of profile smoke."""

import argparse
import fcntl
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from asel_lib import configs
from asel_lib.errors import DatasetError, DatasetMissing
from asel_lib.identity import ModelKey
from pipeline import notebook, options, plan, preview, run, steps
from pipeline.folder import settle_times
from tools import determinism

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture
def root(tmp_path, monkeypatch) -> Path:
    """An empty place for results and data, so that no test reads or writes those of this checkout."""
    for variable, folder in {"ASEL_ROOT": "r", "ASEL_DATA": "r/data", "ASEL_CACHE": "r/cache"}.items():
        monkeypatch.setenv(variable, str(tmp_path / folder))
    monkeypatch.setenv("PYTHONPATH", str(REPOSITORY))
    return tmp_path / "r"


def pipeline(checkout: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, checkout / "pipeline/run.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd="/")


# --- arguments ---


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--profile", "dmo"], ["'dmo'", "Did you mean 'demo'?"]),
        (["--datasets", "synthetic,sintetic"], ["'sintetic'", "Did you mean 'synthetic'?"]),
        (["--datasets", ","], ["--datasets", "','"]),
        (["--recipes", "droped"], ["'droped'", "Did you mean 'dropped'?"]),
        (["--seeds", "0,x"], ["seed", "'x'"]),
        (["--seeds", "-1"], ["seed", "'-1'"]),
        (["--cores", "0"], ["cores", "'0'"]),
        (["--cores", "many"], ["cores", "'many'"]),
    ],
)
def test_wrong_argument_is_named_and_nothing_starts(arguments, named, root, capsys):
    with pytest.raises(SystemExit) as stopped:
        run.main(arguments)
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert all(part in said for part in named), said
    assert not root.exists()


def test_the_script_itself_ends_with_an_error_in_words(root):
    answer = pipeline(REPOSITORY, "--sedes", "1")
    assert answer.returncode == 2 and "--sedes" in answer.stderr and "Traceback" not in answer.stderr


def asked_for(datasets: list[str], **other) -> argparse.Namespace:
    default = {"strict": False, "dry_run": False, "named": True}
    return argparse.Namespace(datasets=datasets, **default | other)


def test_a_data_set_that_is_not_there_is_skipped_with_one_line(root, capsys):
    found, complete = options.present_datasets(configs.load("demo"), asked_for(["synthetic", "ucmerced"]))
    assert list(found) == ["synthetic_closeups", "synthetic"]
    assert not complete, "asked for by name, so the run must not end as if all were there"
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("skipped: ucmerced") and str(root / "data/ucmerced") in line


def test_a_profile_without_one_of_its_own_data_sets_is_still_complete(root, capsys):
    asked = asked_for(["synthetic", "ucmerced"], named=False)
    assert options.present_datasets(configs.load("demo"), asked)[1]


def test_nothing_starts_without_the_set_all_else_starts_from(root):
    with pytest.raises(DatasetMissing, match="aid"):
        options.present_datasets(configs.load("demo"), asked_for(["aid"]))


def test_strict_makes_a_missing_data_set_an_error_before_anything_starts(root, capsys):
    assert run.main(["--datasets", "synthetic,ucmerced", "--strict"]) == 1
    assert "ucmerced" in capsys.readouterr().err
    assert not root.exists()


def image_files(folder: Path, **counts: int) -> str:
    """Empty files of images in a folder of classes -> the folder."""
    for label, count in counts.items():
        (folder / label).mkdir(parents=True)
        for number in range(count):
            (folder / label / f"{number}.jpg").touch()
    return str(folder)


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_class_that_is_too_small_to_be_split_is_named_before_anything_starts(root, tmp_path, capsys, dry_run):
    folder = image_files(tmp_path / "scenes", many=9, few=4)
    assert run.main(["--datasets", folder, *["--dry-run"] * dry_run]) == 1
    assert "too few different images to split in few (4): expected at least 5 a class" in capsys.readouterr().err
    assert not root.exists()


def test_a_folder_of_images_is_asked_for_by_its_path(root, tmp_path):
    folder = image_files(tmp_path / "My Scenes", a=5, b=5)
    found, _ = options.present_datasets(configs.load("demo"), asked_for([folder]))
    assert found["my_scenes"] == folder
    made = plan.make_plan(configs.load("demo"), found, ["masked"], [0])
    assert [(t.name, t.source) for t in made.of(plan.TRANSFER)] == [("my_scenes_finetuned", folder)]


def test_two_folders_of_one_name_are_refused(root, tmp_path):
    folders = [tmp_path / place / "scenes" for place in ("x", "y")]
    for folder in folders:
        image_files(folder, a=5, b=5)
    with pytest.raises(DatasetError, match="x/scenes and .*y/scenes would both be called 'scenes'"):
        options.present_datasets(configs.load("demo"), asked_for([str(folder) for folder in folders]))


def test_a_second_run_of_the_same_profile_is_refused(root, capsys):
    folder = root / "benchmarks_results/runs/smoke"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run.main(["--profile", "smoke"]) == 1
    assert "another run of profile 'smoke'" in capsys.readouterr().err


@pytest.mark.slow
def test_dry_run_lists_everything_and_why_without_data(root):
    answer = pipeline(REPOSITORY, "--profile", "compact", "--dry-run", "--seeds", "0,3")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "not there yet: cifar10" in answer.stdout
    for step in ("01_cifar10_warmup cifar10_warmup", "05_benchmark aid-published-learned-masked-s3", "00_quickstart"):
        assert re.search(rf"would run  {step}\n( .*\n)?           Missing output files: ", answer.stdout), step
    assert "is trained: there is no such checkpoint yet" in answer.stdout
    assert re.search(r"checkpoints: \d+ trained, \d+ measured\); nothing was started\.", answer.stdout)
    assert not list(root.rglob("*.ipynb"))


def test_a_dry_run_says_which_checkpoint_would_be_reused_and_which_would_not(root, monkeypatch, tmp_path):
    key = ModelKey("synthetic", "published", "learned", "masked")
    training = plan.Training(key, plan.TRANSFER, "synthetic")
    assert preview.at_hand(training, "demo") == (None, "there is no such checkpoint yet")
    shipped = root / "saved_models/synthetic_finetuned.safetensors"
    shipped.parent.mkdir(parents=True)
    shipped.touch()
    shipped.with_suffix(".json").write_text(json.dumps({"profile": "demo"}))
    assert preview.at_hand(training, "demo")[0] == shipped
    file, why = preview.at_hand(training, "smoke")
    assert file is None and "synthetic_finetuned.safetensors is of profile 'demo'" in why


# --- the plan ---


def names(trainings) -> list[str]:
    return [training.name for training in trainings]


def test_each_transfer_starts_from_the_warmup_of_its_recipe_and_seed():
    sets = {name: name for name in ("cifar10", "aid", "rsscn7")}
    made = plan.make_plan(configs.load("compact"), sets, ["masked", "dropped", "anytime"], [0, 1])
    warmups, transfers = made.of(plan.WARMUP), made.of(plan.TRANSFER)
    assert len(warmups) == 6 and len(transfers) == 12
    starts = {training.name: training.start for training in transfers}
    assert starts["aid_finetuned"].name == "cifar10_warmup"
    assert starts["aid_anytime"].name == "cifar10_anytime"
    assert starts["rsscn7-published-learned-s1"].name == "cifar10-warmup-learned-s1"
    assert set(starts.values()) == {training.key for training in warmups}
    assert made.quickstart == "aid_anytime" and made.moved == "aid_finetuned"


def test_each_method_of_the_profile_is_a_training_that_asks_its_notebook_for_it():
    compact = configs.load("compact")
    made = plan.make_plan(compact, {"cifar10": "cifar10", "pictures": "/my/pictures"}, ["masked"], [0, 1])
    asked = {training.name: training.parameters for training in made.of(plan.DIRECT)}
    # On the warm-up set too, which this profile says how to train on.
    assert len(asked) == len(compact.methods) * 2 * 2 == 16 * 2 * 2
    assert "cifar10-direct-glance-anytime-s1" in asked
    common = {"dataset": "/my/pictures", "seed": 1}
    guided = {"selector": "line_guided:lines=sobel,choice=top", "recipe": "dropped"}
    assert asked["pictures-direct-line_guided,lines=sobel,choice=top-s1"] == common | guided
    assert asked["pictures-direct-learned-s1"] == common | {"selector": "learned", "recipe": "dropped"}
    assert asked["pictures-direct-learned-masked-s1"] == common | {"selector": "learned", "recipe": "masked"}
    assert set(asked) <= set(names(made.benchmarked))
    assert not plan.make_plan(configs.load("demo"), {"synthetic_closeups": ""}, ["masked"], [0]).of(plan.DIRECT)


def test_agentvit_is_trained_where_the_profile_or_the_user_asks_for_it():
    sets = {"synthetic_closeups": "synthetic_closeups", "synthetic": "synthetic"}
    demo = configs.load("demo")
    without = plan.make_plan(demo, sets, ["dropped"], [0])
    assert not without.of(plan.AGENTVIT) and without.told == "agentvit_synthetic", "the shipped one"
    made = plan.make_plan(demo, sets, ["dropped"], [0, 1], agentvit=True)
    asked = {training.name: training.parameters for training in made.of(plan.AGENTVIT)}
    assert asked["agentvit_synthetic"] == {"dataset": "synthetic", "seed": 0, "setting": "published"}
    assert asked["synthetic-direct-agent-s1"] == {"dataset": "synthetic", "seed": 1, "setting": "equal"}
    beside = {"synthetic-direct-learned-s0", "synthetic-direct-learned-masked-s0", "synthetic-direct-random-s1"}
    assert beside <= set(names(made.of(plan.DIRECT)))
    assert set(asked) <= set(names(made.benchmarked)) and made.told == "agentvit_synthetic"
    compact = plan.make_plan(configs.load("compact"), {"cifar10": "", "aid": "aid"}, ["masked"], [0])
    assert names(compact.of(plan.AGENTVIT)) == ["agentvit_aid", "aid-direct-agent-s0"]


def test_anytime_has_its_checkpoints_and_its_notebook():
    demo = configs.load("demo")
    made = plan.make_plan(demo, {"synthetic": "synthetic"}, ["dropped", "anytime"], [0, 1])
    assert names(t for t in made.of(plan.TRANSFER) if t.key.recipe == "anytime") == [
        "synthetic_anytime",
        "synthetic-published-glance-anytime-s1",
    ]
    assert made.quickstart == "synthetic_anytime" and made.anytime == {"synthetic": "synthetic_anytime"}
    executed = steps.executed_notebooks(steps.make_steps(demo, made, [0, 1]))
    assert [name for name in executed if "07" in name] == ["notebooks/07_anytime_synthetic.ipynb"]
    compact = plan.make_plan(configs.load("compact"), {"aid": "aid"}, ["masked"], [0])
    assert compact.anytime == {"aid": "aid-direct-glance-anytime-s0"}, "where no transfer has the recipe"


def test_a_whole_run_is_in_reading_order_and_leaves_out_what_is_asked_for_alone():
    demo = configs.load("demo")
    made = plan.make_plan(demo, {"synthetic": "synthetic"}, ["anytime"], [0])
    described = steps.make_steps(demo, made, [0])
    numbers = [name.removeprefix("notebooks/")[:2] for name in steps.executed_notebooks(described)]
    assert numbers == sorted(numbers) and not {"09", "10"} & set(numbers)
    assert steps.executed_notebooks(described, "speed") == ["notebooks/09_speed.ipynb"]
    assert set(options.ALONE) == {step.rule for step in described if step.alone}
    assert all(
        table in step.outputs for step in described for rule, table in options.ALONE.items() if rule == step.rule
    )


def test_the_wildcards_of_a_rule_hold_no_comma_and_lead_back_to_the_job():
    """Snakemake names a job on a cluster by name=value,name=value."""
    compact = configs.load("compact")
    made = plan.make_plan(compact, {"cifar10": "cifar10", "aid": "aid"}, ["masked"], [0])
    described = steps.make_steps(compact, made, [0])
    for step in described:
        left = set(step.jobs)
        for rule in steps.rules_of(step):
            for name in [name for name in left if name.count(",") == rule.pattern.count(",")]:
                given = dict(zip(rule.wildcards, name.split(","), strict=True)) if name else {}
                assert rule.job(given) is step.jobs[name]
                assert rule.pattern.format(**given) == name
                assert all(value in rule.wildcards[place] for place, value in given.items())
                left.remove(name)
        assert not left


def test_the_comparison_with_agentvit_is_with_both_recipes_unless_one_is_asked_for():
    assert options.parse(["--agentvit"]).recipes == ["masked", "dropped", "anytime"]
    assert options.parse([]).recipes == ["dropped", "anytime"]
    assert options.parse(["--agentvit", "--recipes", "dropped"]).recipes == ["dropped"]


# --- one notebook ---


def written(folder: Path, *cells: str, name: str = "steps.ipynb") -> Path:
    """A notebook whose first cell holds the parameters."""
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.cells[0].metadata["tags"] = ["parameters"]
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(made, folder / name)
    return folder / name


def execute(source: Path, output: Path, parameters: dict) -> subprocess.CompletedProcess:
    command = [sys.executable, REPOSITORY / "pipeline/notebook.py", source, output, json.dumps(parameters)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_notebook_runs_in_this_python_and_leaves_one_file(root, tmp_path):
    source = written(
        tmp_path, "keep_ratio = 0.5\npolicies = []", "import sys\nprint(keep_ratio, policies, sys.executable)"
    )
    answer = execute(source, tmp_path / "out/done.ipynb", {"keep_ratio": 1, "policies": ["random"]})
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"1 ['random'] {sys.executable}" in answer.stdout
    assert f"{notebook.PROGRESS}done: done in" in answer.stdout
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["done.ipynb"]


def test_a_sign_of_life_is_what_the_notebook_said_last_and_not_a_log_of_torch():
    beat = notebook.Heartbeat("05")
    beat.write("accuracy:  50%|#####\raccuracy: 100%|##########\n")
    beat.write("W1122 21:29:06.606000 22234 torch/utils/cpp_extension.py:183] No CUDA runtime is found\n")
    assert beat.last == "accuracy: 100%|##########"


def test_why_a_checkpoint_is_or_is_not_reused_is_told_at_once(capsys):
    beat = notebook.Heartbeat("02_transfer")
    why = "not reused: saved_models/aid_finetuned.safetensors was made with other settings"
    beat.write(f"{why}\nepoch 1/8: loss 0.4\n")
    told = [line for line in capsys.readouterr().out.splitlines() if line.startswith(notebook.PROGRESS)]
    assert told == [f"{notebook.PROGRESS}02_transfer: {why}"]


def test_a_kernel_that_is_killed_is_a_failed_notebook_with_its_cell(root, tmp_path):
    """As the system does where memory runs out."""
    source = written(tmp_path, "seed = 0", "print('before')", "import os\nos.kill(os.getpid(), 9)")
    answer = execute(source, tmp_path / "out/done.ipynb", {})
    assert answer.returncode == 1
    assert "done: FAILED" in answer.stdout and "the kernel died" in answer.stdout and "memory" in answer.stdout
    assert "os.kill(os.getpid(), 9)" in answer.stdout
    assert not (tmp_path / "out/done.ipynb").exists()


def test_files_from_the_future_become_of_now_in_their_order(tmp_path):
    names = ["old", "a", "b", "c"]
    for file in names:
        (tmp_path / file).touch()
    year, now = 31_536_000, time.time()
    for file, ahead in (("old", -year), ("c", year), ("a", 2 * year), ("b", 3 * year)):
        os.utime(tmp_path / file, (now + ahead, now + ahead))
    (tmp_path / ".snakemake").mkdir()
    (tmp_path / ".lock").touch()
    assert settle_times(tmp_path, tmp_path / ".lock") == 3
    times = {file: (tmp_path / file).stat().st_mtime_ns for file in names}
    assert sorted(names, key=times.get) == ["old", "c", "a", "b"]
    assert max(times.values()) < (time.time() + 1) * 1e9
    assert settle_times(tmp_path, tmp_path / ".lock") == 0


def test_without_its_server_a_warm_kernel_is_a_plain_one(root, tmp_path, monkeypatch):
    monkeypatch.setenv("ASEL_WARM_KERNELS", str(tmp_path / "nobody listens"))
    source = written(tmp_path, "keep_ratio = 0.5", "import sys\nprint(keep_ratio, sys.executable)")
    answer = execute(source, tmp_path / "out/done.ipynb", {"keep_ratio": 1})
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert f"1 {sys.executable}" in answer.stdout


def test_a_notebook_has_no_warning_of_torch_that_there_is_no_gpu(root, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_HOME", "/usr")
    monkeypatch.setenv("ASEL_WARM_KERNELS", "")
    source = written(tmp_path, "seed = 0", "import torch.utils.cpp_extension")
    answer = execute(source, tmp_path / "out/done.ipynb", {})
    assert answer.returncode == 0 and "No CUDA runtime" not in answer.stdout, answer.stdout


def test_a_failed_notebook_can_be_read_and_is_not_taken_for_done(root, tmp_path):
    source = written(tmp_path, "seed = 0", "print('before')", "raise RuntimeError('loss is nan')")
    out = root / "benchmarks_results/runs/demo/notebooks"
    answer = execute(source, out / "step.ipynb", {})
    assert answer.returncode == 1
    assert "In cell [3]:" in answer.stdout and "RuntimeError: loss is nan" in answer.stdout
    assert not (out / "step.ipynb").exists()
    assert "before" in (out / "step.failed.ipynb").read_text()  # as pipeline/report looks for it
    assert "RuntimeError: loss is nan" in (out / "step.failed.txt").read_text()


# --- whole runs, of notebooks that take no time ---

STEPS = """
import json, os, sys, time
from pathlib import Path
from asel_lib import configs, paths
from asel_lib.identity import ModelKey

run = paths.run(profile)
def write(*files):
    for file in files:
        (run / file).parent.mkdir(parents=True, exist_ok=True)
        (run / file).write_text("there")
"""
TRAIN = """
made = ModelKey(dataset, SCHEDULE, SELECTOR, recipe, seed=seed).name
if (paths.root() / f"hang at {made}").exists():
    time.sleep(600)
write(*(f"checkpoints/{made}{end}" for end in (".safetensors", ".json", "_history.csv")))
"""
BENCHMARK = """
if False:
    from asel_lib.evaluation import timing
    from asel_lib.reporting import style
if (paths.root() / f"fail at {checkpoint}").exists():
    raise RuntimeError("the benchmark failed")
write(*(f"{kind}/{checkpoint}.csv" for kind in ("results", "confusion", "patches")))
write(f"answers/{checkpoint}.csv.gz")
write(*(f"figures/{checkpoint}_kept_patches.{end}" for end in ("png", "pdf")))
"""
DRAW = """
if False:
    from asel_lib.reporting import style
from pipeline.plan import figure_files, make_plan
settings = configs.load(profile)
sets = {name: name for name in (settings.warmup_dataset, *settings.datasets)}
names = figure_files(make_plan(settings, sets, list(settings.recipes), [0]))
write("results.csv", *(f"figures/{name}" for name in names))
"""
QUICKSTART = """
if False:
    from asel_lib.reporting import style
from asel_lib import paths
from pathlib import Path
assert Path(checkpoint).is_file()
"""
# The real one takes as long as three of these notebooks.
REPORT = """
import sys
from pathlib import Path

def write_report(executed):
    page = executed[0].resolve().parents[1] / "index.html"
    page.write_text("there")
    return page

if __name__ == "__main__":
    write_report([Path(name) for name in sys.argv[1:]])
"""
TRAINING = 'profile = "demo"\ndataset = ""\nrecipe = "dropped"\nseed = 0\nretrain = False'
CLAIMS = "if False:\n    from asel_lib.reporting import style\nwrite('claims.csv')"
TOP = "line_guided:lines=xdog,choice=top"


def training(schedule: str, selector: str) -> str:
    return TRAIN.replace("SCHEDULE", repr(schedule)).replace("SELECTOR", selector)


@pytest.fixture
def copy(root, monkeypatch) -> Path:
    """A checkout whose notebooks only write their files; `hang at X` or `fail at X` in it stops them."""
    place = root.with_name("a copy")
    shutil.copytree(REPOSITORY / "pipeline", place / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.rmtree(place / "pipeline/report")
    (place / "pipeline/report").mkdir()
    for name in ("__init__.py", "__main__.py"):
        (place / "pipeline/report" / name).write_text(REPORT)
    shutil.copy(REPOSITORY / "Snakefile", place)
    shutil.copytree(REPOSITORY / "asel_lib", place / "asel_lib", ignore=shutil.ignore_patterns("__pycache__"))
    demo = place / "asel_lib/configs/demo.yaml"
    there = demo.read_text().replace("recipes: [dropped, anytime]", "recipes: [dropped]")
    demo.write_text(there.replace("benchmark_warmup: false", "benchmark_warmup: true") + f'methods: ["{TOP}"]\n')
    (place / "notebooks").mkdir()
    for name, parameters, *cells in (
        ("00_quickstart", 'checkpoint = ""', QUICKSTART),
        ("01_cifar10_warmup", TRAINING, STEPS, training("warmup", "'learned'")),
        ("02_remote_sensing_transfer", TRAINING, STEPS, training("published", "'learned'")),
        ("03_direct_training", TRAINING + '\nselector = ""', STEPS, training("direct", "selector")),
        ("05_benchmark", 'profile = "demo"\ncheckpoint = ""\nratios = []', STEPS, BENCHMARK),
        ("06_paper_figures", 'profile = "demo"\nsource = ""', STEPS, DRAW),
        ("08_claims", 'profile = "demo"\nagent_checkpoint = moved_checkpoint = ""', STEPS, CLAIMS),
        ("09_speed", 'profile = "demo"', STEPS),
        ("10_export", 'profile = "demo"', STEPS),
    ):
        written(place / "notebooks", parameters, *cells, name=f"{name}.ipynb")
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.setenv("ASEL_ROOT", str(place))
    monkeypatch.setenv("ASEL_WARM_KERNELS", "")  # these notebooks import nothing that is worth it
    return place


WARMED, TUNED = "synthetic_closeups-warmup-learned-s0", "synthetic-published-learned-s0"
GUIDED = "synthetic-direct-line_guided,lines=xdog,choice=top-s0"
SHORT = {WARMED: "warmup", TUNED: "tuned", GUIDED: "guided"}


def started(answer: subprocess.CompletedProcess) -> list[str]:
    """The notebooks that were started, by number and model, e.g. "05 warmup"."""
    found = re.findall(r" s  (\S+): started$", answer.stdout, re.M)
    return sorted(" ".join([name[:2], *(short for model, short in SHORT.items() if model in name)]) for name in found)


TRAININGS, BENCHMARKS = ["01 warmup", "02 tuned", "03 guided"], ["05 guided", "05 tuned", "05 warmup"]
ALL = ["00", *TRAININGS, *BENCHMARKS, "06", "08"]


@pytest.mark.slow
def test_only_what_changed_runs_again(copy):
    first = pipeline(copy)
    assert first.returncode == 0, first.stdout + first.stderr
    assert started(first) == ALL

    for file in copy.rglob("*.py"):  # as after a git clone or checkout: newer, but the same
        file.touch()
    begun = time.monotonic()
    assert started(pipeline(copy)) == []
    assert time.monotonic() - begun < 90  # also beside other tests

    folder = copy / "benchmarks_results/runs/demo"
    (folder / f"results/{TUNED}.csv").unlink()
    assert started(pipeline(copy)) == ["05 tuned", "06", "08"]

    checkpoint = folder / f"checkpoints/{WARMED}.safetensors"
    add(copy / "asel_lib/paths.py", "CHANGED = True")
    inode = checkpoint.stat().st_ino
    assert started(pipeline(copy)) == ALL
    assert checkpoint.stat().st_ino == inode, "deleted before its notebook could see that it still matches"


def add(file: Path, line: str) -> None:
    file.write_text(f"{file.read_text()}{line}\n")


def wanted(checkout: Path) -> list[str]:
    """The notebooks that a dry run lists, as `started` has them, and "report"."""
    answer = pipeline(checkout, "--dry-run")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    found = re.findall(r"^would run  (\S+)(?: (\S+))?", answer.stdout, re.M)
    return sorted(
        "report" if name == "the" else " ".join(filter(None, [name[:2], SHORT.get(model)])) for name, model in found
    )


@pytest.mark.slow
def test_what_runs_again_after_a_change_is_what_uses_the_changed_code(copy):
    assert pipeline(copy).returncode == 0
    style, timing = copy / "asel_lib/reporting/style.py", copy / "asel_lib/evaluation/timing.py"
    add(style, "# a comment")
    timing.write_text('"""Another docstring."""\n' + timing.read_text().partition('"""\n')[2])
    add(copy / "asel_lib/configs/demo.yaml", "# a comment")
    assert wanted(copy) == []
    before = style.read_text()
    add(style, "CHANGED = True")
    assert wanted(copy) == ["00", "06", "08", "report"], "no training and no benchmark"
    style.write_text(before)
    add(timing, "CHANGED = True")
    assert set(BENCHMARKS) <= set(wanted(copy)) and not set(TRAININGS) & set(wanted(copy))


@pytest.mark.slow
def test_a_clock_that_went_back_neither_hides_a_change_nor_makes_all_of_it_run_again(copy):
    assert pipeline(copy).returncode == 0
    folder, year = copy / "benchmarks_results/runs/demo", 31_536_000
    for file in folder.rglob("*"):  # all of the run was made while the clock was a year ahead
        if file.is_file() and ".snakemake" not in file.parts:
            os.utime(file, (file.stat().st_mtime + year, file.stat().st_mtime + year))
    for file in copy.rglob("*.py"):  # and so was the library
        os.utime(file, (time.time() + year, time.time() + year))
    again = pipeline(copy)
    assert started(again) == [] and "the clock went back" in again.stdout

    changed = copy / "asel_lib/paths.py"  # and now it is a year behind
    add(changed, "CHANGED = True")
    os.utime(changed, (time.time() - year, time.time() - year))
    assert started(pipeline(copy)) == ALL
    assert started(pipeline(copy)) == []


@pytest.mark.slow
def test_two_runs_started_at_once_on_one_folder_are_one_run_and_a_refusal(copy):
    command = [sys.executable, copy / "pipeline/run.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/") as first:
        next(line for line in first.stdout if "started" in line)
        second = pipeline(copy)
        assert second.returncode == 1 and started(second) == []
        assert "another run of profile 'demo' is at work in" in second.stderr and "wait, or stop it" in second.stderr
        said, _ = first.communicate()
    assert first.returncode == 0, said


@pytest.mark.soak
@pytest.mark.slow
def test_a_run_killed_at_any_moment_again_and_again_goes_on_to_its_end(copy):
    """kill -9 of all its processes at once, somewhere between two notebooks or in the midst of one."""
    chance, done = random.Random(0), []
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, copy / "pipeline/run.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd="/",
        ) as process:
            wanted, seen = chance.randint(1, 3), 0  # lines of progress, and then some tenths of a second
            for line in process.stdout:
                done += re.findall(r"s  (\S+): done in", line)
                seen += "started" in line or "done in" in line
                if seen == wanted:
                    break
            time.sleep(chance.uniform(0, 2))
            determinism.kill_all(copy)
            done += re.findall(r"s  (\S+): done in", process.stdout.read())
    last = pipeline(copy)
    assert last.returncode == 0, last.stdout + last.stderr
    done += re.findall(r"s  (\S+): done in", last.stdout)
    assert len(set(done)) == len(ALL)
    # At most the notebook that had ended when the kill came, and was not yet written down, is run again.
    assert len(done) <= len(ALL) + 2
    assert started(pipeline(copy)) == []


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_run_that_was_stopped_leaves_nothing_running_and_goes_on(copy, how):
    hang = copy / f"hang at {TUNED}"
    hang.touch()
    command = [sys.executable, copy / "pipeline/run.py"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        next(line for line in process.stdout if "02_remote_sensing_transfer" in line)
        time.sleep(4)  # its kernel is up
        process.send_signal(how)
        process.communicate()
    assert process.returncode == (-how if how == signal.SIGKILL else 130)
    until = time.monotonic() + 10
    while (left := processes_of(copy)) and time.monotonic() < until:
        time.sleep(0.2)
    assert not left

    hang.unlink()
    again = pipeline(copy)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "01 warmup" not in started(again) and "02 tuned" in started(again)


def processes_of(root: Path) -> list[str]:
    """Command lines of the processes that were started with ASEL_ROOT=root."""
    import psutil

    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and process.environ().get("ASEL_ROOT") == str(root):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


@pytest.mark.slow
def test_one_failure_does_not_stop_the_rest_and_is_shown_last(copy):
    shutil.copytree(REPOSITORY / "pipeline/report", copy / "pipeline/report", dirs_exist_ok=True)
    (copy / f"fail at {WARMED}").touch()
    answer = pipeline(copy)
    assert answer.returncode == 1
    assert "02 tuned" in started(answer) and "05 tuned" in started(answer)
    assert answer.stdout.rstrip().endswith("RuntimeError: the benchmark failed")
    last = answer.stdout[answer.stdout.rindex("failed (") - 60 :]
    assert f"05_benchmark_{WARMED} failed (" in last and "In cell [4]:" in last
    page = copy / "benchmarks_results/report/notebooks.html"
    assert "RuntimeError: the benchmark failed" in page.read_text()

    (copy / f"fail at {WARMED}").unlink()
    again = pipeline(copy)
    assert again.returncode == 0
    assert started(again) == ["05 warmup", "06", "08"]


# --- the real notebooks ---


@pytest.mark.slow
def test_profile_smoke_runs_from_nothing_and_has_its_figures(root):
    answer = pipeline(REPOSITORY, "--profile", "smoke")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    folder, smoke = root / "benchmarks_results/runs/smoke", configs.load("smoke")
    sets = {name: name for name in (smoke.warmup_dataset, *smoke.datasets)}
    made = plan.make_plan(smoke, sets, list(smoke.recipes), [0])
    drawn = plan.figure_files(made)
    for name in (*drawn, *(f"{training.name}_kept_patches.png" for training in made.benchmarked)):
        # A table of what was drawn may be empty: smoke has no models to compare in AgentViT's equal setting.
        assert (folder / f"figures/{name}").stat().st_size > (1000 if name.endswith(("png", "pdf")) else 0)
    # And confusions and sheets of patches, which are of no registry.
    shown = (folder / "notebooks/06_paper_figures.ipynb").read_text().count('"image/png"')
    assert shown > len([name for name in drawn if name.endswith(".png")])
    assert (folder / "claims.csv").stat().st_size > 1000
    assert (root / "benchmarks_results/report/notebooks/smoke/08_claims.html").is_file()
    assert started(pipeline(REPOSITORY, "--profile", "smoke")) == []
