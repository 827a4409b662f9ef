"""Which test images a checkpoint answers rightly, kept beside its results: two methods are compared image by image at
once, and without their weights."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from asel_lib import checkpoints, paths
from asel_lib.errors import CheckpointError
from asel_lib.files import replace_file
from asel_lib.identity import ModelKey
from asel_lib.tables import ANSWERS

END, POLICIES = ".csv.gz", ".policies"


def file_of(name: str, profile: str, policies: bool = False) -> Path:
    """Where a profile's run keeps the answers of a checkpoint.

    Args:
        name: the checkpoint's.
        profile: name of the profile.
        policies: not as its benchmark gave them, but by the policies that it was compared by apart from that.
    """
    return paths.run(profile) / "answers" / (name + (POLICIES if policies else "") + END)


def write(
    file: Path, right: dict[tuple[str, float], Tensor], names: Sequence[str], record: dict, part: str = "test"
) -> None:
    """Keep the answers of a checkpoint; a benchmark's take the place of all that were kept.

    Args:
        file: one of `file_of`; a table of kind `tables.ANSWERS`: a row a (policy, image), for each keep ratio the share
            of the policy's draws that were right, and in all rows alike what they are of.
        right: `accuracy.sweep`'s, of that part of the record's split, in the order of `names`.
        names: of the images.
        record: the checkpoint's.
        part: "train", "val" or "test".
    """
    about = _about(record) | {"part": part}
    frames = []
    for policy in dict.fromkeys(policy for policy, _ in right):
        shares = {f"{ratio:g}": values for (name, ratio), values in right.items() if name == policy}
        columns = {ratio: values.numpy().round(3) for ratio, values in shares.items()}
        frames.append(pd.DataFrame(about | {"policy": policy, "image": list(names)} | columns))
    table = ANSWERS.checked(pd.concat(frames, ignore_index=True), str(file))
    packed = {"method": "gzip", "mtime": 0}  # the same answers make the same file
    replace_file(file, lambda out: table.to_csv(out, index=False, compression=packed))
    if not file.name.endswith(POLICIES + END):  # measured anew: what other policies answered may be of older code
        file.with_name(file.name.removesuffix(END) + POLICIES + END).unlink(missing_ok=True)


def read(name: str, profile: str, ratios: Sequence[float], policy: str | None = None, part: str = "test"):
    """The kept answers of a checkpoint, from a profile's run or committed.

    Args:
        name: the checkpoint's.
        profile: name of the profile.
        ratios: keep ratios.
        policy: how patches were chosen, None: the checkpoint's own way.
        part: "train", "val" or "test".

    Returns:
        A row an image, a column a keep ratio; None where there are none, or of other weights than those at hand, or not
        of all the ratios.
    """
    for file in _files(name, profile):
        table = _table(file)
        first = table.iloc[0]
        rows = table[table["policy"] == (policy or first["selector"])]
        asked = [f"{ratio:g}" for ratio in ratios]
        fits = len(rows) and first["part"] == part and set(asked) <= set(table)
        if not fits or _other_weights(name, profile, first):
            continue
        found = rows[asked].reset_index(drop=True).set_axis(list(ratios), axis=1)
        found.attrs = {key: first[key] for key in ("profile", "start", "dataset_fingerprint", "split")}
        return found
    return None


def training(file: Path) -> str:
    """A digest of the training that these answers are of."""
    return str(_table(file)["training"].iloc[0])


def names(profile: str) -> set[str]:
    """Checkpoints whose answers are kept."""
    folders = (paths.run(profile) / "answers", paths.results() / "answers")
    files = (file for folder in folders for file in folder.glob(f"*{END}"))
    return {file.name.removesuffix(END).removesuffix(POLICIES) for file in files}


def _table(file: Path) -> pd.DataFrame:
    return ANSWERS.read(file)


def _files(name: str, profile: str) -> Iterable[Path]:
    own = [file_of(name, profile, policies) for policies in (False, True)]
    files = [*own, *(paths.results() / "answers" / file.name for file in own)]
    return [file for file in files if file.is_file()]


def _about(record: dict) -> dict[str, object]:
    return ModelKey.of(record).columns() | {
        "checkpoint": record["name"],
        "profile": record["profile"],
        "start": record["start"],
        "dataset_fingerprint": record["dataset_fingerprint"],
        "split": record["split"]["fingerprint"],
        "training": training_of(record),
    }


def training_of(record: dict) -> str:
    """A digest of how a training went: the same of weights that were rounded for shipping."""
    history = json.dumps(record["history"], sort_keys=True, default=str)
    return hashlib.sha256(history.encode()).hexdigest()[:16]


def _other_weights(name: str, profile: str, kept: pd.Series) -> bool:
    """Whether the checkpoint of that name is there, and is of another training."""
    try:
        record = checkpoints.read_record(checkpoints.locate(name, profile))
    except CheckpointError:
        return False
    return training_of(record) != kept["training"]
