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

END = ".csv.gz"
# What answers are of: "" a benchmark; policies that the model was compared by apart from that; controls of its choice.
KINDS = ("", "policies", "controls")


def file_of(name: str, profile: str, kind: str = "") -> Path:
    """Where a profile's run keeps the answers of a checkpoint.

    Args:
        name: the checkpoint's.
        profile: name of the profile.
        kind: one of KINDS.
    """
    return paths.run(profile) / "answers" / (name + _suffix(kind))


def write(
    file: Path, right: dict[tuple[str, float], Tensor], names: Sequence[str], record: dict, part: str = "test"
) -> None:
    """Keep the answers of a checkpoint; a benchmark's take the place of all kinds that were kept.

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
    if file.name == (name := _checkpoint(file)) + END:  # measured anew: what the other kinds hold may be of older code
        for kind in KINDS[1:]:
            file.with_name(name + _suffix(kind)).unlink(missing_ok=True)


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
    return {_checkpoint(file) for file in files}


def _suffix(kind: str) -> str:
    return (f".{kind}" if kind else "") + END


def _checkpoint(file: Path) -> str:
    """The name of the checkpoint whose answers a file of any kind holds."""
    ending = next(_suffix(kind) for kind in reversed(KINDS) if file.name.endswith(_suffix(kind)))
    return file.name.removesuffix(ending)


def _table(file: Path) -> pd.DataFrame:
    return ANSWERS.read(file)


def _files(name: str, profile: str) -> Iterable[Path]:
    own = [file_of(name, profile, kind) for kind in KINDS]
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
