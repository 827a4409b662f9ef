"""Which device and which number format a run uses, and what is fastest on it."""

import contextlib

import torch

from asel_lib import checks
from asel_lib.configs import PRECISIONS


def default_device() -> torch.device:
    """A GPU if there is one, NVIDIA's or Apple's; asked for without beginning to use it, so that this process can still
    be forked."""
    from accelerate.utils import is_cuda_available, is_mps_available

    return torch.device("cuda" if is_cuda_available() else "mps" if is_mps_available() else "cpu")


def resolve_precision(precision: str, device: str | torch.device) -> str:
    """The number format of a run.

    Args:
        precision: "auto" for the fastest one that the device computes in hardware; any other name is checked and kept.
        device: where the run computes.

    Raises:
        ValueError: an unknown name.
    """
    if checks.one_of("precision", precision, PRECISIONS) != "auto":
        return precision
    if torch.device(device).type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if torch.device(device).type == "mps":
        return "float32"  # nobody has measured the others there
    # A CPU without these instructions emulates bfloat16, slower than float32.
    asked = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return "bfloat16" if any(check and check() for check in asked) else "float32"


def autocast(device: str | torch.device, precision: str) -> contextlib.AbstractContextManager:
    """A context of autocast; of none for float32.

    Args:
        device: where it computes.
        precision: a resolved one.
    """
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, getattr(torch, precision))


@contextlib.contextmanager
def fast_backward(model, device: torch.device):
    """On a CPU, timm's unfused attention for the time of an epoch.

    The fused op's backward was 40 % of a training step (64 images of 64 patches, ViT-Tiny with 6 blocks, bfloat16, one
    thread: 0.58-0.98 s a step, unfused 0.36-0.55 s, four rounds in turn). The fused forward is the faster one, so
    inference keeps it.

    Args:
        model: whose modules are switched.
        device: on another one than a CPU nothing changes.
    """
    fused = [m for m in model.modules() if getattr(m, "fused_attn", False)] if device.type == "cpu" else []
    for module in fused:
        module.fused_attn = False
    try:
        yield
    finally:
        for module in fused:
            module.fused_attn = True


def reads_ahead(device: torch.device) -> bool:
    """Whether a second thread should make the next batch ready. Not where the model has all of a CPU's cores: the
    workers that torch keeps for the second thread take them away from the first (ViT-Tiny with 6 blocks, bfloat16, 2
    cores, 512 images by recipe `anytime`, one after the other: 215 img/s with a second thread, 362 without)."""
    return device.type != "cpu" or torch.get_num_threads() == 1
