# One executed notebook a job, all paths relative to benchmarks_results/runs/<profile>/, where it runs.
# run_all.sh starts it (pipeline/run.py); by hand: snakemake --cores 2 --config profile=demo
#
# The rules are made from pipeline/steps.py. A job runs again when its notebook, the code that this uses
# (pipeline/layers.py), its profile, its parameters or an input from another job changed in content. What is not made
# here is no input but a digest among the rule's parameters: its time does not count, so that a clock that went back
# hides no change, and a file from the future does not make Snakemake throw away what was trained by it.
# Checkpoints are marked update(): they are not deleted before a training notebook runs again, so that the
# library can see whether they still match what is asked, and then trains only if they do not.
import os
import re
import sys
from pathlib import Path

from asel_lib import configs, paths
from pipeline.layers import Library, files_digest, settings_digest
from pipeline.parent import exit_with_parent
from pipeline.plan import WARMUP, make_plan
from pipeline.steps import executed_notebooks, make_steps, rules_of

exit_with_parent()

root = Path(workflow.basedir)
profile = configs.load(config.get("profile", "demo"))
seeds = [int(seed) for seed in config.get("seeds", [0])]  # --config makes text of numbers
plan = make_plan(
    profile,
    config.get("datasets", {name: name for name in profile.datasets}),
    config.get("recipes", list(profile.recipes)),
    seeds,
    str(config.get("agentvit", False)).lower() == "true",
)
steps = make_steps(profile, plan, seeds)
workdir: str(paths.run(profile.name))

# Chains (recipe, seed) are independent: side by side, each on its share of the cores.
# On a cluster there are none to share; its profile says how many each job gets (set-threads).
on_cluster = str(config.get("cluster", False)).lower() == "true"
all_cores = 1 if on_cluster else workflow.cores or 1
cores = {"one": 1, "all": all_cores, "a share": max(1, all_cores // len(plan.of(WARMUP)))}
runner = [sys.executable, str(root / "pipeline" / "notebook.py")]

library = Library(root)
settings = settings_digest(root / "asel_lib" / "configs" / f"{profile.name}.yaml")
# What notebooks that show read besides the run: committed results of other data sets, and what was published.
committed = [paths.results() / f"{name}.csv" for name in ("results", "confusion", "patches")]
published = sorted((root / "asel_lib" / "reporting" / "published").glob("*.csv"))
reference = files_digest(file for file in (*committed, *published) if file.is_file())


def from_run(*parts):
    """A file of the repository, as seen from the run's folder: the same wherever the repository lies."""
    return os.path.relpath(root.joinpath(*parts), paths.run(profile.name))


def depends_on(step):
    """A digest of all that is not made here."""
    code = library.digest(root / "notebooks" / f"{step.notebook}.ipynb", step.purpose)
    parts = [code, settings if step.settings else "", reference if step.purpose == "shows" else ""]
    return " ".join(filter(None, parts))


# All by name: Snakemake makes a missing file only if something that is asked for lacks it, and a failed run leaves
# an index.html too.
rule all:
    input:
        [file for step in steps if not step.alone for file in step.made()],
        "index.html",


for step in steps:
    for each in rules_of(step):

        rule:
            name:
                each.name
            input:
                lambda wildcards, each=each: each.inputs(wildcards),
            output:
                *[update(file) if step.keeps else file for file in each.outputs()],
                notebook=each.executed(),
            wildcard_constraints:
                **{place: "|".join(map(re.escape, values)) for place, values in each.wildcards.items()},
            params:
                notebook=from_run("notebooks", f"{step.notebook}.ipynb"),
                given=lambda wildcards, each=each: each.parameters(wildcards),
                content=depends_on(step),
            threads: cores[step.cores]
            message:
                step.notebook + (f" {each.pattern}".replace("{", "{wildcards.") if each.pattern else "")
            shell:
                "exec {runner:q} {params.notebook:q} {output.notebook:q} {params.given:q}"


rule report:
    input:
        "results.csv",
        executed=executed_notebooks(steps),
    output:
        "index.html",  # leads to the report, which is of all runs
    params:
        script=from_run("pipeline", "report", "__main__.py"),
        content=files_digest(file for file in sorted((root / "pipeline" / "report").rglob("*.*")) if file.is_file()),
    message:
        "the report"
    shell:
        "exec {sys.executable:q} {params.script:q} {input.executed:q}"
