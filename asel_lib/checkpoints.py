"""Checkpoints: <name>.safetensors with the weights, <name>.json with the record of how they were made.

The record holds a fingerprint of settings, data and split: weights are reused only where it matches what was asked.
"""

import difflib
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from asel_lib import paths, records, shipped, sources
from asel_lib.errors import CheckpointError
from asel_lib.files import replace_files
from asel_lib.identity import ModelKey
from asel_lib.records import FORMAT
from asel_lib.weights import network_of


def load(name: str | Path, device: str | torch.device = "cpu", profile: str | None = None):
    """A trained SelectiveViT in eval mode, float32, with `classes`, `transform`, `record` and `predict`.

    Args:
        name: a shipped checkpoint (saved_models/), one of your own runs, the path of a .safetensors file, or the place
            of a folder that `hub.write` made: "local-dir:folder", "hf-hub:owner/name".
        device: where the model goes.
        profile: whose run is looked in first.

    Raises:
        CheckpointError: where there is none, or where it is damaged or of another architecture.
    """
    from asel_lib.data.batches import transform
    from asel_lib.data.read_image import Reading

    if sources.is_place(name):
        file, (record, weights) = name, _read_place(str(name))
    else:
        file = locate(name, profile)
        record, weights = read_record(file), read_weights(file)
    prepared = record["transform"]
    model = network_of(record, weights, file)
    model.classes, model.record = tuple(record["classes"]), record
    model.budgets = {float(average): factor for average, factor in record.get("budgets", {}).items()}
    model.transform = transform(prepared["size"], prepared["mean"], prepared["std"], reading=Reading.of(prepared))
    model.patch_drop.mean, model.patch_drop.std = tuple(prepared["mean"]), tuple(prepared["std"])
    return model.to(device).eval()


def locate(name: str | Path, profile: str | None = None) -> Path:
    """The .safetensors file of a checkpoint.

    Args:
        name: its name, or a path. A name is looked for in the profile's run, in saved_models/, then in any run.
        profile: None: of no profile in particular.
    """
    path = Path(name)
    if path.suffix in (".pth", ".pt", ".bin", ".ckpt"):
        raise CheckpointError(
            f"{path}: a pickled checkpoint; published .pth files load with asel_lib.load_published(path)"
        )
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise CheckpointError(f"{path}: no such file")
        return path
    runs = paths.results() / "runs"
    for stem in dict.fromkeys((str(name), _present_name(str(name)))):
        folders = ([paths.run(profile) / "checkpoints"] if profile else []) + [paths.saved_models()]
        own = sorted(folder / f"{stem}.safetensors" for folder in runs.glob("*/checkpoints"))
        found = [folder / f"{stem}.safetensors" for folder in folders] + own
        own, found = ([file for file in files if file.is_file()] for files in (own, found))
        if found and stem != str(name):
            print(f"{name} is named {stem} now")
        if found and found[0] in own and len(own) > 1 and not profile:
            raise CheckpointError(f"{name!r} is in several runs, give the path of one: {', '.join(map(str, own))}")
        if found:
            return found[0]
        if stem in shipped.names():
            return shipped.fetch(stem)
    known = sorted({*available(), *shipped.names()})
    near = difflib.get_close_matches(str(name), known, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise CheckpointError(
        f"no checkpoint {name!r}: there are {', '.join(known) or 'none yet (./run_all.sh makes some)'}.{hint}"
    )


def _present_name(name: str) -> str:
    """What a name of earlier versions is now; the same for others."""
    try:
        return ModelKey.parse(name).name
    except ValueError:
        return name


def available() -> list[str]:
    """Names that `load` knows: shipped ones and those of this checkout's runs."""
    files = [
        *paths.saved_models().glob("*.safetensors"),
        *(paths.results() / "runs").glob("*/checkpoints/*.safetensors"),
    ]
    return sorted({file.stem for file in files if file.with_suffix(".json").is_file()})


def available_in(profile: str) -> list[str]:
    """Names of the shipped checkpoints and of that profile's run."""
    files = [*paths.saved_models().glob("*.safetensors"), *(paths.run(profile) / "checkpoints").glob("*.safetensors")]
    return sorted({file.stem for file in files if file.with_suffix(".json").is_file()})


def save(model, stem: Path, record: dict, half: bool = False) -> Path:
    """Write <stem>.safetensors and <stem>.json.

    Both are on the disk before either takes its place, and the record names the weights' digest, so that no mixed pair
    is ever taken for a checkpoint.

    Args:
        model: whose weights are written.
        stem: the files' path without ending.
        record: how the model was made.
        half: whether weights are written as 16-bit floats, for shipping.

    Raises:
        CheckpointError: where they cannot be written; the old ones stay.
    """
    weights = {
        key: (value.half() if half and value.is_floating_point() else value).detach().cpu().contiguous()
        for key, value in model.state_dict().items()
    }
    content = save_safetensors(weights)
    record = {"format": FORMAT, **record, "dtype": "float16" if half else "float32", "sha256": _digest(content)}
    file = stem.parent / f"{stem.name}.safetensors"
    _write(file, content, (json.dumps(record, indent=2, default=str) + "\n").encode())
    return file


def _write(file: Path, weights: bytes, record: bytes) -> None:
    """Both files of a checkpoint, or CheckpointError and the old ones stay."""
    try:
        replace_files({file: lambda f: f.write(weights), file.with_suffix(".json"): lambda f: f.write(record)})
    except OSError as error:
        raise CheckpointError(f"{file} could not be written: {error}") from error


def _differs(record: dict) -> str:
    raise CheckpointError("it was made with other settings, data or split")


def reuse(name: str, fingerprint: str, folder: Path, same_by_name: Callable[[dict], str] = _differs) -> Path | None:
    """A checkpoint that need not be trained again.

    Args:
        name: of the checkpoint.
        fingerprint: what its record must have.
        folder: where it is looked for, before saved_models/; a shipped one is copied there.
        same_by_name: record -> why one of another fingerprint may serve all the same; CheckpointError says why not.

    Returns:
        Its file in `folder`; None where there is none, and one line says why.
    """
    for candidate in (folder / f"{name}.safetensors", paths.saved_models() / f"{name}.safetensors"):
        if not candidate.is_file():
            continue
        try:
            record = read_record(candidate)
            found = record["fingerprint"]
            read_weights(candidate)
        except CheckpointError as error:
            print(f"not reused: {error}")
            continue
        if found != fingerprint:
            try:
                print(f"{name}: {same_by_name(record)}")
            except CheckpointError as error:
                print(
                    f"not reused: {candidate.parent.name}/{candidate.name}: {error} (its fingerprint is {found}, asked "
                    f"for {fingerprint})"
                )
                continue
        file = folder / f"{name}.safetensors"
        if candidate.parent != folder:
            _write(file, candidate.read_bytes(), candidate.with_suffix(".json").read_bytes())
        return file
    return None


def read_record(file: Path) -> dict:
    """The JSON beside a checkpoint's weights, checked.

    Args:
        file: the .safetensors file.

    Raises:
        CheckpointError: where it cannot be read, or an entry is not of its kind.
    """
    path = file.with_suffix(".json")
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: no readable record of the checkpoint ({error!r}); copy both files of it"
        ) from error
    return records.check(records.upgraded(record, file.stem), path)


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, checked against the digest in its record, as float32.

    Args:
        file: the .safetensors file.

    Raises:
        CheckpointError: where it is damaged, or not the one of the record.
    """
    return _tensors(file, lambda: read_record(file)["sha256"], "the record")


def _tensors(file: Path, digest: Callable[[], str], record: str) -> dict[str, Tensor]:
    try:
        content = file.read_bytes()
        weights = load_safetensors(content)
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:  # e.g. of a type that torch lacks
        raise CheckpointError(f"{file}: not a whole safetensors file ({error}); copy or train it again") from error
    if _digest(content) != digest():
        raise CheckpointError(f"{file}: the weights are not those of {record} beside them; copy or train both again")
    return {key: value.float() if value.is_floating_point() else value for key, value in weights.items()}


def _read_place(name: str) -> tuple[dict, dict[str, Tensor]]:
    """The record and the weights in a folder that `hub.write` made, checked as those of two files are."""
    try:
        told = sources.file_of(name, sources.RECORD)
    except CheckpointError as error:
        raise CheckpointError(
            f"{error}. A model of timm's own, without {sources.RECORD}, becomes selective by asel_lib.make_selective("
            f"timm.create_model({name!r}, pretrained=True)), or is trained by asel_lib.train({name!r}, folder)"
        ) from error
    try:
        held = json.loads(told.read_text(encoding="utf-8"))
        record, digests = held["record"], dict(held["sha256"])
    except (OSError, ValueError, RecursionError, KeyError, TypeError) as error:
        raise CheckpointError(f"{told}: no readable record of the model ({error!r}); copy its folder again") from error
    record = records.check(records.upgraded(record, told.parent.name), told)
    weights = {}
    for part, digest in digests.items():
        if part not in (sources.WEIGHTS, sources.SELECTOR):
            raise CheckpointError(f"{told}: names a file {part[:40]!r} that is none of the model's")
        file = sources.file_of(name, part)
        weights |= _tensors(file, lambda digest=digest: digest, told.name)
    return record, weights


def fingerprint(*parts: object) -> str:
    """16 hex digits of any JSON-like settings."""
    return _digest(json.dumps(parts, sort_keys=True, default=str).encode())[:16]


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
