"""Which device and which number format a run uses."""

import contextlib

import torch

from asel_lib.profiles import PRECISIONS


def default_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def resolve_precision(precision: str, device: str | torch.device) -> str:
    """ "auto" -> the fastest format the device computes in hardware; any other name is checked and kept."""
    if precision not in PRECISIONS:
        raise ValueError(f"unknown precision {precision!r}: expected one of {', '.join(PRECISIONS)}")
    if precision != "auto":
        return precision
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    # A CPU without these instructions emulates bfloat16, slower than float32.
    checks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bfloat16" if any(check and check() for check in checks) else "float32"


def autocast(device: str | torch.device, precision: str) -> contextlib.AbstractContextManager:
    """Autocast to a resolved precision; none for float32."""
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, getattr(torch, precision))
