"""Batches of a decoded data set, prepared on the device: resize, normalise, augment a whole batch at once.

Published loaders decode every image in every epoch; here the uint8 array is indexed, so that a training step waits
for a copy of a few megabytes at most. On a GPU the whole array lies in its memory.
"""

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from asel_lib import checks
from asel_lib.configs import AUGMENTATIONS
from asel_lib.data.decode import ImageArray, resize
from asel_lib.data.read_image import PLAIN, Reading, read_image
from asel_lib.reproducibility import BatchSliceGenerator, uniform

Noise = torch.Generator | BatchSliceGenerator  # for all images of a batch, or for some


class Batches:
    """Part of a data set, batch by batch, always in the same order; `take` draws any images of it.

    Iterating gives (images float32 (B, 3, S, S) normalised, labels int64 (B,)) on `device`, and, where the set comes
    with line drawings, these as (B, 1, h, w) in [0, 1]. lines: uint8 (n, h, w), one for each image of `images`.
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
        lines: np.ndarray | None = None,
    ):
        self.images, self.indices, self.batch_size = images, np.asarray(indices), batch_size
        self.image_size, self.mean, self.std = image_size, tuple(mean), tuple(std)
        self.device = torch.device(device)
        self.labels = torch.from_numpy(np.asarray(images.labels)[self.indices]).to(self.device)
        if lines is not None and len(lines) != len(images):
            raise ValueError(f"{len(lines)} line drawings for {len(images)} images of {images.name}: give one for each")
        self.lines = lines
        self._resident = None
        if self.device.type != "cpu":
            self._resident = torch.from_numpy(np.asarray(images.pixels[self.indices])).to(self.device)

    def __len__(self) -> int:
        return -(-len(self.indices) // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, ...]]:
        for start in range(0, len(self.indices), self.batch_size):
            yield self.take(np.arange(start, min(start + self.batch_size, len(self.indices))))

    def only(self, positions: np.ndarray) -> "Batches":
        """Those at these positions of this part, as a part of its own."""
        some = copy.copy(self)
        where = torch.as_tensor(positions, device=self.device)
        some.indices, some.labels = self.indices[positions], self.labels[where]
        some._resident = None if self._resident is None else self._resident[where]
        return some

    def take(
        self, positions: np.ndarray, augmentation: str = "none", generator: Noise | None = None
    ) -> tuple[Tensor, ...]:
        """The images at these positions of this part (0 ... len(indices) - 1), augmented if asked for; line drawings
        are moved with their images."""
        where = torch.as_tensor(positions, device=self.device)
        if self._resident is not None:
            pixels = self._resident[where]
        else:
            pixels = torch.from_numpy(np.asarray(self.images.pixels[self.indices[positions]]))
        lines = None
        if self.lines is not None:
            drawn = torch.from_numpy(np.asarray(self.lines[self.indices[positions]]))
            lines = drawn.to(self.device).unsqueeze(1).float() / 255
        # Turned while they are small: bytes, not yet enlarged.
        pixels, lines = augment(pixels.permute(0, 3, 1, 2).contiguous(), augmentation, generator, lines)
        batch = prepare(pixels, self.image_size, self.mean, self.std), self.labels[where]
        return batch if lines is None else (*batch, lines)


def prepare(pixels: Tensor, size: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (B, 3, h, w) -> float32 (B, 3, size, size), normalised by mean and std (of values in [0, 1])."""
    images = pixels
    if images.shape[-2:] != (size, size):
        images = F.resize(images, [size, size], InterpolationMode.BICUBIC, antialias=True)
    return normalised(images, mean, std)


def normalised(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """uint8 (B, 3, h, w) -> float32, by mean and std of values in [0, 1]."""
    mean, std = (255 * torch.tensor(x, dtype=torch.float32, device=images.device).view(3, 1, 1) for x in (mean, std))
    return (images - mean).div_(std)


def augment(
    images: Tensor, kind: str, generator: Noise | None = None, lines: Tensor | None = None
) -> tuple[Tensor, Tensor | None]:
    """Augment a batch, drawn for each image by itself (torchvision's transforms draw once a batch).

    Args:
        images: (B, C, h, w).
        kind: "none"; "flip": left-right; "dihedral": both flips and the transpose, the eight symmetries of a square;
            "crop_jitter", the line-guided system's: random resized crop (area 0.8-1, sides 3:4-4:3), flip, colour
            jitter 0.2 / 0.2 / 0.1 (brightness, contrast, saturation), for uint8 images of three channels.
        generator: what is drawn with; None: torch's global one.
        lines: (B, 1, h', w'), which get the same crops, flips and transposes and no jitter.

    Returns:
        Images and lines.
    """
    if checks.one_of("augmentation", kind, AUGMENTATIONS) == "none" or not len(images):
        return images, lines
    if kind == "crop_jitter":
        places = _random_crops(len(images), generator).to(images.device)
        images = _jitter(_crop(images.float() / 255, places), generator).mul_(255).round_().to(images.dtype)
        return images, None if lines is None else _crop(lines, places).clamp_(0, 1)
    coins = uniform((3, len(images)), generator, images=1) < 0.5
    moved = [images.clone()] if lines is None else [images.clone(), lines.clone()]
    turns = (lambda x: x.flip(-1), lambda x: x.flip(-2), lambda x: x.transpose(-1, -2))
    for coin, turn in zip(coins, turns[: 1 if kind == "flip" else 3], strict=False):
        chosen = coin.nonzero()[:, 0].to(images.device)
        for batch in moved:
            batch[chosen] = turn(batch[chosen])
    return moved[0], moved[1] if lines is not None else None


def _random_crops(count: int, generator: Noise | None) -> Tensor:
    """Affine maps (count, 2, 3) from the cut-out's coordinates to the whole image's, both in [-1, 1]; half of them
    mirrored. Sides are in shares of the image's; torchvision draws boxes until one fits, here only those that fit."""
    area, aspect, x, y, coin = uniform((5, count), generator, images=1)
    area = 0.8 + 0.2 * area
    most = (-area.log()).clamp_max(np.log(4 / 3))  # of |log(width / height)|: a longer side would leave the image
    aspect = ((2 * aspect - 1) * most).exp()
    width, height = (area * aspect).sqrt(), (area / aspect).sqrt()
    maps = torch.zeros(count, 2, 3)
    maps[:, 0, 0], maps[:, 0, 2] = torch.where(coin < 0.5, -width, width), (1 - width) * (2 * x - 1)
    maps[:, 1, 1], maps[:, 1, 2] = height, (1 - height) * (2 * y - 1)
    return maps


def _crop(images: Tensor, maps: Tensor) -> Tensor:
    grid = torch.nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _jitter(images: Tensor, generator: Noise | None) -> Tensor:
    """Brightness, contrast and saturation times 1 +- 0.2 / 0.2 / 0.1, images (B, 3, h, w) in [0, 1]."""
    from kornia import enhance

    changes = (
        (0.2, enhance.adjust_brightness_accumulative),
        (0.2, enhance.adjust_contrast_with_mean_subtraction),
        (0.1, enhance.adjust_saturation_with_gray_subtraction),
    )
    for most, change in changes:
        factors = 1 + most * (2 * uniform((len(images),), generator) - 1)
        images = change(images, factors.to(images.device)).clamp(0, 1)
    return images


@dataclass(frozen=True)
class Transform:
    """From a PIL image or a path to (3, size, size) float32: what `Batches` makes of the same file, the whole image.

    Args:
        size: side of what comes out, pixels.
        mean: of the normalisation, a number a channel.
        std: of the normalisation.
        resized: the shorter side becomes that long, and the middle size x size of it is cut out; None: the whole image.
        reading: how files are read: as those were that the model learnt from.
    """

    size: int
    mean: Sequence[float]
    std: Sequence[float]
    resized: int | None = None
    reading: Reading = PLAIN

    def __call__(self, image: Image.Image | str) -> Tensor:
        pixels = torch.from_numpy(sized(image, self.size, self.resized, self.reading)).permute(2, 0, 1)[None]
        return prepare(pixels, self.size, self.mean, self.std)[0]


def transform(
    size: int, mean: Sequence[float], std: Sequence[float], resized: int | None = None, reading: Reading = PLAIN
) -> Transform:
    """The `Transform` of these settings."""
    return Transform(size, tuple(mean), tuple(std), resized, reading)


def sized(image: Image.Image | str, size: int, resized: int | None = None, reading: Reading = PLAIN) -> np.ndarray:
    """A PIL image or a path -> the pixels that `transform` normalises, (size, size, 3) uint8."""
    pixels = read_image(image, reading)
    if not resized:
        return resize(pixels, size).copy()
    whole = torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]
    whole = F.resize(whole, [resized], InterpolationMode.BICUBIC, antialias=True)
    return F.center_crop(whole, [size, size])[0].permute(1, 2, 0).contiguous().numpy()
