"""How fast each training is: a few steps of each, in turn, in one process."""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from tqdm.auto import tqdm

from asel_lib import reproducibility
from asel_lib.data.batches import Batches
from asel_lib.data.sets import open_set
from asel_lib.devices import default_device, resolve_precision
from asel_lib.models import build
from asel_lib.profiles import ModelSettings, Profile, StageSettings
from asel_lib.training.anytime import AnytimeRun
from asel_lib.training.reinforcement import AgentRun
from asel_lib.training.supervised import train


def in_turn(
    profile: Profile, dataset: str = "", images: int = 512, rounds: int = 5, device: str | torch.device | None = None,
    progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Train each model on the same few images, round after round; the first round is a warm-up and not counted.

    -> a row a training: "paper" and "dropped" (ASEL's recipes, at the mean keep ratio of the line-guided schedule),
    "anytime" (at the ratios of its settings), "agent" (AgentViT's agent), all four on the line-guided backbone by its
    schedule; "agentvit" (AgentViT's own network and schedule). img/s, median and quartiles over rounds, and
    `times_paper`, the median of the rounds' ratios to "paper". Without the agent's own learning: a small step in 50
    batches.
    """
    device = torch.device(device) if device else default_device()
    profile = profile.for_line_guided()
    precision, agent = resolve_precision(profile.precision, device), partial(AgentRun, agent=profile.agent)
    anytime = partial(AnytimeRun, anytime=profile.anytime)
    schedule = profile.line_guided
    mean = (schedule.ratio_low + schedule.ratio_high) / 2
    schedule = replace(schedule, ratio_low=mean, ratio_high=mean)
    trainings: dict[str, tuple[str, ModelSettings, StageSettings, object]] = {
        "paper": ("paper", replace(profile.model, selector="learned"), schedule, None),
        "dropped": ("dropped", replace(profile.model, selector="learned"), schedule, None),
        "anytime": ("anytime", replace(profile.model, selector=profile.anytime.selector), schedule, anytime),
        "agent": ("agent", replace(profile.model, selector="agent"), schedule, agent),
        "agentvit": ("agent", profile.agentvit_model, profile.agentvit, agent),
    }
    speeds = {name: [] for name in trainings}
    for number in tqdm(range(rounds + 1), desc="rounds of training", leave=False, disable=not progress):
        for name, (recipe, model, settings, kind) in trainings.items():
            found, split = open_set(replace(profile, model=model), dataset or profile.datasets[0])
            with reproducibility.seeded(number, name):
                made = build(
                    model.architecture, len(found.classes), model.selector, img_size=model.image_size, **model.timm
                ).to(device)
            batches = Batches(
                found, split.train[:images], image_size=model.image_size, batch_size=settings.batch_size, device=device
            )
            settings = replace(settings, epochs=1, full_epochs=0, warmup_epochs=0)
            trained = train(
                made,
                batches,
                None,
                settings,
                recipe=recipe,
                seed=number,
                precision=precision,
                progress=False,
                kind=kind,
            )
            speeds[name].append(trained.history["images_per_second"].iloc[0])
    measured = {name: np.array(values[1:]) for name, values in speeds.items()}
    rows = []
    for name, values in measured.items():
        low, middle, high = np.percentile(values, [25, 50, 75])
        ratio = np.median(values / measured["paper"])
        rows.append({"training": name, "images_per_second": middle, "low": low, "high": high, "times_paper": ratio})
    return pd.DataFrame(rows)
