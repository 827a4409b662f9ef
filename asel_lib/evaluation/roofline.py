"""What the hardware allows: its rate of matrix products and its memory's bandwidth, measured, and the floor that they
set to the time of a piece of work (the roofline of Williams et al. 2009, as a time)."""

from typing import NamedTuple

import numpy as np
import torch

from asel_lib.evaluation import timing


class Machine(NamedTuple):
    """gmacs: 1e9 multiply-accumulates a second of a large matrix product; gbytes: 1e9 bytes a second, read and
    written."""

    gmacs: float
    gbytes: float

    def floor_ms(self, gmacs: float, megabytes: float) -> float:
        """The least time that the hardware allows: the longer of computing and moving, since they can go on at once.

        Args:
            gmacs: 1e9 multiply-accumulates.
            megabytes: 1e6 bytes that must be moved.
        """
        return 1e3 * max(gmacs / self.gmacs, megabytes / 1e3 / self.gbytes)


def measure(
    device: torch.device, precision: str = "float32", seconds: float = 1.0, side: int = 0, megabytes: int = 256
) -> Machine:
    """The device's speed, by a matrix product and a copy: the best of several rounds, since a floor is made of what was
    reached once.

    Args:
        device: to be measured.
        precision: as resolved by `devices`.
        seconds: of timing.
        side: of the square matrices, 0 for one that fills the device.
        megabytes: of the copy.
    """
    side = side or (8192 if device.type == "cuda" else 1536)
    a, b = (torch.randn(side, side, device=device, dtype=getattr(torch, precision)) for _ in range(2))
    source = torch.zeros(megabytes * 250_000, device=device)
    target = torch.empty_like(source)
    with torch.inference_mode():
        times = timing.in_turn({"product": lambda: a @ b, "copy": lambda: target.copy_(source)}, seconds)
    product, copy = (float(np.min(times[name])) / 1e3 for name in ("product", "copy"))
    return Machine(side**3 / product / 1e9, 2 * source.nbytes / copy / 1e9)


def moved(model: torch.nn.Module, images: torch.Tensor) -> float:
    """1e6 bytes that a forward must move whatever it does: each weight once, and the images.

    Args:
        model: with its weights.
        images: (B, C, H, W).
    """
    return (sum(weight.nbytes for weight in model.parameters()) + images.nbytes) / 1e6


def moved_in_training(model: torch.nn.Module, images: torch.Tensor) -> float:
    """1e6 bytes that a training step must move: the images, and each weight, in float32, twice for the passes, its
    gradient once each way, and weight and two moments of Adam once each way.

    Args:
        model: with its weights.
        images: (B, C, H, W).
    """
    return (sum(weight.numel() for weight in model.parameters()) * 4 * 10 + images.nbytes) / 1e6
