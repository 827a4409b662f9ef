"""Two methods on the same images: what their difference is, and how sure."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from torch import Tensor, nn

from asel_lib import checkpoints, methods
from asel_lib.data.sets import open_recorded, recorded_batches
from asel_lib.devices import default_device, resolve_precision
from asel_lib.errors import CheckpointError
from asel_lib.evaluation import answers
from asel_lib.evaluation.accuracy import sweep
from asel_lib.identity import ModelKey
from asel_lib.selection import parse, policy_string


def outcomes(
    model: nn.Module,
    batches: Iterable[tuple[Tensor, ...]],
    ratios: Sequence[float],
    policy: str | None = None,
    draws: int = 5,
    precision: str = "float32",
    progress: bool = True,
) -> pd.DataFrame:
    """A row an image, a column a keep ratio: the share of a policy's draws that were right, 0 or 1 without draws.

    Args:
        model: a SelectiveViT.
        batches: as `accuracy.sweep`'s; the rows are in their order.
        ratios: keep ratios, in (0, 1].
        policy: how patches are chosen; None: the model's own way.
        draws: forwards of a policy that draws.
        precision: as resolved by `devices`.
        progress: whether a bar is shown.
    """
    policy = policy or policy_string(model.selector)
    _, right = sweep(model, batches, ratios, [policy], draws, precision, progress=progress)
    return pd.DataFrame({ratio: right[policy, float(ratio)].numpy() for ratio in ratios})


def of_checkpoints(
    names: Sequence[str],
    profile: str,
    ratios: Sequence[float],
    policy: str | None = None,
    draws: int = 5,
    split: str = "test",
    progress: bool = True,
) -> list[pd.DataFrame]:
    """`outcomes` of each of these checkpoints on a part of the split in its own record: those that its benchmark has
    kept (with its number of draws), also of a checkpoint whose weights are not here, else of the model.

    Args:
        names: of checkpoints, the seeds of a method.
        profile: name of the profile.
        ratios: keep ratios, in (0, 1].
        policy: how patches are chosen; None: each model's own way.
        draws: forwards of a policy that draws.
        split: "train", "val" or "test".
        progress: whether bars are shown.
    """
    found = []
    for name in names:
        if (kept := answers.read(name, profile, ratios, policy, split)) is not None:
            found.append(kept)
            continue
        model, batches, precision, _ = _opened(name, profile, split)
        record = model.record
        frame = outcomes(model, batches, ratios, policy, draws, precision, progress)
        frame.attrs = {key: record[key] for key in ("profile", "start", "dataset_fingerprint")}
        frame.attrs["split"] = record["split"]["fingerprint"]
        found.append(frame)
    return found


def accuracies(
    names: dict[str, Sequence[str]],
    profile: str,
    ratios: Sequence[float],
    policies: Sequence[str | None] = (None,),
    draws: int = 5,
    progress: bool = True,
) -> pd.DataFrame:
    """Test accuracy by several policies. Answers are kept in the profile's run, so that the same table comes at once
    the next time, and without weights.

    Args:
        names: label -> its checkpoints (seeds).
        profile: name of the profile.
        ratios: keep ratios, in (0, 1].
        policies: None is a model's own; one that a model cannot have (`glance:choice=sample` of one without such a
            selector) is left out.
        draws: forwards of a policy that draws.
        progress: whether bars are shown.

    Returns:
        A row a (label, policy), a column a keep ratio: mean over `seeds`, those with answers; and `drop`, from the
        largest ratio to 0.2 where both were asked for.
    """
    rows = []
    for label, checkpoints_of in names.items():
        for name in checkpoints_of:
            _answer(name, profile, ratios, policies, draws, progress)
        for policy in policies:
            read = [answers.read(name, profile, ratios, policy) for name in checkpoints_of]
            if not (found := [frame for frame in read if frame is not None]):
                continue
            _alike(found)
            means = (sum(found) / len(found)).mean()
            row = {"label": label, "policy": policy or "its own", "seeds": len(found), "images": len(found[0])}
            row |= {f"{ratio:g}": means[ratio] for ratio in ratios}
            rows.append(row | {"drop": means[max(ratios)] - means[0.2] if 0.2 in ratios else float("nan")})
    return pd.DataFrame(rows)


def _answer(
    name: str, profile: str, ratios: Sequence[float], policies: Sequence[str | None], draws: int, progress: bool
) -> None:
    """Have the answers kept of those of the policies that the checkpoint can choose by. Without its weights there is
    nothing to be done."""
    try:
        own = checkpoints.read_record(checkpoints.locate(name, profile))["selector"]
    except CheckpointError:
        return
    asked = [policy or own for policy in policies if policy is None or _fits(policy, own)]
    if all(answers.read(name, profile, ratios, policy) is not None for policy in asked):
        return
    model, batches, precision, images = _opened(name, profile, "test")
    _, right = sweep(model, batches, ratios, list(dict.fromkeys(asked)), draws, precision, progress=progress)
    answers.write(answers.file_of(name, profile, "policies"), right, images, model.record)


def _opened(name: str, profile: str, split: str) -> tuple:
    """A checkpoint's model, the batches of a part of its own split, the precision it was trained in, those images'
    names."""
    device = default_device()
    model = checkpoints.load(name, device, profile)
    images, parts = open_recorded(model.record)
    indices = getattr(parts, split)
    batches = recorded_batches(images, indices, model.record, 256, device)
    precision = resolve_precision(model.record["training_precision"], device)
    return model, batches, precision, [images.names[index] for index in indices]


def _fits(policy: str, own: str) -> bool:
    """Whether a model with that selector of its own can choose by that policy: any without weights, or its own's."""
    return not parse(policy)[0].trained or parse(policy)[0] is parse(own)[0]


def at_hand(profile: str) -> set[str]:
    """Checkpoints that can be compared: shipped or of that profile's run, or of which answers alone are kept."""
    return {*checkpoints.available_in(profile), *answers.names(profile)}


def answerable(names: Sequence[str], profile: str, ratios: Sequence[float], policy: str | None = None) -> list[str]:
    """Of these checkpoints, those whose answers are kept or whose weights are here.

    Args:
        names: of checkpoints.
        profile: whose run is looked into.
        ratios: keep ratios.
        policy: None: the model's own.
    """
    weights = checkpoints.available_in(profile)
    return [name for name in names if name in weights or answers.read(name, profile, ratios, policy) is not None]


def rivals(dataset: str, seeds: Iterable[int], profile: str, of: str = "glance/anytime") -> dict[str, list[str]]:
    """A method and what it is measured against (`Method.compared_with`), on the direct schedule.

    Args:
        dataset: the data set's name.
        seeds: of the trainings.
        profile: name of the profile.
        of: the method, as `methods.parse` reads it.

    Returns:
        A method's text -> its checkpoints at hand, or whose answers are kept; the method itself is the first.
    """
    first, there, seeds = methods.parse(of), at_hand(profile), list(seeds)
    found = {}
    for one in (first, *first.compared_with):
        keys = [ModelKey(dataset, "direct", one.selector, one.recipe, seed=seed) for seed in seeds]
        found[one.text] = [key.name for key in keys if key.name in there]
    return found


def against(
    first: str, names: dict[str, Sequence[str]], profile: str, ratios: Sequence[float], progress: bool = True
) -> pd.DataFrame:
    """`differences` of every label from the first, each by its own choice.

    Args:
        first: the label that others are compared with.
        names: label -> checkpoints.
        profile: name of the profile.
        ratios: keep ratios, in (0, 1].
        progress: whether bars are shown.

    Returns:
        The rows, with their `label`; empty where the first has no checkpoint, or no other has.
    """
    others = [label for label in names if label != first and names[label]]
    if not names.get(first) or not others:
        return pd.DataFrame()
    base = of_checkpoints(names[first], profile, ratios, progress=progress)
    parts = [differences(of_checkpoints(names[label], profile, ratios, progress=progress), base) for label in others]
    return pd.concat([part.assign(label=label) for part, label in zip(parts, others, strict=True)], ignore_index=True)


def differences(ours: Sequence[pd.DataFrame], theirs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """How much more accurate our trainings are than theirs on the same images, and how sure that is.

    Two intervals of 95 %: `low`, `high` is over images (paired, of a mean, normal; seeds are averaged for each image):
    what other images of the same kind would give with these trainings. `seeds_low`, `seeds_high` is over trainings
    (Welch 1947, unpaired): what other seeds would give on these images; nan where either side has fewer than two.

    Args:
        ours: `outcomes` of our seeds.
        theirs: those of theirs, of the same images and keep ratios.

    Returns:
        A row a keep ratio: ours and theirs (accuracies), difference (ours - theirs) and the intervals, shares;
        n_images, seeds (ours), their_seeds.

    Raises:
        ValueError: where either has no seed, or they were not tested alike.
    """
    if not ours or not theirs:
        raise ValueError(f"{len(ours)} seeds of ours and {len(theirs)} of theirs: expected at least one of each")
    _alike([*ours, *theirs])
    mine, other = sum(ours) / len(ours), sum(theirs) / len(theirs)
    gap = mine - other
    middle, error = gap.mean(), gap.std(ddof=1) / np.sqrt(len(gap))
    columns = {"ours": mine.mean(), "theirs": other.mean(), "difference": middle}
    columns |= {"low": middle - 1.96 * error, "high": middle + 1.96 * error}
    frame = pd.DataFrame(columns)
    ends = [_over_trainings([one[at].mean() for one in ours], [one[at].mean() for one in theirs]) for at in frame.index]
    frame["seeds_low"], frame["seeds_high"] = np.transpose(ends)
    frame["n_images"], frame["seeds"], frame["their_seeds"] = len(gap), len(ours), len(theirs)
    return frame.rename_axis("keep_ratio").reset_index()


def _over_trainings(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the difference of two means of trainings (Welch 1947)."""
    if min(len(ours), len(theirs)) < 2:
        return float("nan"), float("nan")
    if max(np.ptp(ours), np.ptp(theirs)) < 1e-12:
        return (float(np.mean(ours) - np.mean(theirs)),) * 2
    from scipy.stats import ttest_ind  # slow to import

    interval = ttest_ind(ours, theirs, equal_var=False).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


def non_inferior(gaps: pd.DataFrame, margin: float = 0.01) -> pd.Series:
    """Whether ours is no worse than theirs by the margin or more, at each keep ratio.

    Args:
        gaps: of `differences`.
        margin: share of the images that ours may be worse by and still count as no worse: 0.01 is one point.

    Returns:
        "yes": both intervals (the one over trainings where there is one) lie above -margin; "no": one of them lies
        below it; "undecided": neither.

    Raises:
        ValueError: where the margin is not above 0.
    """
    if not margin > 0:
        raise ValueError(f"margin is {margin!r}: expected a share above 0, as 0.01 for one point")
    low = gaps[["low", "seeds_low"]].min(axis=1)
    high = gaps[["high", "seeds_high"]].min(axis=1)
    return pd.Series(np.where(low > -margin, "yes", np.where(high < -margin, "no", "undecided")), index=gaps.index)


def _alike(frames: Sequence[pd.DataFrame]) -> None:
    """ValueError for `outcomes` that do not belong together."""
    if len(shapes := {frame.shape for frame in frames}) > 1:
        raise ValueError(f"outcomes of unlike size, {sorted(shapes)}: test both on the same images and ratios")
    for key in sorted(set().union(*(frame.attrs for frame in frames))):
        if len(values := {str(frame.attrs.get(key)) for frame in frames}) > 1:
            raise ValueError(f"outcomes of unlike {key}, {sorted(values)}: compare what was made and tested alike")
