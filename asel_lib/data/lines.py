"""Line drawings: an image batch -> (B, 1, 64, 64) in [0, 1], high where a line is.

Three extractors behind `draw`: `xdog` and `sobel` need no weights; `informative` is the generator network of the
published line-guided system, for its published weights. Drawings of a whole data set can be kept (`precomputed`) or
come from elsewhere (`from_folder`).
"""

import functools
import hashlib
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F
from tqdm.auto import tqdm

from asel_lib import checks, paths
from asel_lib.data.batches import prepare
from asel_lib.data.decode import ImageArray
from asel_lib.data.informative import Generator, read_generator
from asel_lib.data.kept import kept_on_disk
from asel_lib.data.pixels import is_image_file
from asel_lib.data.read_image import read_image
from asel_lib.errors import CheckpointError, DatasetError

SIZE = 64
EXTRACTORS = ("xdog", "sobel", "informative")
VERSION = 1  # of the extractors: raised whenever the same image gives another drawing
GENERATOR_FILE = "netG_A_latest.pth"
LUMINANCE = (0.2989, 0.587, 0.114)  # as torchvision's

# XDoG at 64 x 64 pixels. The pencil-like settings of Winnemoeller et al. keep whole dark regions black; a low
# threshold with a high sharpness leaves strokes on a blank page, which is what a density of lines asks for.
XDOG = {"sigma": 0.8, "k": 1.6, "sharpness": 20.0, "threshold": 0.1, "slope": 3.0}


def draw(images: Tensor, extractor: str = "xdog", size: int = SIZE) -> Tensor:
    """Line drawings of images; one does not depend on the rest of its batch.

    Args:
        images: (B, 3 or 1, H, W) in [0, 1]. The whole image is drawn, also one that is not square.
        extractor: one of EXTRACTORS.
        size: side of the drawings, pixels.

    Returns:
        (B, 1, size, size) in [0, 1], high where a line is.

    Raises:
        ValueError: for an unknown extractor or another shape.
        CheckpointError: where `informative` lacks its file.
    """
    checks.one_of("line extractor", extractor, EXTRACTORS)
    # In float32 also under autocast: a difference of two blurs loses its strokes in eight bits.
    with torch.autocast(images.device.type, enabled=False):
        grey = grey_of(images.float())
        if extractor == "informative":
            return _informative(grey, size)
        grey = _resize(grey, size)
        return xdog(grey, **XDOG) if extractor == "xdog" else sobel(grey)


def grey_of(images: Tensor, mean: Sequence[float] = (0, 0, 0), std: Sequence[float] = (1, 1, 1)) -> Tensor:
    """(B, 3 or 1, H, W) -> (B, 1, H, W): luminance, ITU-R BT.601 as Pillow's; of images that were normalised by mean
    and std, that of the image before."""
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise ValueError(f"images are {tuple(images.shape)}: expected (B, 3, H, W) or (B, 1, H, W), values in [0, 1]")
    if images.shape[1] == 1:
        return images if (mean[0], std[0]) == (0, 1) else images * std[0] + mean[0]
    # One pass over the image: undoing the normalisation first would take longer than all that follows.
    red, green, blue = (images[:, channel : channel + 1] for channel in range(3))
    first, second, third = (weight * scale for weight, scale in zip(LUMINANCE, std, strict=True))
    grey = red.mul(first).add_(green, alpha=second).add_(blue, alpha=third)
    if any(mean):
        grey.add_(sum(weight * shift for weight, shift in zip(LUMINANCE, mean, strict=True)))
    return grey


def xdog(grey: Tensor, sigma: float, k: float, sharpness: float, threshold: float, slope: float) -> Tensor:
    """Extended difference of Gaussians (Winnemoeller et al. 2012): 1 - T(S).

    S = (1 + p) G_sigma - p G_(k sigma); T(S) = 1 where S >= threshold, else 1 + tanh(slope (S - threshold)).

    Args:
        grey: (B, 1, h, w) in [0, 1].
        sigma: pixels of the drawing.
        k: ratio of the two Gaussians.
        sharpness: p.
        threshold: of S.
        slope: of the tanh.
    """
    narrow, wide = _blur(grey, sigma), _blur(grey, k * sigma)
    difference = narrow.mul_(1 + sharpness).sub_(wide, alpha=sharpness)
    return difference.sub_(threshold).clamp_max_(0).mul_(-slope).tanh_()


def sobel(grey: Tensor) -> Tensor:
    """Gradient magnitude by the Sobel operator over the image's own highest, grey (B, 1, h, w) in [0, 1]."""
    from kornia.filters import sobel as magnitude  # a second to import, and only drawings need it

    # eps is under the root: without it the drawing of a blank image would not be blank, but all alike.
    strength = magnitude(grey, eps=1e-12)
    # A faint noise is no drawing: below a fiftieth of full contrast it is not blown up to full lines.
    return strength / strength.amax(dim=(1, 2, 3), keepdim=True).clamp_min(0.02)


def check(lines: Tensor, batch: int, size: int | None = None) -> Tensor:
    """The drawings as they are, where they are what a selector reads: (batch, 1, size, size), finite, in [0, 1].
    ValueError names what they are instead. size None: any."""
    wanted = f"({batch}, 1, {size or 'h'}, {size or 'w'})"
    shape = tuple(lines.shape)
    if len(shape) != 4 or shape[:2] != (batch, 1) or (size and shape[2:] != (size, size)):
        raise ValueError(
            f"the line drawings are {shape}: expected {wanted}, one channel and one drawing an image; "
            "asel_lib.data.lines.draw makes them of images, asel_lib.data.lines.fit those of another size"
        )
    if torch.compiler.is_compiling():
        return lines  # a tracer knows shapes and no values
    low, high = lines.aminmax() if lines.numel() else (0, 0)
    if not (low >= 0 and high <= 1):  # nan fails it too
        raise ValueError(
            f"the line drawings range from {low:g} to {high:g}: expected values in [0, 1], high = line; "
            "asel_lib.data.lines.to_unit brings [-1, 1] and [0, 255] to it"
        )
    return lines


def fit(lines: Tensor, size: int = SIZE) -> Tensor:
    """Drawings (B, 1 or 3, h, w) of any size in [0, 1] -> (B, 1, size, size) in [0, 1]."""
    return _resize(grey_of(lines.float()), size)


def to_unit(lines: Tensor, threshold: float | None = None, invert: bool = False) -> Tensor:
    """Drawings in [-1, 1], [0, 1] or [0, 255], told apart by their values -> [0, 1].

    invert: for black lines on white. threshold: in [0, 1], lines above it become 1, the rest 0 (after inverting).
    ValueError for values of none of these ranges.
    """
    low, high = (float(x) for x in (lines.byte() if lines.dtype == torch.bool else lines).aminmax())
    if -1 <= low < 0 and high <= 1:
        lines = (lines.float() + 1) / 2
    elif 0 <= low and high <= 1:  # whole numbers: a mask
        lines = lines.float()
    elif 0 <= low and high <= 255:
        lines = lines.float() / 255
    else:
        raise ValueError(
            f"the line drawings range from {low:g} to {high:g}: expected values in [-1, 1], [0, 1] or [0, 255]"
        )
    lines = 1 - lines if invert else lines
    return lines if threshold is None else (lines > threshold).float()


@torch.no_grad()
def of_images(
    images: ImageArray, indices: np.ndarray, extractor: str, image_size: int, size: int = SIZE, batch_size: int = 256
) -> np.ndarray:
    """Drawings of some images of a data set at the size at which the network sees them, uint8 (len(indices), size,
    size), 255 = line."""
    drawn = []
    starts = range(0, len(indices), batch_size)
    title = f"lines of {images.name} ({extractor})"
    for start in tqdm(starts, desc=title, unit="batch", leave=False, disable=len(starts) < 2):
        pixels = torch.from_numpy(np.array(images.pixels[indices[start : start + batch_size]])).permute(0, 3, 1, 2)
        seen = prepare(pixels, image_size, mean=(0, 0, 0), std=(1, 1, 1))
        drawn.append((draw(seen, extractor, size)[:, 0] * 255).round().to(torch.uint8))
    return torch.cat(drawn).numpy()


def precomputed(images: ImageArray, extractor: str, image_size: int, size: int = SIZE) -> np.ndarray:
    """`of_images` of a whole data set, kept on disk and read back next time."""
    key = {
        "images": images.fingerprint,
        "pixels": images.pixels.shape,
        "image_size": image_size,
        "extractor": extractor,
        "size": size,
        "version": VERSION,
        "weights": _digest(generator_file()) if extractor == "informative" else "",
    }

    def make() -> tuple[dict, dict]:
        return {"lines": of_images(images, np.arange(len(images)), extractor, image_size, size)}, {}

    arrays, _ = kept_on_disk(f"{images.name}-lines-{extractor}-{images.fingerprint[:8]}-{image_size}", key, make)
    return arrays["lines"]


def from_folder(
    folder: str | Path, images: ImageArray, size: int = SIZE, threshold: float | None = None, invert: bool | None = None
) -> np.ndarray:
    """Drawings made elsewhere, uint8 (n, size, size), 255 where a line is, in the order of `images`.

    Args:
        folder: a drawing has its image's path below it, with any image suffix.
        images: the data set.
        size: side of the drawings, pixels.
        threshold: in [0, 1]: what is above it is all line, the rest none; None: as drawn.
        invert: whether lines are dark; None: they are where the drawings are bright on average, since most of a drawing
            is paper.

    Raises:
        DatasetError: names the images without a drawing, or a file that cannot be read.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise DatasetError(f"{folder}: no such folder of line drawings; expected <folder>/<path of an image>.png")
    found = {
        file.relative_to(folder).with_suffix("").as_posix(): file
        for file in sorted(folder.rglob("*"))
        if is_image_file(file) and not file.name.startswith(".")
    }
    wanted = [Path(name).with_suffix("").as_posix() for name in images.names]
    if missing := [name for name in wanted if name not in found]:
        raise DatasetError(
            f"{folder}: {len(missing)} of {len(wanted)} images of {images.name} have no line drawing, e.g. "
            f"{', '.join(missing[:3])}; expected {folder}/{missing[0]}.png"
        )
    drawn = np.stack([_read(found[name], size) for name in tqdm(wanted, "reading lines", unit="img", leave=False)])
    if invert is None:
        invert = bool(drawn.mean() > 127.5)
    drawn = 255 - drawn if invert else drawn
    return drawn if threshold is None else np.where(drawn > 255 * threshold, 255, 0).astype(np.uint8)


def generator_file() -> Path:
    """Where the published weights of `informative` are looked for."""
    return paths.saved_models() / GENERATOR_FILE


def _informative(grey: Tensor, size: int) -> Tensor:
    """The published preparation: Gaussian blur of radius 7, bicubic to size x size, [-1, 1]; dark lines inverted."""
    network = _generator(generator_file(), grey.device)
    prepared = _resize(_blur(grey, 7.0), size) * 2 - 1
    return 1 - network(prepared.expand(-1, network.channels, -1, -1))


def _generator(file: Path, device: torch.device) -> Generator:
    if not file.is_file():
        raise CheckpointError(
            f"{file}: the generator of the informative drawings is not there. Put its published {GENERATOR_FILE} "
            "there, or draw with xdog, which needs no weights (lines=xdog)"
        )
    return _loaded(file, file.stat().st_mtime_ns, device)


@functools.lru_cache(maxsize=2)
def _loaded(file: Path, changed: int, device: torch.device) -> Generator:
    with torch.inference_mode(False):  # kept for calls outside of it too
        return read_generator(file).to(device)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16] if file.is_file() else ""


def _blur(images: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of (B, 1, h, w), sigma in pixels, borders reflected: as two matrix products, which on images as
    small as drawings take a quarter of the time of convolutions."""
    rows, columns = (torch.from_numpy(_blur_matrix(int(n), sigma)).to(images.device) for n in images.shape[-2:])
    return rows @ (images @ columns.T)


@functools.lru_cache(maxsize=32)
def _blur_matrix(side: int, sigma: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter1d  # slow to import

    reach = min(math.ceil(3 * sigma), side - 1)  # what a reflection can fill
    return gaussian_filter1d(np.eye(side), sigma, axis=0, mode="mirror", radius=reach).astype(np.float32)


def _resize(images: Tensor, size: int) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return F.resize(images, [size, size], InterpolationMode.BICUBIC, antialias=True).clamp_(0, 1)


def _read(file: Path, size: int) -> np.ndarray:
    """-> uint8 (size, size); what is transparent is paper."""
    try:
        pixels = read_image(file)
    except DatasetError as error:
        raise DatasetError(f"{file}: not a readable line drawing ({error}); replace it") from error
    grey = grey_of(torch.tensor(pixels).permute(2, 0, 1)[None].float() / 255)
    return (_resize(grey, size)[0, 0] * 255).round().to(torch.uint8).numpy()
