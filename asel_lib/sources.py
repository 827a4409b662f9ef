"""Models that are named by the place where they lie, as timm names them: "local-dir:folder", or
"hf-hub:owner/name[@revision]" of a hub."""

from pathlib import Path

import timm
from torch import nn

from asel_lib.errors import CheckpointError

PLACES = ("hf-hub:", "local-dir:")
RECORD, WEIGHTS, SELECTOR = "asel.json", "model.safetensors", "selector.safetensors"  # of a folder that hub.write makes


def is_place(name: object) -> bool:
    """Whether a model's name says where it lies."""
    return str(name).startswith(PLACES)


def file_of(name: str, file: str) -> Path:
    """One file of a model.

    Args:
        name: "local-dir:folder" or "hf-hub:owner/name[@revision]".
        file: its name there.

    Raises:
        CheckpointError: it is not there, or the hub cannot be reached.
    """
    place, _, where = str(name).partition(":")
    if place == "local-dir":
        found = Path(where).expanduser() / file
        if not found.is_file():
            raise CheckpointError(f"{name}: there is no {file} in {found.parent}: expected {advice(name)}")
        return found
    from huggingface_hub import hf_hub_download

    owner, _, revision = where.partition("@")
    try:
        return Path(hf_hub_download(owner, file, revision=revision or None))
    except (ValueError, *hub_errors()) as error:
        raise CheckpointError(
            f"{name}: {file} is not to be had ({_first_line(error)}): expected {advice(name)}"
        ) from error


def timm_model(name: str) -> nn.Module:
    """timm's model of that place, with its weights.

    Raises:
        CheckpointError: there is none that timm can make, or the hub cannot be reached.
    """
    try:
        return timm.create_model(_expanded(name), pretrained=True)
    except Exception as error:  # a stranger's files make timm raise nearly anything
        raise CheckpointError(
            f"{name}: timm makes no model of it ({_first_line(error)}): expected {advice(name)}"
        ) from error


def advice(name: str) -> str:
    """What has to be at such a place."""
    if str(name).startswith("hf-hub:"):
        return "hf-hub:owner/name of a model with timm's config.json and weights, and a network or the hub's cache"
    return "a folder with timm's config.json and model.safetensors"


def hub_errors() -> tuple[type[Exception], ...]:
    """What the hub's client raises without a network; its own errors are OSErrors, its HTTP library's may not be."""
    try:
        from httpx import HTTPError
    except ImportError:
        return (OSError, RuntimeError)
    return (OSError, RuntimeError, HTTPError)


def _expanded(name: str) -> str:
    place, _, where = str(name).partition(":")
    return f"{place}:{Path(where).expanduser()}" if place == "local-dir" else str(name)


def _first_line(error: Exception) -> str:
    said = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {said[0][:200]}"
