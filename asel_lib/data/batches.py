"""Batches of a decoded data set, prepared on the device: resize, normalise, augment a whole batch at once.

Published loaders decode every image in every epoch; here the uint8 array is indexed, so that a training step waits
for a copy of a few megabytes at most. On a GPU the whole array lies in its memory.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from asel_lib.data.decode import ImageArray, read_image, resize
from asel_lib.profiles import AUGMENTATIONS


class Batches:
    """Part of a data set, batch by batch, always in the same order; `take` draws any images of it.

    Iterating gives (images float32 (B, 3, S, S) normalised, labels int64 (B,)) on `device`.
    """

    def __init__(
        self,
        images: ImageArray,
        indices: np.ndarray,
        *,
        image_size: int,
        mean: Sequence[float] = (0.5, 0.5, 0.5),
        std: Sequence[float] = (0.5, 0.5, 0.5),
        batch_size: int = 64,
        device: str | torch.device = "cpu",
    ):
        self.images, self.indices, self.batch_size = images, np.asarray(indices), batch_size
        self.image_size, self.mean, self.std = image_size, tuple(mean), tuple(std)
        self.device = torch.device(device)
        self.labels = torch.from_numpy(np.asarray(images.labels)[self.indices]).to(self.device)
        self._resident = None
        if self.device.type != "cpu":
            self._resident = torch.from_numpy(np.asarray(images.pixels[self.indices])).to(self.device)

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield self.take(np.arange(start, min(start + self.batch_size, len(self.indices))))

    def take(
        self, positions: np.ndarray, augmentation: str = "none", generator: torch.Generator | None = None
    ) -> tuple[Tensor, Tensor]:
        """The images at these positions of this part (0 ... len(indices) - 1), augmented if asked for."""
        where = torch.as_tensor(positions, device=self.device)
        if self._resident is not None:
            pixels = self._resident[where]
        else:
            pixels = torch.from_numpy(np.asarray(self.images.pixels[self.indices[positions]]))
        # Turned while they are small: bytes, not yet enlarged.
        pixels = augment(pixels.permute(0, 3, 1, 2).contiguous(), augmentation, generator)
        return prepare(pixels, self.image_size, self.mean, self.std), self.labels[where]


def prepare(pixels: Tensor, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (B, 3, h, w) -> float32 (B, 3, size, size), normalised by mean and std (of values in [0, 1])."""
    images = pixels
    if images.shape[-2:] != (size, size):
        images = F.resize(images, [size, size], InterpolationMode.BICUBIC, antialias=True)
    mean, std = (255 * torch.tensor(x, device=images.device).view(3, 1, 1) for x in (mean, std))
    return (images - mean).div_(std)


def augment(images: Tensor, kind: str, generator: torch.Generator | None = None) -> Tensor:
    """Random flips of (B, C, h, w) ("flip": left-right; "dihedral": both flips and the transpose, the eight
    symmetries of a square), drawn for each image by itself. torchvision's transforms draw once a batch."""
    if kind not in AUGMENTATIONS:
        raise ValueError(f"unknown augmentation {kind!r}: expected one of {', '.join(AUGMENTATIONS)}")
    if kind == "none":
        return images
    coins = torch.rand((3, len(images)), generator=generator) < 0.5
    images = images.clone()
    turns = (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2))
    for coin, turn in zip(coins, turns[: 1 if kind == "flip" else 3], strict=False):
        chosen = coin.nonzero()[:, 0].to(images.device)
        images[chosen] = turn(images[chosen])
    return images


def transform(size: int, mean: Sequence[float], std: Sequence[float]):
    """-> a function from a PIL image or a path to (3, size, size) float32: what `Batches` makes of the same file."""

    def apply(image: Image.Image | str) -> Tensor:
        return prepare(torch.from_numpy(resize(read_image(image), size).copy()).permute(2, 0, 1)[None], size, mean, std)[0]

    return apply
