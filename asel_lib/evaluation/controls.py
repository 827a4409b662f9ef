"""Whether a choice looks at the image: a model's own choice beside controls that do not.

    python -m asel_lib.evaluation.controls rsscn7_finetuned [--profile compact] [--ratios 0.1 0.2]

Every control is answered by the same weights at the same keep ratio, on the same test images. What the model is worth
against random patches by the same recipe and against a smaller image stands in the results: these are other models.
"""

import argparse
from collections.abc import Iterable, Sequence

import pandas as pd
import torch
from torch import Tensor, nn
from tqdm.auto import tqdm

from asel_lib import checkpoints, files
from asel_lib.data.sets import open_recorded, recorded_batches
from asel_lib.devices import autocast, default_device, resolve_precision
from asel_lib.evaluation import answers, paired
from asel_lib.evaluation.accuracy import sweep
from asel_lib.evaluation.leaks import in_common
from asel_lib.reproducibility import generator
from asel_lib.selection import keep_count

ONE_MASK, OTHER_IMAGE = "one_mask", "another_image"
POLICIES = ("even", "random")  # controls that are policies: they choose without the model's selector
LABELS = {ONE_MASK: "one mask for all images", OTHER_IMAGE: "another image's choice"}
LOOKED_AT = 256  # images whose choices are compared with each other


@torch.inference_mode()
def choices(
    model: nn.Module, batches: Iterable[tuple[Tensor, ...]], ratio: float, precision: str = "float32"
) -> Tensor:
    """The patches that the model's own selector keeps of each image.

    Args:
        model: a SelectiveViT whose selector keeps patches.
        batches: as `accuracy.sweep`'s.
        ratio: keep ratio.
        precision: as resolved by `devices`.

    Returns:
        Indices (n, K).

    Raises:
        ValueError: the selector merges or replaces patches.
    """
    model.eval()
    found = []
    for images, _, *drawn in batches:
        with autocast(images.device, precision):
            found.append(model.select(images, ratio, lines=drawn[0] if drawn else None))
    return torch.cat(found)


def one_mask(kept: Tensor, patches: int) -> Tensor:
    """The patches that are kept most often.

    Args:
        kept: indices (n, K), the choices for other images (val).
        patches: N.

    Returns:
        Indices (K,); of equally frequent ones the first in raster order.
    """
    counts = torch.bincount(kept.flatten(), minlength=patches)
    return torch.sort(counts, descending=True, stable=True).indices[: kept.shape[1]]


def other_images(count: int) -> Tensor:
    """For each of `count` images the number of another one, drawn once: a cycle through all in random order.

    Raises:
        ValueError: fewer than two images.
    """
    if count < 2:
        raise ValueError(f"{count} image: another image's choice needs at least two")
    order = torch.randperm(count, generator=generator(0, "another image"))
    return torch.empty_like(order).scatter_(0, order, order.roll(1))


@torch.inference_mode()
def controlled(
    model: nn.Module,
    test: Iterable[tuple[Tensor, ...]],
    val: Iterable[tuple[Tensor, ...]],
    ratios: Sequence[float],
    precision: str = "float32",
    draws: int = 2,
    progress: bool = True,
) -> tuple[dict[tuple[str, float], Tensor], pd.DataFrame]:
    """Answers by the model's own choice and by each control.

    Args:
        model: a SelectiveViT whose selector keeps patches.
        test: batches as `accuracy.sweep`'s, re-iterable.
        val: other images, of which the one mask is made.
        ratios: keep ratios, in (0, 1).
        precision: as resolved by `devices`.
        draws: forwards of `random`.
        progress: whether bars are shown.

    Returns:
        (control, keep ratio) -> for each image whether it was answered rightly (n,), random's a mean over draws; the
        own choice under "own". And a row a keep ratio: how much two images' choices have in common, and how much two
        random choices of K of N patches would have (`chance`).
    """
    model.eval()
    policies = [policy for policy in POLICIES if policy != model.selector.name]
    _, right = sweep(model, test, ratios, policies, draws, precision, progress=progress)
    common = []
    for ratio in tqdm(ratios, desc="controls", unit="ratio", disable=not progress):
        own = choices(model, test, ratio, precision)
        patches = model.patch_embed.num_patches
        mask = one_mask(choices(model, val, ratio, precision), patches).expand(len(own), -1)
        kept = {"own": own, ONE_MASK: mask, OTHER_IMAGE: own[other_images(len(own)).to(own.device)]}
        found, start = {name: [] for name in kept}, 0
        for images, labels, *_ in test:
            here = slice(start, start := start + len(images))
            with autocast(images.device, precision):
                for name, indices in kept.items():
                    found[name].append(model(images, kept=indices[here]).argmax(dim=1) == labels)
        right |= {(name, float(ratio)): torch.cat(hits).float().cpu() for name, hits in found.items()}
        share = keep_count(patches, ratio) / patches
        common.append({"keep_ratio": float(ratio), "in_common": in_common(own[:LOOKED_AT]), "chance": share})
    return right, pd.DataFrame(common)


def table(right: dict[tuple[str, float], Tensor]) -> pd.DataFrame:
    """The own choice minus each control, image by image.

    Args:
        right: `controlled`'s.

    Returns:
        A row a (control, keep ratio): own and control (accuracies), difference and its 95 % interval (low, high; paired
        over images), n_images.
    """
    ratios = list(dict.fromkeys(ratio for _, ratio in right))
    frames = {
        name: pd.DataFrame({ratio: right[name, ratio].numpy().astype(float) for ratio in ratios})
        for name in dict.fromkeys(name for name, _ in right)
    }
    rows = []
    for name in (name for name in frames if name != "own"):
        gap = paired.differences([frames["own"]], [frames[name]])
        rows.append(gap.rename(columns={"ours": "own", "theirs": "control_accuracy"}).assign(control=name))
    columns = ["control", "keep_ratio", "own", "control_accuracy", "difference", "low", "high", "n_images"]
    return pd.concat(rows, ignore_index=True)[columns]


def of_checkpoint(
    name: str, profile: str | None = None, ratios: Sequence[float] = (0.1, 0.2), progress: bool = True
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`table` and the choices' overlap of a checkpoint, on the test images of its own split; the answers are kept.

    Args:
        name: the checkpoint's, or a path.
        profile: whose run it is of; None: that of its record.
        ratios: keep ratios, in (0, 1).
        progress: whether bars are shown.
    """
    device = default_device()
    model = checkpoints.load(name, device, profile)
    record = model.record
    images, split = open_recorded(record)
    test, val = (recorded_batches(images, part, record, 256, device) for part in (split.test, split.val))
    precision = resolve_precision(record["training_precision"], device)
    right, common = controlled(model, test, val, ratios, precision, progress=progress)
    file = answers.file_of(record["name"], profile or record["profile"], "controls")
    files.check_writable(file.parent)
    kept = {(record["selector"] if who == "own" else who, ratio): hits for (who, ratio), hits in right.items()}
    answers.write(file, kept, [images.names[index] for index in split.test], record)
    return table(right), common


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m asel_lib.evaluation.controls", description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", nargs="+")
    parser.add_argument("--profile", help="default: that of the checkpoint's record")
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.1, 0.2])
    asked = parser.parse_args(arguments)
    for name in asked.checkpoint:
        gaps, common = of_checkpoint(name, asked.profile, asked.ratios)
        print(f"\n{name}: own choice minus controls, points\n")
        shown = gaps.assign(**{column: (100 * gaps[column]).round(1) for column in gaps.columns[2:7]})
        print(shown.to_string(index=False))
        print("\nwhat the choices for two images have in common\n")
        print(common.round(2).to_string(index=False))


if __name__ == "__main__":
    main()
