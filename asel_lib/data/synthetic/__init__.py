"""Procedural aerial scenes in which one small object decides the class, with the mask of that object.

A scene is built in two independent halves. The surroundings (ground, water, road, trees, buildings, light) always
offer two empty sites, one on land and one on water, and know nothing of the class. The deciding object then takes the
site that suits it. So outside the mask there is nothing to learn the class from.

Everything is drawn from (seed, index) alone and measured in units of the frame's side: x and y run from 0 to 1.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image
from tqdm.auto import tqdm

from asel_lib.data.synthetic.objects import CLOSEUP_SPAN, group
from asel_lib.data.synthetic.shapes import Shape, blob, bounds, paint, pick, place, stroke
from asel_lib.data.synthetic.surroundings import (
    CONCRETES,
    EARTHS,
    draw_sites,
    lay_land,
    lay_road,
    lay_water,
    scatter_clutter,
    texture,
)

CLASSES = (
    "aircraft",
    "baseball_diamond",
    "containers",
    "helipad",
    "ship",
    "solar_farm",
    "stadium",
    "storage_tanks",
    "swimming_pool",
    "tennis_court",
)
MIN_IMAGE_SIZE = 32
VERSION = 1  # of the drawing: raised whenever the same (seed, index) gives another picture


@dataclass(frozen=True)
class Scene:
    """A scene and what decides its class.

    Args:
        image: (H, W, 3) uint8.
        label: index into CLASSES.
        mask: (H, W) bool, every pixel that the object touches, with its shadow, and for a ship the foam around it.
    """

    image: np.ndarray
    label: int
    mask: np.ndarray


def scene(index: int, seed: int = 0, image_size: int = 128, closeup: bool = False) -> Scene:
    """Scene number `index` of the endless set `seed`; its label is `index % 10`.

    `closeup` flies lower: the object spans a third to two thirds of the frame and nothing clutters the ground.
    Raises ValueError for a negative index or seed, or an image_size below 32.
    """
    _check(index=index, seed=seed, image_size=image_size)
    streams = np.random.SeedSequence([seed, index], spawn_key=(int(closeup),)).spawn(2)
    surroundings, objects = (np.random.default_rng(stream) for stream in streams)
    label = index % len(CLASSES)
    image, mask = _render(CLASSES[label], surroundings, objects, image_size, closeup)
    return Scene(image, label, mask)


def scenes(
    count: int, seed: int = 0, image_size: int = 128, closeup: bool = False, progress: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scenes 0 ... count - 1: images (n, H, W, 3) uint8, labels (n,) int64, masks (n, H, W) bool."""
    _check(count=count, seed=seed, image_size=image_size)
    images = np.empty((count, image_size, image_size, 3), np.uint8)
    labels = np.empty(count, np.int64)
    masks = np.empty((count, image_size, image_size), bool)
    name = "drawing close-ups" if closeup else "drawing scenes"
    for index in tqdm(range(count), desc=name, unit="img", disable=not progress):
        drawn = scene(index, seed, image_size, closeup)
        images[index], labels[index], masks[index] = drawn.image, drawn.label, drawn.mask
    return images, labels, masks


def object_patches(masks: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Fraction of each patch that the object covers: (n, H, W) bool -> (n, rows * cols) float32, row by row."""
    rows, cols = grid
    if masks.ndim != 3:
        raise ValueError(f"masks has shape {masks.shape}; expected (n, H, W)")
    n, height, width = masks.shape
    if rows < 1 or cols < 1 or height % rows or width % cols:
        raise ValueError(
            f"grid {grid} does not divide masks of {height} x {width} pixels; "
            "give (rows, cols) that do, such as the model's patch_embed.grid_size"
        )
    patches = masks.reshape(n, rows, height // rows, cols, width // cols)
    return patches.mean(axis=(2, 4), dtype=np.float32).reshape(n, rows * cols)


def _check(image_size: int, **not_negative: int) -> None:
    if image_size < MIN_IMAGE_SIZE:
        raise ValueError(f"image_size {image_size} is too small to see an object; give at least {MIN_IMAGE_SIZE}")
    for name, value in not_negative.items():
        if value < 0:
            raise ValueError(f"{name} {value} is negative; give 0 or more")


def _render(
    name: str, rng: np.random.Generator, object_rng: np.random.Generator, image_size: int, closeup: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene; `rng` draws all that surrounds the object, `object_rng` the object: image and mask."""
    dry, wet = draw_sites(rng)
    angle = rng.uniform(0, 2 * np.pi)
    sun = 1.1 * np.array([np.cos(angle), np.sin(angle)])
    shapes = lay_land(rng)
    water, distance = lay_water(rng, dry, wet)
    if not closeup:
        road = lay_road(rng, distance, dry)
        for width, colour in ((0.086, (176, 166, 144)), (0.068, (104, 104, 108))):
            shapes += [Shape(stroke(*a, *b, width), colour) for a, b in zip(road[:-1], road[1:], strict=True)]
        shapes += [
            Shape(stroke(*a, *(a + b) / 2, 0.007), (216, 214, 200)) for a, b in zip(road[:-1], road[1:], strict=True)
        ]
        if rng.random() < 0.5:  # bare ground prepared for an object, whether or not one comes
            shapes.append(Shape(blob(rng, dry, 0.165), pick(rng, *CONCRETES, *EARTHS)))
        water += scatter_clutter(rng, distance, dry, wet, road)
    tint, clouds, hue = rng.uniform(0.92, 1.08, 3), texture(rng, image_size), texture(rng, image_size)

    objects, scale = group(name, object_rng)
    site = wet if name == "ship" else dry
    objects = place(objects, site, scale, object_rng.uniform(0, 2 * np.pi))
    zoom, corner = 1.0, np.zeros(2)
    if closeup:
        low, high = bounds(objects)
        zoom = object_rng.uniform(*CLOSEUP_SPAN) / (high - low).max()
        corner = (low + high) / 2 - object_rng.uniform(0.42, 0.58, 2) / zoom

    ground = Image.new("RGBX", (2 * image_size, 2 * image_size))
    paint(ground, shapes + water, corner, 2 * image_size * zoom, sun)
    pixels = np.asarray(ground.reduce(2), np.float32)
    light = clouds * (pixels[..., 3] * (0.06 / 255))
    warmth = hue * (pixels[..., 3] * (0.03 / 255))
    shades = np.stack([light + warmth, light, light - warmth], axis=-1)
    image = Image.fromarray(np.clip(pixels[..., :3] * ((1 + shades) * tint), 0, 255).astype(np.uint8))
    mask = _paste(image, objects, corner, image_size * zoom, sun)
    return np.asarray(image), mask


def _paste(image: Image.Image, objects: list[Shape], corner: np.ndarray, scale: float, sun: np.ndarray) -> np.ndarray:
    """Draw the objects finely in a window of their own, paste them, and return the mask (H, W) of what they touch."""
    low, high = bounds(objects + [shape._replace(points=shape.points + sun * shape.height) for shape in objects])
    left, top = np.floor((low - corner) * scale).astype(int) - 1
    width, height = np.ceil((high - low) * scale).astype(int) + 3
    fine = 4 if max(width, height) <= 64 else 2
    window = Image.new("RGBA", (int(width) * fine, int(height) * fine))
    paint(window, objects, corner + np.array([left, top]) / scale, scale * fine, sun)
    window = window.reduce(fine)
    image.paste(window, (int(left), int(top)), window)
    mask = Image.new("L", image.size)
    mask.paste(window.getchannel("A"), (int(left), int(top)))
    return np.asarray(mask) > 0
