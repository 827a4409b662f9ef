"""The state of a training on the disk: one safetensors file, its plain values as JSON in the file's header. Nothing in
it can be run, unlike a pickle's content."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from asel_lib.errors import TrainingError

TENSOR, PAIRS = "tensor", "pairs"  # what stands for a tensor, and for a dict whose keys are not all text


def write_state(file: BinaryIO, state: dict) -> None:
    """state: dicts, lists, tuples (read back as lists), tensors, numbers, text, None. TypeError for anything else."""
    tensors: dict[str, Tensor] = {}
    plain = json.dumps(_taken_apart(state, tensors))
    file.write(save(tensors, {"state": plain}))


def read_state(path: Path, device: str | torch.device = "cpu") -> dict:
    """TrainingError where the file is torn or something else than `write_state` wrote."""
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            plain = json.loads((file.metadata() or {})["state"])
            state = _put_together(plain, file.get_tensor)
        if not isinstance(state, dict):
            raise TypeError(f"a state is a dict, found {type(state).__name__}")
        return state
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise TrainingError(f"{path}: not a readable state of a training ({type(error).__name__}: {error})") from error


def _taken_apart(value: object, tensors: dict[str, Tensor]) -> object:
    """Plain values, with a numbered stand-in for each tensor, which goes into `tensors`."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().cpu().clone(memory_format=torch.contiguous_format)  # none shares memory
        return {TENSOR: name}
    if isinstance(value, dict):
        return {PAIRS: [[key, _taken_apart(held, tensors)] for key, held in value.items()]}
    if isinstance(value, list | tuple):
        return [_taken_apart(held, tensors) for held in value]
    return value


def _put_together(value: object, tensor: Callable[[str], Tensor]) -> object:
    if isinstance(value, list):
        return [_put_together(held, tensor) for held in value]
    if isinstance(value, dict):
        return tensor(value[TENSOR]) if TENSOR in value else {k: _put_together(v, tensor) for k, v in value[PAIRS]}
    return value
