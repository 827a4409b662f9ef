"""Whether saved arithmetic becomes saved time and memory: rows of `tables.SPEED`."""

import logging
from collections.abc import Callable, Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from asel_lib.configs import Profile
from asel_lib.devices import autocast, default_device, fast_backward, resolve_precision
from asel_lib.evaluation import cost, memory, roofline, timing
from asel_lib.evaluation.bench_models import model_of, pixels, plain_of, with_origin
from asel_lib.models import SelectiveViT
from asel_lib.models.at_ratio import AtRatio
from asel_lib.registry import RECIPES, Recipe
from asel_lib.reproducibility import generator
from asel_lib.selection import keep_count
from asel_lib.tables.kinds import PLAIN
from asel_lib.training import bench_training, objectives


def inference(
    profile: Profile,
    *,
    ratios: Sequence[float] = (1.0, 0.5, 0.3, 0.2, 0.1),
    batches: Sequence[int] = (1, 8, 64),
    precisions: Sequence[str] = ("float32", "bfloat16"),
    selectors: Sequence[str] = ("glance", "random", "learned"),
    compiled: bool = False,
    seconds: float = 1.0,
    rounds: int = 7,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Time of the profile's model at each keep ratio against timm's plain model of that size, both in one precision
    (the weights too); all of a batch size in turn.

    Args:
        profile: whose model; its weights are random, since time does not depend on them.
        ratios: keep ratios, in (0, 1].
        batches: images of a forward.
        precisions: as resolved by `devices`.
        selectors: how patches are chosen.
        compiled: by torch.compile (with CUDA graphs on a GPU) instead of eager.
        seconds: of timing, for each call.
        rounds: of timing.
        device: None: the default one.
        progress: whether a bar is shown.

    Returns:
        Rows of `tables.SPEED`, one a (precision, batch size, selector, ratio): `speed_up` = plain / this, median of the
        rounds' ratios with quartiles; `ideal_speed_up`, the same of GMACs; `floor_ms`, what the hardware allows
        (`roofline`).
        Empty, with a line that says why, where nothing can be compiled.
    """
    device = torch.device(device) if device else default_device()
    rows, groups = [], [(precision, batch) for precision in precisions for batch in batches]
    machines = {precision: roofline.measure(device, precision, seconds) for precision in precisions}
    for precision, batch in tqdm(groups, desc="inference", unit="group", leave=False, disable=not progress):
        models = {selector: model_of(profile, selector, device) for selector in selectors}
        images = pixels(models[selectors[0]], batch, device)
        calls, about = {}, {}
        first = models[selectors[0]]
        plain = plain_of(first).to(getattr(torch, precision))
        calls[PLAIN, 1.0] = _runnable(plain, images.to(getattr(torch, precision)), compiled)
        about[PLAIN, 1.0] = (plain, cost.gmacs(first, images.shape[-1], 1.0))
        for selector, model in models.items():
            for ratio in ratios:
                at = AtRatio(model, ratio, precision=precision)
                calls[selector, ratio] = _runnable(at, images, compiled)
                about[selector, ratio] = (at, cost.gmacs(model, images.shape[-1], ratio))
        try:
            with torch.inference_mode():
                times = timing.in_turn(calls, seconds, rounds)
        except Exception as error:
            if not compiled:
                raise
            logging.getLogger(__name__).warning(
                "torch.compile does not work here (%s): nothing compiled is measured", type(error).__name__
            )
            return pd.DataFrame()
        finally:
            torch._dynamo.reset()  # what was compiled for this group is not asked for again
        whole = about[PLAIN, 1.0][1].total
        for (selector, ratio), measured in times.items():
            module, macs = about[selector, ratio]
            found, gain = timing.latency(measured, batch), timing.ratio(times[PLAIN, 1.0], measured)
            rows.append(
                {
                    "task": "inference",
                    "policy": selector,
                    "keep_ratio": ratio,
                    "kept_patches": keep_count(first.patch_embed.num_patches, ratio),
                    "gmacs": macs.total,
                    "selector_gmacs": macs.selector,
                    "latency_ms": found.median_ms,
                    "latency_iqr_ms": found.iqr_ms,
                    "throughput": found.throughput,
                    "batch_size": batch,
                    "dtype": precision,
                    "compiled": compiled,
                    "image_size": images.shape[-1],
                    "baseline": PLAIN,
                    "speed_up": gain.middle,
                    "speed_up_low": gain.low,
                    "speed_up_high": gain.high,
                    "ideal_speed_up": whole / macs.total,
                    "floor_ms": machines[precision].floor_ms(macs.total * batch, roofline.moved(module, images)),
                }
            )
    return with_origin(pd.DataFrame(rows), profile, device)


def training(
    profile: Profile,
    dataset: str = "",
    *,
    images: int = 512,
    rounds: int = 5,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Images a second of each recipe against the authors' loop, in turn.

    Args:
        profile: whose model and schedule.
        dataset: the data set's name, "": the profile's first.
        images: of an epoch.
        rounds: of timing.
        device: None: the default one.
        progress: whether a bar is shown.

    Returns:
        Rows of `tables.SPEED`, one a training, its name in `recipe`, latency_ms for a batch; the floor is that of three
        passes (one forward, two backward) of every token that the recipe sends through the blocks.
    """
    device = torch.device(device) if device else default_device()
    found = bench_training.in_turn(
        profile,
        dataset,
        images,
        rounds,
        device,
        base=bench_training.AUTHORS,
        only=tuple(recipe.name for recipe in RECIPES if not recipe.alone),
        progress=progress,
    ).set_index("training")
    profile, dataset = profile.for_direct(), dataset or profile.datasets[0]
    stage, here, rows = profile.direct, resolve_precision(profile.precision, device), []
    ratio = (stage.ratio_low + stage.ratio_high) / 2
    for name, row in found.iterrows():
        authors = name == bench_training.AUTHORS
        recipe, precision = RECIPES["masked" if authors else name], "float32" if authors else here
        model = model_of(profile, profile.selector_for(recipe.name), device)
        batch = pixels(model, stage.batch_size, device)
        macs = _training_gmacs(model, recipe, profile.settings_of(recipe.name, dataset), ratio)
        machine = roofline.measure(device, precision, profile.speed.seconds)
        half = row["low"], row["high"]
        rows.append(
            {
                "task": "training",
                "dataset": dataset,
                "policy": model.selector.name,
                "recipe": name,
                "keep_ratio": ratio,
                "gmacs": macs,
                "latency_ms": 1e3 * len(batch) / row["images_per_second"],
                "latency_iqr_ms": 1e3 * len(batch) * (1 / half[0] - 1 / half[1]),
                "throughput": row["images_per_second"],
                "batch_size": len(batch),
                "dtype": precision,
                "image_size": batch.shape[-1],
                "images": images,
                "baseline": bench_training.AUTHORS,
                "speed_up": row[f"times_{bench_training.AUTHORS}"],
                "speed_up_low": row[f"times_{bench_training.AUTHORS}_low"],
                "speed_up_high": row[f"times_{bench_training.AUTHORS}_high"],
                "floor_ms": machine.floor_ms(macs * len(batch), roofline.moved_in_training(model, batch)),
            }
        )
    return with_origin(pd.DataFrame(rows), profile, device)


def memory_use(
    profile: Profile,
    *,
    ratios: Sequence[float] = (1.0, 0.7, 0.5, 0.3, 0.2, 0.1),
    batch_size: int = 64,
    device: str | torch.device | None = None,
    progress: bool = True,
) -> pd.DataFrame:
    """Peak memory of a forward, and of a training step (forward and backward, without the optimiser's moments, which
    are the same for all), above weights and images, MB.

    Args:
        profile: whose model.
        ratios: keep ratios, in (0, 1].
        batch_size: images of a forward or step.
        device: None: the default one.
        progress: whether a bar is shown.

    Returns:
        Rows of `tables.SPEED`, one a (what, ratio), what in `recipe`: "" (inference, timm's plain model and `anytime`'s
        selector), "masked" (all tokens), "dropped".
    """
    device = torch.device(device) if device else default_device()
    precision, rows = resolve_precision(profile.precision, device), []
    glance, learned = (model_of(profile, selector, device) for selector in ("glance", "learned"))
    images = pixels(glance, batch_size, device)
    labels = torch.arange(batch_size, device=device) % glance.num_classes
    plain, converted = plain_of(glance), images.to(getattr(torch, precision))
    plain = plain.to(converted.dtype)
    measured: list[tuple[str, str, float, Callable]] = [("", PLAIN, 1.0, lambda: plain(converted))]
    for ratio in ratios:
        at = AtRatio(glance, ratio, precision=precision)
        measured.append(("", "glance", ratio, lambda at=at: at(images)))
        for recipe in ("masked", "dropped"):
            step = _step(learned, images, labels, recipe, ratio, precision)
            measured.append((recipe, "learned", ratio, step))
    for recipe, policy, ratio, work in tqdm(measured, desc="memory", unit="setting", leave=False, disable=not progress):
        with torch.set_grad_enabled(bool(recipe)):
            work()  # what is allocated once and kept is not this work's own
            high = memory.peak(work, device)
        rows.append(
            {
                "task": "memory",
                "policy": policy,
                "recipe": recipe,
                "keep_ratio": ratio,
                "kept_patches": keep_count(glance.patch_embed.num_patches, ratio),
                "peak_memory_mb": high / 1e6,
                "batch_size": batch_size,
                "dtype": precision,
                "image_size": images.shape[-1],
            }
        )
    return with_origin(pd.DataFrame(rows), profile, device)


def _runnable(module: nn.Module, images: Tensor, compiled: bool) -> Callable[[], Tensor]:
    if compiled:
        # CUDA graphs replay a forward's kernels at once: what one image costs is mostly launching them.
        mode = "reduce-overhead" if images.device.type == "cuda" else None
        module = torch.compile(module, fullgraph=True, dynamic=False, mode=mode)
    return lambda: module(images)


def _step(model: SelectiveViT, images: Tensor, labels: Tensor, recipe: str, ratio: float, precision: str) -> Callable:
    def step():
        model.train()
        with fast_backward(model, images.device):
            with autocast(images.device, precision):
                loss, _ = objectives.loss(
                    model,
                    images,
                    labels,
                    mode=RECIPES[recipe].run.mode,
                    ratio=ratio,
                    sparsity=0.0,
                    noise=generator(0, "noise"),
                )
            loss.backward()
        model.zero_grad(set_to_none=True)

    return step


def _training_gmacs(model: SelectiveViT, recipe: Recipe, settings: object, ratio: float) -> float:
    """1e9 multiply-accumulates of an image's training: three times those of its forwards; nan where the recipe does not
    say what these are."""
    if recipe.forwards is None:
        return float("nan")
    size, counted = model.patch_embed.img_size[0], recipe.forwards(ratio, settings)
    choosing = counted.pop("selector", 0) * cost.gmacs(model, size, 0.5).selector
    return 3 * (choosing + sum(count * cost.gmacs(model, size, at).total for at, count in counted.items()))
