"""What a run consists of: a training for each (data set, recipe, selector or agent, seed), a benchmark for each
checkpoint."""

from dataclasses import dataclass

from asel_lib.configs import AGENTVIT_SETTINGS, RECIPES, Profile
from asel_lib.paths import agentvit_name, checkpoint_name, line_guided_name


@dataclass(frozen=True)
class Training:
    """One training notebook. `name` is its checkpoint's, `start` that of the checkpoint it starts from;
    `dataset` is the data set's name, `source` the same or the path of its folder."""

    name: str
    notebook: str
    dataset: str
    source: str
    recipe: str
    seed: int
    start: str | None = None
    selector: str = ""
    setting: str = ""

    @property
    def parameters(self) -> dict[str, object]:
        """What its notebook is given, besides the profile."""
        common = {"dataset": self.source, "seed": self.seed}
        if self.setting:
            return common | {"setting": self.setting}
        if not self.selector:
            return common | {"recipe": self.recipe}
        name, _, written = self.selector.partition(":")
        options = dict(option.split("=") for option in written.split(",")) if written else {}
        if name != "line_guided":
            return common | {"selection": name, "recipe": self.recipe}
        return common | {"extractor": options["lines"], "selection": options["choice"]}


@dataclass(frozen=True)
class Plan:
    warmups: tuple[Training, ...]
    transfers: tuple[Training, ...]
    line_guided: tuple[Training, ...] = ()
    agentvit: tuple[Training, ...] = ()
    benchmark_warmup: bool = True

    @property
    def trainings(self) -> tuple[Training, ...]:
        return self.warmups + self.transfers + self.line_guided + self.agentvit

    @property
    def benchmarked(self) -> tuple[Training, ...]:
        warmups = self.warmups if self.benchmark_warmup or not self.transfers else ()
        return warmups + self.transfers + self.line_guided + self.agentvit

    @property
    def datasets(self) -> tuple[str, ...]:
        """Those with results and figures."""
        return tuple(dict.fromkeys(training.dataset for training in self.benchmarked))

    @property
    def compared(self) -> tuple[str, ...]:
        """Data sets with AgentViT's results beside ASEL's."""
        return tuple(dict.fromkeys(training.dataset for training in self.agentvit))

    @property
    def anytime(self) -> dict[str, str]:
        """Data set -> the model of that recipe which 07_anytime shows: the transfer's first one, else one trained on
        the line-guided schedule."""
        made = [training for training in self.transfers + self.line_guided if training.recipe == "anytime"]
        shown = [training for training in made if training.selector in ("", "glance")]
        return {training.dataset: training.name for training in reversed(shown)}

    @property
    def methods(self) -> tuple[str, ...]:
        """Data sets where `anytime` stands beside other methods on the line-guided schedule."""
        return tuple(dict.fromkeys(training.dataset for training in self.line_guided if training.selector == "glance"))

    @property
    def told(self) -> str:
        """The AgentViT checkpoint that 08_claims tells the labels: of this run, else the shipped one of the scenes that
        are generated."""
        own = [training.name for training in self.agentvit if training.setting == "published"]
        return own[0] if own else agentvit_name("synthetic")

    @property
    def moved(self) -> str:
        """The checkpoint that 08_claims tests on a moved split: the run's first fine-tuned one."""
        return (self.transfers or self.warmups)[0].name

    @property
    def quickstart(self) -> str:
        """The checkpoint that 00_quickstart shows: a fine-tuned one, of recipe "anytime" if possible, or "dropped"."""
        shown = self.transfers or self.warmups
        found = {training.recipe: training.name for training in reversed(shown)}
        return next(found[recipe] for recipe in ("anytime", "dropped", "paper") if recipe in found)


def make_plan(
    profile: Profile, datasets: dict[str, str], recipes: list[str], seeds: list[int], agentvit: bool = False
) -> Plan:
    """Every data set's transfer starts from the warm-up of its recipe and seed; the line-guided trainings of the
    profile's selectors start by themselves, and so does AgentViT. On the warm-up set itself the selectors are trained
    where the profile says how (`line_guided_on`).

    datasets: name -> the same name, or the path of a folder of images. agentvit: AgentViT, and what it is compared
    with, also where the profile has none of it.
    """
    warmup_set = profile.warmup_dataset
    settings = AGENTVIT_SETTINGS if agentvit else profile.agentvit_runs
    baselines = ("learned", "learned_paper", "random") if agentvit else ()
    selectors = tuple(dict.fromkeys((*profile.selectors, *baselines)))
    chains = [(recipe, seed) for recipe in recipes for seed in seeds]

    def warmup_name(recipe: str, seed: int) -> str:
        return checkpoint_name(warmup_set, "warmup", recipe, seed)

    return Plan(
        warmups=tuple(
            Training(warmup_name(recipe, seed), "01_cifar10_warmup", warmup_set, warmup_set, recipe, seed)
            for recipe, seed in chains
        ),
        transfers=tuple(
            Training(
                checkpoint_name(dataset, "finetuned", recipe, seed),
                "02_remote_sensing_transfer",
                dataset,
                source,
                recipe,
                seed,
                start=warmup_name(recipe, seed),
            )
            for dataset, source in datasets.items()
            if dataset != warmup_set
            for recipe, seed in chains
        ),
        line_guided=tuple(
            Training(
                line_guided_name(dataset, selector, seed=seed, recipe=recipe),
                "03_line_guided_training",
                dataset,
                source,
                recipe,
                seed,
                selector=selector,
            )
            for dataset, source in datasets.items()
            if dataset != warmup_set or dataset in profile.line_guided_on
            for selector, recipe in map(_selector_and_recipe, selectors)
            for seed in seeds
        ),
        agentvit=tuple(
            Training(
                agentvit_name(dataset, seed)
                if setting == "published"
                else line_guided_name(dataset, "agent", seed=seed),
                "04_agentvit_baseline",
                dataset,
                source,
                "agent",
                seed,
                setting=setting,
            )
            for dataset, source in datasets.items()
            if dataset != warmup_set
            for setting in settings
            for seed in seeds
        ),
        benchmark_warmup=profile.benchmark_warmup,
    )


def _selector_and_recipe(written: str) -> tuple[str, str]:
    """ "learned_paper" -> ("learned", "paper"); without a recipe, "dropped"."""
    name, _, recipe = written.rpartition("_")
    return (name, recipe) if recipe in RECIPES else (written, "dropped")


def executed_notebooks(plan: Plan) -> list[str]:
    """The executed copies, relative to the run's folder, in reading order."""
    stems = [
        "00_quickstart",
        *(f"{training.notebook}_{training.name}" for training in plan.trainings),
        *(f"05_benchmark_{training.name}" for training in plan.benchmarked),
        "06_paper_figures",
        *(f"07_anytime_{dataset}" for dataset in plan.anytime),
        "08_claims",
    ]
    return [f"notebooks/{stem}.ipynb" for stem in stems]
