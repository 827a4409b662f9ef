# One executed notebook a rule, all paths relative to benchmarks_results/runs/<profile>/, where it runs.
# run_all.sh starts it (pipeline/run.py); by hand: snakemake --cores 2 --config profile=demo
#
# A rule runs again when its notebook, its profile, the library or an input from another rule changed in content. What
# is not made here is no input but a digest among the rule's parameters: its time does not count, so that a clock that
# went back hides no change, and a file from the future does not make Snakemake throw away what was trained by it.
# Checkpoints are marked update(): they are not deleted before a training notebook runs again, so that the
# library can see whether they still match what is asked, and then trains only if they do not.
import hashlib
import json
import os
import re
import sys
from pathlib import Path

from asel_lib import paths, profiles
from pipeline.parent import exit_with_parent
from pipeline.plan import executed_notebooks, make_plan

exit_with_parent()

profile = profiles.load(config.get("profile", "demo"))
seeds = [int(seed) for seed in config.get("seeds", [0])]  # --config makes text of numbers
plan = make_plan(
    profile,
    config.get("datasets", {name: name for name in profile.datasets}),
    config.get("recipes", list(profile.recipes)),
    seeds,
    str(config.get("agentvit", False)).lower() == "true",
)
run_folder = paths.run(profile.name)
workdir: str(run_folder)

trainings = {training.name: training for training in plan.trainings}
# Chains (recipe, seed) are independent: side by side, each on its share of the cores.
# On a cluster there are none to share; its profile says how many each job gets (set-threads).
on_cluster = str(config.get("cluster", False)).lower() == "true"
all_cores = 1 if on_cluster else workflow.cores or 1
training_threads = max(1, all_cores // len(plan.warmups))
runner = [sys.executable, os.path.join(workflow.basedir, "pipeline", "notebook.py")]


def from_run(*parts):
    """A file of the repository, as seen from the run's folder: the same wherever the repository lies."""
    return os.path.relpath(os.path.join(workflow.basedir, *parts), run_folder)


library = [
    from_run(file.relative_to(workflow.basedir))
    for file in sorted(Path(workflow.basedir, "asel_lib").rglob("*.py"))
]
profile_file = from_run("asel_lib", "profiles", f"{profile.name}.yaml")


def notebook(name):
    return from_run("notebooks", f"{name}.ipynb")


def content(*files):
    """A digest of files as seen from the run's folder; of one that is not there Snakemake itself says so."""
    digest = hashlib.sha256()
    for file in files:
        place = Path(os.path.normpath(run_folder / file))
        digest.update(f"\0{file}\0".encode() + (place.read_bytes() if place.is_file() else b""))
    return digest.hexdigest()[:16]


def any_of(names):
    return "|".join(map(re.escape, names)) or "(?!)"


def training_parameters(wildcards):
    return json.dumps({"profile": profile.name, **trainings[wildcards.name].parameters})


FORMATS = ["png", "pdf", "csv"]
figures = expand(
    "figures/{dataset}_{figure}.{format}",
    dataset=plan.datasets,
    figure=[
        "1_strategies",
        "2_throughput",
        "3_gflops",
        "4_latency",
        "5_accuracy_vs_gflops",
        "6_combined_tradeoff",
    ],
    format=FORMATS,
) + expand("figures/gflops_scaling.{format}", format=FORMATS)
figures += expand(
    "figures/{dataset}_asel_vs_agentvit_{figure}.{format}",
    dataset=plan.compared,
    figure=["1_acc_keep", "2_acc_throughput", "3_gflops", "4_latency_50", "5_equal"],
    format=FORMATS,
)
figures += expand("figures/{dataset}_7_methods.{format}", dataset=plan.methods, format=FORMATS)
figures += expand(
    "figures/{name}.{format}",
    name=[
        "paper_1_architecture",
        "paper_2_eurosat",
        "paper_3_aid",
        "paper_4_rsscn7",
        "paper_5_cost_aid",
        "paper_6_agentvit_aid",
        "line_guided_1_tradeoff_imagenet10",
        "line_guided_1_tradeoff_rsscn7",
    ],
    format=["png", "pdf"],
)


# All by name: Snakemake makes a missing file only if something that is asked for lacks it, and a failed run leaves
# an index.html too.
rule all:
    input:
        expand("checkpoints/{name}{end}", name=list(trainings), end=[".safetensors", ".json", "_history.csv"]),
        expand("results/{name}.csv", name=[t.name for t in plan.benchmarked]),
        expand("figures/{name}_kept_patches.{format}", name=[t.name for t in plan.benchmarked], format=["png", "pdf"]),
        executed_notebooks(plan),
        figures,
        "results.csv",
        "claims.csv",
        "index.html",


rule warmup:
    output:
        update("checkpoints/{name}.safetensors"),
        update("checkpoints/{name}.json"),
        update("checkpoints/{name}_history.csv"),
        notebook="notebooks/01_cifar10_warmup_{name}.ipynb",
    wildcard_constraints:
        name=any_of(t.name for t in plan.warmups),
    params:
        notebook=notebook("01_cifar10_warmup"),
        given=training_parameters,
        content=content(notebook("01_cifar10_warmup"), profile_file, *library),
    threads: training_threads
    message:
        "01_cifar10_warmup {wildcards.name}"
    shell:
        "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


rule transfer:
    input:
        lambda wildcards: f"checkpoints/{trainings[wildcards.name].start}.safetensors",
    output:
        update("checkpoints/{name}.safetensors"),
        update("checkpoints/{name}.json"),
        update("checkpoints/{name}_history.csv"),
        notebook="notebooks/02_remote_sensing_transfer_{name}.ipynb",
    wildcard_constraints:
        name=any_of(t.name for t in plan.transfers),
    params:
        notebook=notebook("02_remote_sensing_transfer"),
        given=training_parameters,
        content=content(notebook("02_remote_sensing_transfer"), profile_file, *library),
    threads: training_threads
    message:
        "02_remote_sensing_transfer {wildcards.name}"
    shell:
        "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


rule line_guided:
    output:
        update("checkpoints/{name}.safetensors"),
        update("checkpoints/{name}.json"),
        update("checkpoints/{name}_history.csv"),
        notebook="notebooks/03_line_guided_training_{name}.ipynb",
    wildcard_constraints:
        name=any_of(t.name for t in plan.line_guided),
    params:
        notebook=notebook("03_line_guided_training"),
        given=training_parameters,
        content=content(notebook("03_line_guided_training"), profile_file, *library),
    threads: training_threads
    message:
        "03_line_guided_training {wildcards.name}"
    shell:
        "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


rule agentvit:
    output:
        update("checkpoints/{name}.safetensors"),
        update("checkpoints/{name}.json"),
        update("checkpoints/{name}_history.csv"),
        notebook="notebooks/04_agentvit_baseline_{name}.ipynb",
    wildcard_constraints:
        name=any_of(t.name for t in plan.agentvit),
    params:
        notebook=notebook("04_agentvit_baseline"),
        given=training_parameters,
        content=content(notebook("04_agentvit_baseline"), profile_file, *library),
    threads: all_cores  # alone on the machine: it times its training against the others'
    message:
        "04_agentvit_baseline {wildcards.name}"
    shell:
        "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


rule benchmark:
    input:
        "checkpoints/{name}.safetensors",
    output:
        "results/{name}.csv",
        "answers/{name}.csv.gz",
        "confusion/{name}.csv",
        "patches/{name}.csv",
        "figures/{name}_kept_patches.png",
        "figures/{name}_kept_patches.pdf",
        notebook="notebooks/05_benchmark_{name}.ipynb",
    wildcard_constraints:
        name=any_of(t.name for t in plan.benchmarked),
    params:
        notebook=notebook("05_benchmark"),
        given=lambda wildcards: json.dumps({"profile": profile.name, "checkpoint": wildcards.name}),
        content=content(notebook("05_benchmark"), profile_file, *library),
    threads: all_cores  # alone on the machine, or its timings would be those of a busy one
    message:
        "05_benchmark {wildcards.name}"
    shell:
        "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


# What 06 and 08 read besides the run: committed results of other data sets, and what was published.
REFERENCE = [
    from_run(os.path.relpath(file, workflow.basedir))
    for file in (paths.results() / f"{name}.csv" for name in ("results", "confusion", "patches"))
    if file.is_file()
]
REFERENCE += [
    from_run(file.relative_to(workflow.basedir))
    for file in sorted(Path(workflow.basedir, "asel_lib/reporting/published").glob("*.csv"))
]


rule figures:
    input:
        expand("results/{name}.csv", name=[t.name for t in plan.benchmarked]),
        expand("confusion/{name}.csv", name=[t.name for t in plan.benchmarked]),
        expand("patches/{name}.csv", name=[t.name for t in plan.benchmarked]),
    output:
        "results.csv",
        figures,
        notebook="notebooks/06_paper_figures.ipynb",
    params:
        notebook=notebook("06_paper_figures"),
        given=json.dumps({"profile": profile.name}),
        content=content(notebook("06_paper_figures"), *library, *REFERENCE),
    message:
        "06_paper_figures"
    shell:
        "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


rule anytime:
    input:
        lambda wildcards: [
            f"checkpoints/{t.name}.safetensors" for t in plan.trainings if t.dataset == wildcards.dataset
        ]
        + [f"answers/{t.name}.csv.gz" for t in plan.benchmarked if t.dataset == wildcards.dataset],
    output:
        figures=expand("figures/{{dataset}}_anytime_weights.{format}", format=["png", "pdf"]),
        notebook="notebooks/07_anytime_{dataset}.ipynb",
    wildcard_constraints:
        dataset=any_of(plan.anytime),
    params:
        notebook=notebook("07_anytime"),
        given=lambda wildcards: json.dumps(
            {
                "profile": profile.name,
                "dataset": wildcards.dataset,
                "seeds": seeds,
                "checkpoint": plan.anytime[wildcards.dataset],
            }
        ),
        content=content(notebook("07_anytime"), profile_file, *library),
    threads: all_cores  # alone on the machine: it times what it compares
    message:
        "07_anytime {wildcards.dataset}"
    shell:
        "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


# Not part of `all`: ./run_all.sh --only speed
rule speed:
    output:
        "speed.csv",
        expand(
            "figures/speed_{figure}.{format}",
            figure=["1_inference", "2_training", "3_memory", "4_growth"],
            format=FORMATS,
        ),
        notebook="notebooks/09_speed.ipynb",
    params:
        notebook=notebook("09_speed"),
        given=json.dumps({"profile": profile.name, "dataset": next((t.source for t in plan.transfers), "")}),
        content=content(notebook("09_speed"), profile_file, *library),
    threads: all_cores  # alone on the machine
    message:
        "09_speed"
    shell:
        "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


# Not part of `all`: ./run_all.sh --only export. The checkpoint is the run's or, where it has none, the shipped one.
rule export:
    output:
        "export.csv",
        expand("figures/{name}_export.{format}", name=plan.quickstart, format=FORMATS),
        notebook="notebooks/10_export.ipynb",
    params:
        notebook=notebook("10_export"),
        given=json.dumps({"profile": profile.name, "checkpoint": plan.quickstart}),
        content=content(notebook("10_export"), profile_file, *library),
    threads: all_cores  # alone on the machine
    message:
        "10_export"
    shell:
        "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


rule claims:
    input:
        "results.csv",
        lambda wildcards: [f"checkpoints/{plan.told}.safetensors"] if plan.told in trainings else [],
        f"checkpoints/{plan.moved}.safetensors",
    output:
        "claims.csv",
        notebook="notebooks/08_claims.ipynb",
    params:
        notebook=notebook("08_claims"),
        given=json.dumps({"profile": profile.name, "agent_checkpoint": plan.told, "moved_checkpoint": plan.moved}),
        content=content(notebook("08_claims"), *library, *REFERENCE),
    message:
        "08_claims"
    shell:
        "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


rule quickstart:
    input:
        checkpoint=f"checkpoints/{plan.quickstart}.safetensors",
    output:
        notebook="notebooks/00_quickstart.ipynb",
    params:
        notebook=notebook("00_quickstart"),
        given=json.dumps({"checkpoint": str(run_folder / "checkpoints" / f"{plan.quickstart}.safetensors")}),
        content=content(notebook("00_quickstart"), *library),
    message:
        "00_quickstart"
    shell:
        "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


rule report:
    input:
        "results.csv",
        script=from_run("pipeline", "report", "__main__.py"),
        executed=executed_notebooks(plan),
    output:
        "index.html",  # leads to the report, which is of all runs
    message:
        "the report"
    shell:
        "exec {sys.executable:q} {input.script:q} {input.executed:q}"
