"""The workflow's rules as one description: which notebook each runs, for what, from which files to which."""

import json
from dataclasses import dataclass

from asel_lib import paths
from asel_lib.configs import Profile
from pipeline.plan import AGENTVIT, DIRECT, TRANSFER, WARMUP, Plan, Training, figure_files

CHECKPOINT = ("checkpoints/{name}.safetensors", "checkpoints/{name}.json", "checkpoints/{name}_history.csv")
MEASURED = (
    "results/{name}.csv",
    "answers/{name}.csv.gz",
    "confusion/{name}.csv",
    "patches/{name}.csv",
    "figures/{name}_kept_patches.png",
    "figures/{name}_kept_patches.pdf",
)
PICTURES = ("png", "pdf")


@dataclass(frozen=True)
class Job:
    """One execution of a step's notebook.

    Args:
        parameters: the notebook's.
        inputs: what it reads of the run, made by other steps.
    """

    parameters: dict[str, object]
    inputs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """A rule of the workflow: a notebook that is executed once for each job.

    Args:
        rule: its name, by which a cluster's profile gives it resources.
        notebook: the stem of its file.
        purpose: "trains", "measures" or "shows": which code it depends on (pipeline.layers).
        jobs: what "{name}" in the outputs stands for -> the job; "" where there is one job and no name.
        outputs: what it writes besides the executed notebook.
        cores: "a share" of them, "all", or "one".
        keeps: whether the outputs stay until the notebook writes them anew.
        settings: whether it depends on the whole profile.
        alone: whether it is no part of a whole run, but of `--only`.
    """

    rule: str
    notebook: str
    purpose: str
    jobs: dict[str, Job]
    outputs: tuple[str, ...] = ()
    cores: str = "one"
    keeps: bool = False
    settings: bool = True
    alone: bool = False

    def executed(self, name: str) -> str:
        """The executed copy of a job's notebook, relative to the run's folder."""
        return f"notebooks/{self.notebook}_{name}.ipynb" if name else f"notebooks/{self.notebook}.ipynb"

    def made(self) -> list[str]:
        """All that its jobs write."""
        return [file.replace("{name}", name) for name in self.jobs for file in (*self.outputs, self.executed(name))]


def make_steps(profile: Profile, plan: Plan, seeds: list[int]) -> tuple[Step, ...]:
    """The steps of a run, in reading order; one without jobs is left out.

    Args:
        profile: the run's settings.
        plan: its trainings.
        seeds: of the trainings.
    """
    measured = [training.name for training in plan.benchmarked]
    own = {training.name for training in plan.trainings}
    given = {"profile": profile.name}
    shown = weights(plan.quickstart)
    place = str(paths.run(profile.name) / shown)

    def trainings(rule: str, notebook: str, cores: str = "a share") -> Step:
        jobs = {each.name: Job(given | each.parameters, _start(each)) for each in plan.of(notebook)}
        return Step(rule, notebook, "trains", jobs, CHECKPOINT, cores, keeps=True)

    def all_of(pattern: str) -> tuple[str, ...]:
        return tuple(pattern.format(name=name) for name in measured)

    def drawn(table: str) -> tuple[str, ...]:
        return tuple(f"figures/{file}" for file in figure_files(plan, table))

    steps = (
        Step("quickstart", "00_quickstart", "shows", {"": Job({"checkpoint": place}, (shown,))}, settings=False),
        trainings("warmup", WARMUP),
        trainings("transfer", TRANSFER),
        trainings("direct", DIRECT),
        trainings("agentvit", AGENTVIT, "all"),  # it times its training against the others'
        Step(
            "benchmark",
            "05_benchmark",
            "measures",
            {name: Job(given | {"checkpoint": name}, (weights(name),)) for name in measured},
            MEASURED,
            "all",  # or its timings would be those of a busy machine
        ),
        Step(
            "figures",
            "06_paper_figures",
            "shows",
            {"": Job(given, (*all_of(MEASURED[0]), *all_of(MEASURED[2]), *all_of(MEASURED[3])))},
            ("results.csv", *drawn("results")),
            settings=False,
        ),
        Step(
            "anytime",
            "07_anytime",
            "shows",
            {
                dataset: Job(
                    given | {"dataset": dataset, "seeds": seeds, "checkpoint": name},
                    (
                        *(weights(each.name) for each in plan.trainings if each.dataset == dataset),
                        *(MEASURED[1].format(name=each.name) for each in plan.benchmarked if each.dataset == dataset),
                    ),
                )
                for dataset, name in plan.anytime.items()
            },
            tuple(f"figures/{{name}}_anytime_weights.{ending}" for ending in PICTURES),
            "all",  # it times what it compares
        ),
        Step(
            "claims",
            "08_claims",
            "shows",
            {
                "": Job(
                    given | {"agent_checkpoint": plan.told, "moved_checkpoint": plan.moved},
                    ("results.csv", weights(plan.moved), *([weights(plan.told)] if plan.told in own else [])),
                )
            },
            ("claims.csv",),
            settings=False,
        ),
        Step(
            "speed",
            "09_speed",
            "measures",
            {"": Job(given | {"dataset": next((each.source for each in plan.of(TRANSFER)), "")})},
            ("speed.csv", *drawn("speed")),
            "all",
            alone=True,
        ),
        Step(
            "export",
            "10_export",
            "measures",
            {"": Job(given | {"checkpoint": plan.quickstart})},  # the run's or, where it has none, the shipped one
            ("deployed.csv", *drawn("deployed")),
            "all",
            alone=True,
        ),
    )
    return tuple(step for step in steps if step.jobs)


def executed_notebooks(steps: tuple[Step, ...], only: str | None = None) -> list[str]:
    """The executed copies of a whole run, or of one step that is none of its parts, in reading order.

    Args:
        steps: of the run.
        only: a step's rule; None: the whole run.
    """
    asked = [step for step in steps if step.rule == only or (only is None and not step.alone)]
    return [step.executed(name) for step in asked for name in step.jobs]


@dataclass(frozen=True)
class Rule:
    """A step as Snakemake takes it, for the jobs whose names have so many commas.

    A job on a cluster is named to Snakemake by its wildcards as "name=value,name=value", and a value with a comma is
    read there as several (snakemake 9.27, target_jobs.py). So a name with commas is one wildcard a piece.
    """

    name: str
    step: Step
    pattern: str
    wildcards: dict[str, tuple[str, ...]]

    def outputs(self) -> list[str]:
        return [file.replace("{name}", self.pattern) for file in self.step.outputs]

    def executed(self) -> str:
        return self.step.executed(self.pattern)

    def job(self, wildcards: dict[str, str]) -> Job:
        """The job of these wildcards.

        Args:
            wildcards: name -> value.
        """
        return self.step.jobs[",".join(wildcards[name] for name in self.wildcards)]

    def inputs(self, wildcards: dict[str, str]) -> list[str]:
        """The files that the job needs, relative to the run's folder.

        Args:
            wildcards: name -> value.
        """
        return list(self.job(wildcards).inputs)

    def parameters(self, wildcards: dict[str, str]) -> str:
        """What the job's notebook is given, as JSON.

        Args:
            wildcards: name -> value.
        """
        return json.dumps(self.job(wildcards).parameters)


def rules_of(step: Step) -> list[Rule]:
    """The rules of a step: one, or one for each number of options in its models' names."""
    if set(step.jobs) == {""}:
        return [Rule(step.rule, step, "", {})]
    rules = []
    for commas in sorted({name.count(",") for name in step.jobs}):
        names = [name.split(",") for name in step.jobs if name.count(",") == commas]
        places = ["name", *(f"option{number + 1}" for number in range(commas))]
        values = {
            place: tuple(dict.fromkeys(parts)) for place, parts in zip(places, zip(*names, strict=True), strict=True)
        }
        rule = step.rule + (f"_{commas}_option" + "s" * (commas > 1) if commas else "")
        rules.append(Rule(rule, step, ",".join(f"{{{place}}}" for place in places), values))
    return rules


def weights(name: str) -> str:
    """The file of a checkpoint's weights, relative to the run's folder."""
    return CHECKPOINT[0].format(name=name)


def _start(training: Training) -> tuple[str, ...]:
    return (weights(training.start.name),) if training.start else ()
