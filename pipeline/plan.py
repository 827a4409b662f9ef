"""What a run consists of: a training for each model, told apart by its key, and a benchmark of each checkpoint."""

from dataclasses import dataclass

from asel_lib import methods
from asel_lib.configs import Profile
from asel_lib.identity import ModelKey
from asel_lib.registry import RECIPES

WARMUP, TRANSFER = "01_cifar10_warmup", "02_remote_sensing_transfer"
DIRECT, AGENTVIT = "03_direct_training", "04_agentvit_baseline"
# What AgentViT is compared with on the direct schedule.
BESIDE_AGENTVIT = ("learned", "learned/masked", "random")


@dataclass(frozen=True)
class Training:
    """One training notebook.

    Args:
        key: of the model that it makes.
        notebook: its file's stem.
        source: the data set's name, or the path of its folder.
        start: of the checkpoint that it starts from; None: of none.
    """

    key: ModelKey
    notebook: str
    source: str
    start: ModelKey | None = None

    @property
    def name(self) -> str:
        return self.key.name

    @property
    def dataset(self) -> str:
        return self.key.dataset

    @property
    def parameters(self) -> dict[str, object]:
        """What its notebook is given, besides the profile."""
        common = {"dataset": self.source, "seed": self.key.seed}
        if self.notebook == AGENTVIT:
            return common | {"setting": "published" if self.key.schedule == "agentvit" else "equal"}
        if self.notebook == DIRECT:
            common |= {"selector": self.key.selector}
        return common | {"recipe": self.key.recipe}


@dataclass(frozen=True)
class Plan:
    """All trainings of a run.

    Args:
        trainings: in the order of their notebooks.
        benchmark_warmup: whether the warm-up's checkpoints are measured although there are others.
    """

    trainings: tuple[Training, ...]
    benchmark_warmup: bool = True

    def of(self, notebook: str) -> tuple[Training, ...]:
        """The trainings by one notebook."""
        return tuple(training for training in self.trainings if training.notebook == notebook)

    @property
    def benchmarked(self) -> tuple[Training, ...]:
        if self.benchmark_warmup or not self.of(TRANSFER):
            return self.trainings
        return tuple(training for training in self.trainings if training.notebook != WARMUP)

    @property
    def datasets(self) -> tuple[str, ...]:
        """Those with results and figures."""
        return tuple(dict.fromkeys(training.dataset for training in self.benchmarked))

    @property
    def anytime(self) -> dict[str, str]:
        """Data set -> the model that 07_anytime shows: the transfer's first by that recipe, else one of the direct
        schedule."""
        selector = RECIPES["anytime"].selector
        made = [t for t in self.trainings if t.key.recipe == "anytime" and t.key.selector == selector]
        return {t.dataset: t.name for t in reversed(made) if t.notebook != WARMUP}

    @property
    def told(self) -> str:
        """The AgentViT checkpoint that 08_claims tells the labels: of this run, else the shipped one of the scenes that
        are generated."""
        own = [training.name for training in self.trainings if training.key.schedule == "agentvit"]
        return own[0] if own else agentvit_key("synthetic").name

    @property
    def moved(self) -> str:
        """The checkpoint that 08_claims tests on a moved split: the run's first fine-tuned one."""
        return self._shown[0].name

    @property
    def quickstart(self) -> str:
        """The checkpoint that 00_quickstart shows: a fine-tuned one, by the first of these recipes that there is."""
        found = {training.key.recipe: training.name for training in reversed(self._shown)}
        return next((found[recipe] for recipe in ("anytime", "dropped", "masked") if recipe in found), self.moved)

    @property
    def _shown(self) -> tuple[Training, ...]:
        return self.of(TRANSFER) or self.of(WARMUP)


def make_plan(
    profile: Profile, datasets: dict[str, str], recipes: list[str], seeds: list[int], agentvit: bool = False
) -> Plan:
    """The trainings of a run.

    Every data set's transfer starts from the warm-up of its recipe and seed. The direct trainings of the profile's
    methods start by themselves, and so does AgentViT. On the warm-up set itself there are direct trainings where the
    profile says how (`direct_on`).

    Args:
        profile: the profile.
        datasets: name -> the same name, or the path of a folder of images.
        recipes: of the published schedule.
        seeds: one training each.
        agentvit: AgentViT, and what it is compared with, also where the profile has none of it.
    """
    warmup_set = profile.warmup_dataset
    others = {name: source for name, source in datasets.items() if name != warmup_set}
    settings = ("published", "equal") if agentvit else profile.agentvit_runs
    wanted = [methods.parse(text) for text in (*profile.methods, *(BESIDE_AGENTVIT if agentvit else ()))]
    chains = [(recipe, profile.selector_for(recipe), seed) for recipe in recipes for seed in seeds]

    def warmup(recipe: str, selector: str, seed: int) -> ModelKey:
        return ModelKey(warmup_set, "warmup", selector, recipe, seed=seed)

    made = [Training(warmup(*chain), WARMUP, warmup_set) for chain in chains]
    for dataset, source in others.items():
        for recipe, selector, seed in chains:
            key = ModelKey(dataset, "published", selector, recipe, seed=seed)
            made.append(Training(key, TRANSFER, source, start=warmup(recipe, selector, seed)))
    for dataset, source in datasets.items():
        for method in wanted if dataset in others or dataset in profile.direct_on else ():
            for seed in seeds:
                key = ModelKey(dataset, "direct", method.selector, method.recipe, seed=seed)
                made.append(Training(key, AGENTVIT if method.recipe == "agent" else DIRECT, source))
    for dataset, source in others.items():
        for seed in seeds:
            if "published" in settings:
                made.append(Training(agentvit_key(dataset, seed), AGENTVIT, source))
            if "equal" in settings:
                made.append(Training(ModelKey(dataset, "direct", "agent", "agent", seed=seed), AGENTVIT, source))
    order = {notebook: place for place, notebook in enumerate((WARMUP, TRANSFER, DIRECT, AGENTVIT))}
    once = {training.key: training for training in made}
    return Plan(tuple(sorted(once.values(), key=lambda each: order[each.notebook])), profile.benchmark_warmup)


def agentvit_key(dataset: str, seed: int = 0) -> ModelKey:
    """The model of AgentViT as published.

    Args:
        dataset: the data set's name.
        seed: of the training.
    """
    return ModelKey(dataset, "agentvit", "agent", "agent", seed=seed)


def figure_files(plan: Plan, table: str = "results") -> list[str]:
    """Names of the files of the figures that a run draws from a table, as their registry says before there are results.

    Args:
        plan: the run's.
        table: "results", "speed" or "deployed" (of the checkpoint that is exported, the quick start's).
    """
    from asel_lib.reporting import figures

    measured = {"results": [each.key for each in plan.benchmarked], "speed": []}
    measured["deployed"] = [each.key for each in plan.trainings if each.name == plan.quickstart]
    return list(figures.files(None, measured[table], table))
