"""Ground, water, road, houses, trees and cars: the same for every class."""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
from PIL import Image

from asel_lib.data.synthetic.shapes import Shape, blob, box, disc, pick, place, stroke

SITE_RADIUS = 0.17  # each of the two sites is free of clutter this far from its centre

GREENS = ((104, 128, 70), (122, 140, 82), (92, 116, 66), (138, 148, 84), (84, 104, 58))
EARTHS = ((152, 124, 92), (136, 106, 78), (170, 146, 106), (186, 168, 120), (120, 98, 74))
SANDS = ((206, 186, 144), (196, 172, 130))
CONCRETES = ((168, 166, 160), (150, 150, 148), (182, 176, 166))
LANDS = {"meadow": GREENS, "soil": EARTHS, "sand": SANDS, "concrete": CONCRETES, "fields": GREENS + EARTHS}
WATERS = ((44, 86, 108), (36, 72, 96), (58, 100, 104))
ROOFS = ((168, 92, 72), (150, 78, 62), (140, 140, 144), (204, 200, 190), (96, 104, 118), (120, 130, 108))
TREES = ((52, 84, 44), (62, 96, 50), (44, 72, 46))
CARS = ((226, 226, 222), (170, 50, 44), (50, 70, 120), (40, 42, 46), (196, 196, 198))


def lay_land(rng: np.random.Generator) -> list[Shape]:
    name = list(LANDS)[rng.integers(len(LANDS))]
    palette = LANDS[name]
    land = [Shape(box(-1, -1, 2, 2), pick(rng, *palette), roughness=110)]
    if name != "fields":
        for x, y, radius in rng.uniform((0, 0, 0.08), (1, 1, 0.25), (4, 3)):
            tone = tuple(int(band * rng.uniform(0.9, 1.08)) for band in land[0].colour)
            land.append(Shape(blob(rng, np.array([x, y]), radius), tone, roughness=110))
        return land
    angle, cuts = rng.uniform(0, np.pi), np.cumsum(rng.uniform(0.2, 0.42, 6)) - 0.95
    for left, right in zip(cuts[:-1], cuts[1:], strict=True):
        low = -0.85 + rng.uniform(0, 0.2)
        while low < 0.75:
            high = low + rng.uniform(0.25, 0.6)
            colour = pick(rng, *palette)
            parcel = [Shape(box(left, low, right - 0.012, high - 0.012), colour, roughness=90)]
            if rng.random() < 0.55:
                furrow = tuple(int(0.86 * band) for band in colour)
                parcel += [
                    Shape(box(x, low, x + 0.012, high - 0.012), furrow)
                    for x in np.arange(left + 0.02, right - 0.03, 0.036)
                ]
            land += place(parcel, np.array([0.5, 0.5]), 1.0, angle)
            low = high
    return land


def lay_water(
    rng: np.random.Generator, dry: np.ndarray, wet: np.ndarray
) -> tuple[list[Shape], Callable[[np.ndarray], np.ndarray]]:
    """A coast, a pond at `wet` or a lake around `dry`; and how far points (..., 2) lie from it (< 0: in the water)."""
    colour, sand = pick(rng, *WATERS), pick(rng, *SANDS)
    shallow = tuple(int(0.75 * w + 0.25 * s) for w, s in zip(colour, sand, strict=True))
    looks, insets = ((sand, 80), (shallow, 36), (colour, 36)), (-0.014, 0.0, 0.022)
    layout = rng.integers(3)
    if layout == 0:  # a coast, half-way between the sites
        middle, axis = (dry + wet) / 2, (wet - dry) / np.linalg.norm(wet - dry)
        along = np.linspace(-1.6, 1.6, 60)
        waves = 0.02 * np.sin(rng.uniform(5, 9) * along + rng.uniform(0, 6)) + 0.01 * np.sin(21 * along)
        edge = middle + along[:, None] * (-axis[1], axis[0]) + waves[:, None] * axis
        outlines = [np.concatenate([edge + inset * axis, edge[::-1] + 2 * axis]) for inset in insets]

        def distance(points: np.ndarray) -> np.ndarray:
            return (middle - points) @ axis
    else:
        centre, radius, sign = (wet, 0.2, 1) if layout == 1 else (dry, 0.25, -1)
        shore = blob(rng, centre, radius) - centre
        outlines = [centre + shore * (1 - sign * inset / radius) for inset in insets]
        if sign < 0:  # the lake is the frame with the island cut out: one outline that runs around both
            frame = box(-1, -1, 2, 2)[[0, 1, 2, 3, 0]]
            outlines = [np.concatenate([frame, island, island[:1]]) for island in outlines]

        def distance(points: np.ndarray) -> np.ndarray:
            return sign * (np.linalg.norm(points - centre, axis=-1) - radius)

    return [Shape(line, tone, 0.0, rough) for line, (tone, rough) in zip(outlines, looks, strict=True)], distance


def lay_road(rng: np.random.Generator, distance: Callable[[np.ndarray], np.ndarray], dry: np.ndarray) -> np.ndarray:
    """Centre line (k, 2) of a road that keeps clear of the water and of the site; empty if there is no room."""
    t = np.linspace(0, 1, 24)[:, None]
    for _ in range(6):
        angle, bend = rng.uniform(0, 2 * np.pi), rng.uniform(-0.25, 0.25)
        ahead, aside = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
        line = 0.5 + (2.4 * t - 1.2) * ahead + (rng.uniform(-0.5, 0.5) + bend * (2 * t - 1) ** 2) * aside
        seen = line[np.all(np.abs(line - 0.5) < 0.6, axis=1)]
        if len(seen) > 6 and (distance(seen) > 0.07).all() and _far(seen, dry) > SITE_RADIUS + 0.04:
            return line
    return np.empty((0, 2))


def _far(points: np.ndarray, other: np.ndarray) -> float:
    return np.linalg.norm(points - other, axis=-1).min(initial=9.0)


def scatter_clutter(
    rng: np.random.Generator,
    distance: Callable[[np.ndarray], np.ndarray],
    dry: np.ndarray,
    wet: np.ndarray,
    road: np.ndarray,
) -> list[Shape]:
    """Cars, houses and trees on a jittered grid of plots, wherever there is room."""
    shapes, built = [], rng.uniform(0, 0.6)
    street = rng.uniform(0, np.pi / 2)
    plots = (np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2) + 0.5) / 8
    plots = plots[rng.random(64) < rng.uniform(0.2, 0.6)]
    plots = plots + rng.uniform(-0.03, 0.03, plots.shape)
    for plot, dry_by in zip(plots, distance(plots), strict=True):
        if dry_by < 0 and _far(plot, wet) > SITE_RADIUS:  # a white cap
            x, y = plot
            shapes.append(Shape(stroke(x, y, x + rng.uniform(0.02, 0.05), y + 0.006, 0.008), (132, 160, 172)))
        if dry_by < 0.05 or _far(plot, dry) < SITE_RADIUS + 0.05 or _far(road, plot) < 0.09:
            continue
        if rng.random() < built:
            shapes += place(_house(rng), plot, rng.uniform(0.036, 0.05), street + np.pi / 2 * rng.integers(2))
        else:
            for dx, dy, radius in rng.uniform((-0.035, -0.035, 0.014), (0.035, 0.035, 0.03), (rng.integers(1, 4), 3)):
                leaf = pick(rng, *TREES)
                crown = disc(*plot + (dx, dy), radius, corners=9)
                lit = disc(*plot + (dx - 0.15 * radius, dy - 0.15 * radius), 0.6 * radius, corners=8)
                shapes += [Shape(crown, leaf, 0.6 * radius, 150), Shape(lit, tuple(band + 16 for band in leaf))]
    for near, ahead in zip(road[:-1], road[1:], strict=True):
        if rng.random() < 0.3:
            lane = 0.016 * (ahead - near)[::-1] / np.linalg.norm(ahead - near) * (1, -1) * rng.choice((-1, 1))
            start = near + lane
            shapes.append(Shape(stroke(*start, *start + 0.25 * (ahead - near), 0.013), pick(rng, *CARS), 0.006))
    return shapes


def _house(rng: np.random.Generator) -> list[Shape]:
    roof, depth = pick(rng, *ROOFS), rng.uniform(0.5, 0.8)
    sunny = tuple(min(255, int(1.16 * band)) for band in roof)
    return [Shape(box(-1, -depth, 1, depth), roof, 0.4), Shape(box(-1, -depth, 1, 0), sunny)]


@lru_cache(maxsize=1)
def _textures() -> np.ndarray:
    """Tileable-looking clouds and grain (512, 512) float32, the same for every scene, which crops its own window."""
    rng, size = np.random.default_rng(0), 512
    noise = 0.5 * rng.standard_normal((size, size), np.float32)
    for cells, weight in ((256, 0.6), (96, 0.5), (32, 0.5), (12, 0.4)):
        coarse = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
        noise += weight * np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return noise


def texture(rng: np.random.Generator, image_size: int) -> np.ndarray:
    """A window of 128 x 128 texels, whatever the image's size: finer images do not see other ground."""
    x, y = rng.integers(0, 512 - 128, 2)
    window = _textures()[y : y + 128, x : x + 128]
    if image_size == 128:
        return window
    return np.asarray(Image.fromarray(window).resize((image_size, image_size), Image.Resampling.BILINEAR))


def draw_sites(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the site on land and of the one in the water, far enough apart for a shore between them."""
    while True:
        dry, wet = rng.uniform(SITE_RADIUS, 1 - SITE_RADIUS, (2, 2))
        if np.linalg.norm(dry - wet) > 0.44:
            return dry, wet
