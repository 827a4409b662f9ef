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
from asel_lib.training.reinforcement import AgentRun
from asel_lib.training.supervised import train


def in_turn(
    profile: Profile, dataset: str = "", images: int = 512, rounds: int = 5, device: str | torch.device | None = None,
    progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Train each model on the same few images, round after round; the first round is a warm-up and not counted.

    -> a row a training ("paper", "dropped", "agent": ASEL's two recipes and AgentViT's agent on the backbone and
    schedule of the line-guided training; "agentvit": AgentViT's own): img/s, median and quartiles over rounds, and
    `times_paper`, the median of the rounds' ratios to "paper".
    """
    device = torch.device(device) if device else default_device()
    profile = profile.for_line_guided()
    found, split = open_set(profile, dataset or profile.datasets[0])
    chosen, precision = split.train[:images], resolve_precision(profile.precision, device)
    agent = partial(AgentRun, agent=profile.agent)
    trainings: dict[str, tuple[str, ModelSettings, StageSettings, object]] = {
        "paper": ("paper", replace(profile.model, selector="learned"), profile.line_guided, None),
        "dropped": ("dropped", replace(profile.model, selector="learned"), profile.line_guided, None),
        "agent": ("agent", replace(profile.model, selector="agent"), profile.line_guided, agent),
        "agentvit": ("agent", profile.agentvit_model, profile.agentvit, agent),
    }
    speeds = {name: [] for name in trainings}
    for number in tqdm(range(rounds + 1), desc="rounds of training", leave=False, disable=not progress):
        for name, (recipe, model, settings, kind) in trainings.items():
            with reproducibility.seeded(number, name):
                made = build(
                    model.architecture, len(found.classes), model.selector, img_size=model.image_size, **model.timm
                ).to(device)
            batches = Batches(found, chosen, image_size=model.image_size, batch_size=settings.batch_size, device=device)
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
