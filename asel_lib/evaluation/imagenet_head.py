"""Without any training: a network's own ImageNet head on photos of ImageNet classes, by every policy that needs none.

python -m asel_lib.evaluation.imagenet_head --dataset imagenette
python -m asel_lib.evaluation.imagenet_head --dataset FOLDER --architecture deit_small_patch16_224 --ratios 1 0.2042

The classes' folders are called by their WordNet ids (n01440764). Each image is answered once, and the answer is read in
two ways: among all of ImageNet's 1,000 classes, and among those of the data set alone. Rows and answers go into the
profile's run, and `python -m tools.ship PROFILE NAME ... --without-weights` puts them among the committed ones.
"""

import argparse
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import numpy as np
import pandas as pd
import torch
from timm.data import ImageNetInfo
from torch import Tensor, nn
from tqdm.auto import tqdm

from asel_lib import configs, paths, tables
from asel_lib.data import decode
from asel_lib.data.batches import Batches
from asel_lib.data.decode import ImageArray
from asel_lib.data.splits import Split, fingerprint_of
from asel_lib.devices import autocast, default_device, resolve_precision
from asel_lib.errors import AselError
from asel_lib.evaluation import answers
from asel_lib.evaluation.accuracy import drawings, forwards, measured
from asel_lib.evaluation.benchmark import timing_batch, with_costs
from asel_lib.evaluation.outcome import Outcome
from asel_lib.identity import NONE, OWN_CLASSES, ModelKey
from asel_lib.methods import LINE_GUIDED
from asel_lib.models import SelectiveViT
from asel_lib.reproducibility import generator
from asel_lib.selection import keep_count
from asel_lib.training.start import load_start

ARCHITECTURE = "vit_tiny_patch16_224"
POLICIES = (
    "random",
    "central",
    "even",
    "edge_energy",
    LINE_GUIDED,
    "line_guided:lines=xdog,choice=top",
    "smaller_image",
    "evit",
    "tome",
)
HEADS = ("", OWN_CLASSES)  # variants of the key: all of ImageNet's classes, the data set's alone


def class_numbers(classes: Sequence[str]) -> tuple[int, ...]:
    """The numbers of classes among the 1,000 of ImageNet-1k.

    Args:
        classes: WordNet ids, as "n01440764".

    Raises:
        ValueError: names the first that is none of them.
    """
    numbers = {name: number for number, name in enumerate(ImageNetInfo().label_names())}
    if unknown := [name for name in classes if name not in numbers]:
        raise ValueError(
            f"class {unknown[0]!r} is none of ImageNet-1k's: expected folders called by WordNet ids, as n01440764"
        )
    return tuple(numbers[name] for name in classes)


@torch.inference_mode()
def outcomes(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, Tensor]],
    numbers: Sequence[int],
    ratios: Sequence[float],
    policies: Sequence[str],
    draws: int = 5,
    precision: str = "float32",
    progress: bool = True,
) -> dict[str, dict[tuple[str, float], Outcome]]:
    """What the head answers, read in both ways of HEADS.

    Args:
        model: a SelectiveViT with ImageNet's 1,000 outputs.
        batches: yields (images (B, 3, H, W) normalised, labels (B,) int64, positions in `numbers`).
        numbers: of the data set's classes among the 1,000.
        ratios: keep ratios, in (0, 1].
        policies: such as need no training.
        draws: forwards of policies that draw.
        precision: as resolved by `devices`.
        progress: whether a bar is shown.

    Returns:
        A variant of HEADS -> (policy, keep ratio) -> answers. With all patches kept all policies have the same.
    """
    settings, own = forwards(ratios, policies, draws), torch.tensor(numbers)
    ranked = {head: {setting: [] for setting in settings} for head in HEADS}
    truth = []
    model.eval()
    for images, labels in tqdm(batches, desc="ImageNet head", unit="batch", disable=not progress):
        truth.append(labels.cpu())
        lines = {policy: drawings(model, images, policy) for policy in policies}  # once, not once a ratio and draw
        with autocast(images.device, precision):
            for policy, ratio, draw in settings:
                logits = model(images, ratio, policy, lines[policy], draw_index=draw).float().cpu()
                for head, among in (("", logits), (OWN_CLASSES, logits[:, own])):
                    best = among.topk(min(5, among.shape[1]), dim=1).indices
                    ranked[head][policy, ratio, draw].append(best.int())
    labels = torch.cat(truth)
    right = {"": own[labels].numpy(), OWN_CLASSES: labels.numpy()}
    found = {head: {} for head in HEADS}
    for head in HEADS:
        for policy in policies:
            for ratio in ratios:
                asked = (settings[0][0] if ratio == 1 else policy, ratio)
                drawn = [torch.cat(parts) for setting, parts in ranked[head].items() if setting[:2] == asked]
                found[head][policy, ratio] = Outcome(right[head], torch.stack(drawn).numpy())
    return found


def measure(
    dataset: str,
    profile: str = "compact",
    *,
    architecture: str = ARCHITECTURE,
    ratios: Sequence[float] = (),
    policies: Sequence[str] = POLICIES,
    most: int = 0,
    minutes: float = float("inf"),
    device: str | torch.device | None = None,
    progress: bool = True,
) -> list[pd.DataFrame]:
    """Measure a network's ImageNet head, and write rows and answers into the profile's run: results/<name>.csv and
    answers/<name>.csv.gz, of <data set>_imagenet_head and <data set>_imagenet_head_own_classes.

    Args:
        dataset: a name of the catalogue, or a folder of images; where it has a val or test part of its own, that is
            measured, else all of it.
        profile: whose keep ratios, draws, precision and run.
        architecture: timm's name; its weights are looked for as those that a training starts from.
        ratios: keep ratios, in (0, 1]; (): the profile's.
        policies: such as need no training.
        most: images at most; 0: all. They are taken in an order that is drawn, the same every time, so that fewer are
            a fair sample of all.
        minutes: after which no further batch is begun; what was answered until then counts.
        device: None: a GPU where there is one.
        progress: whether a bar is shown.

    Returns:
        The rows (`tables.RESULTS`) of each of HEADS. No times: accuracy and counted operations.

    Raises:
        CheckpointError: there are no such weights.
        DatasetError: there is no such data set.
        ValueError: a class that is none of ImageNet's, or what makes no sweep.
    """
    settings = configs.load(profile)
    device = torch.device(device) if device else default_device()
    precision = resolve_precision(settings.precision, device)
    ratios = [float(ratio) for ratio in ratios or settings.evaluation.ratios]
    model = SelectiveViT(architecture, len(ImageNetInfo().label_names()), "random").to(device).eval()
    weights = load_start(model, architecture, "imagenet")
    size = model.patch_embed.img_size[0]
    images = decode.load(dataset, size)
    indices = _measured(images, most)
    normal = {name: list(model.pretrained_cfg[name]) for name in ("mean", "std")}
    batches = Batches(
        images, indices, image_size=size, batch_size=settings.evaluation.batch_size, device=device, **normal
    )
    numbers, draws = class_numbers(images.classes), settings.evaluation.draws
    found = outcomes(model, _until(batches, minutes), numbers, ratios, policies, draws, precision, progress)
    batch, _ = timing_batch(batches, 1)
    indices = indices[: len(next(iter(found[""].values())).labels)]
    frames, names = [], [images.names[index] for index in indices]
    for head, given in found.items():
        record = _record(images, indices, head, architecture, weights) | {"profile": profile, "split": "test"}
        rows = [
            {"policy": policy, "keep_ratio": ratio, "kept_patches": keep_count(model.patch_embed.num_patches, ratio)}
            | {"n_images": len(indices)}
            | measured(outcome)
            for (policy, ratio), outcome in given.items()
        ]
        frame = with_costs(pd.DataFrame(rows), model, batch, None, {}, record, profile, precision, progress)
        tables.write(frame, paths.run(profile) / "results" / f"{record['name']}.csv")
        right = {setting: torch.from_numpy(one.right).float().mean(dim=0) for setting, one in given.items()}
        file = answers.file_of(record["name"], profile)
        answers.write(file, right, names, record | {"split": {"fingerprint": record["parts"]}})
        frames.append(frame)
    return frames


def _measured(images: ImageArray, most: int) -> np.ndarray:
    """Which images are measured, in their order."""
    parts = np.asarray(images.parts or ["test"] * len(images))
    own = next(part for part in ("test", "val", "train") if (parts == part).any())
    indices = np.flatnonzero(parts == own)
    order = torch.randperm(len(indices), generator=generator(0, "which images"))
    return indices[order.numpy()][: most or len(indices)]


def _until(batches: Iterable[tuple[Tensor, ...]], minutes: float) -> Iterator[tuple[Tensor, ...]]:
    """The batches that are begun in that time; always the first."""
    started = time.monotonic()
    for number, batch in enumerate(batches):
        if number and time.monotonic() - started > 60 * minutes:
            return
        yield batch


def _record(images: ImageArray, indices: np.ndarray, head: str, architecture: str, weights: str) -> dict:
    """What stands in the rows and the answers. There was no training of ours: the weights' digest is in its place."""
    variant = ".".join(filter(None, ("" if architecture == ARCHITECTURE else architecture, head)))
    key, empty = ModelKey(images.name, "untrained", NONE, NONE, variant), np.zeros(0, dtype=int)
    return asdict(key) | {
        "name": key.name,
        "start": "imagenet",
        "dataset_fingerprint": images.fingerprint,
        "parts": fingerprint_of(images.names, Split(empty, empty, indices, "own", 0, "")),
        "history": [architecture, weights],
    }


def main(arguments: list[str] | None = None) -> int:
    """-> the exit status: 0, or 1 where nothing can be measured, and the last line says why."""
    parser = argparse.ArgumentParser(
        prog="python -m asel_lib.evaluation.imagenet_head", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument(
        "--dataset", default="imagenette", help="a name of the catalogue or a folder; default: imagenette"
    )
    parser.add_argument("--profile", default="compact", choices=configs.names(), help="default: compact")
    parser.add_argument("--architecture", default=ARCHITECTURE, help=f"timm's name; default: {ARCHITECTURE}")
    parser.add_argument("--ratios", type=float, nargs="+", default=(), help="keep ratios; default: the profile's")
    parser.add_argument("--policies", nargs="+", default=POLICIES, help="default: all that need no training")
    parser.add_argument("--images", type=int, default=0, help="images at most; default: all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="then no further batch; default: any time")
    options = parser.parse_args(arguments)
    try:
        frames = measure(
            options.dataset,
            options.profile,
            architecture=options.architecture,
            ratios=options.ratios,
            policies=options.policies,
            most=options.images,
            minutes=options.minutes,
        )
    except (AselError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for frame in frames:
        print(frame["checkpoint"].iloc[0])
        print((100 * frame.pivot(index="policy", columns="keep_ratio", values="accuracy")).round(1).to_string())
    return 0


if __name__ == "__main__":
    sys.exit(main())
