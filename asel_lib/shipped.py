"""Shipped checkpoints where the package is installed without its checkout: fetched by name, checked by their SHA-256.

An installed package knows the digest of each record (shipped.json, which setup.py writes when the package is built),
and the record names the digest of its weights.
"""

import json
import os
from pathlib import Path

from asel_lib import paths
from asel_lib.errors import CheckpointError, DatasetError, DatasetMissing

TABLE = Path(__file__).with_name("shipped.json")


def names() -> list[str]:
    """Of all checkpoints that can be fetched; none in a checkout, which has them."""
    return sorted(_digests())


def fetch(name: str) -> Path:
    """Both files of a checkpoint, from the address in ASEL_MODELS_URL into `paths.saved_models()`.

    Args:
        name: one of `names()`.

    Returns:
        Its .safetensors file.

    Raises:
        CheckpointError: where no address is set, where it cannot be reached, or where a file is not the shipped one.
    """
    from filelock import FileLock

    from asel_lib.data import download

    folder, address = paths.saved_models(), os.environ.get("ASEL_MODELS_URL", "").rstrip("/")
    record, weights = folder / f"{name}.json", folder / f"{name}.safetensors"
    if not address.startswith(("http://", "https://")):
        raise CheckpointError(
            f"the shipped checkpoint {name!r} is not on this machine, and ASEL_MODELS_URL is {address or 'not set'!r}: "
            "set it to the http(s) address of a folder with the files of the project's saved_models/, or copy "
            f"{record.name} and {weights.name} from a checkout into {folder}"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{name}.lock"):  # processes that want the same wait, and find it done
            download.fetch(f"{address}/{record.name}", record, sha256=_digests()[name], progress=False)
            digest = json.loads(record.read_text(encoding="utf-8"))["sha256"]
            return download.fetch(f"{address}/{weights.name}", weights, sha256=digest)
    except (OSError, DatasetError, DatasetMissing) as error:
        raise CheckpointError(f"the shipped checkpoint {name!r} could not be fetched: {error}") from error


def _digests() -> dict[str, str]:
    """Name -> SHA-256 of its record."""
    return json.loads(TABLE.read_text(encoding="utf-8")) if TABLE.is_file() else {}
