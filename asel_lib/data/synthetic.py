"""Procedural aerial scenes in which one small object decides the class, with the mask of that object.

A scene is built in two independent halves. The surroundings (ground, water, road, trees, buildings, light) always
offer two empty sites, one on land and one on water, and know nothing of the class. The deciding object then takes the
site that suits it. So outside the mask there is nothing to learn the class from.

Everything is drawn from (seed, index) alone and measured in units of the frame's side: x and y run from 0 to 1.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw
from tqdm.auto import tqdm

CLASSES = ("aircraft", "baseball_diamond", "containers", "helipad", "ship", "solar_farm", "stadium",
           "storage_tanks", "swimming_pool", "tennis_court")
MIN_IMAGE_SIZE = 32


@dataclass(frozen=True)
class Scene:
    """image (H, W, 3) uint8; label: index into CLASSES; mask (H, W) bool, every pixel that the object touches.

    The object includes its shadow, and for a ship the foam around it.
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


def scenes(count: int, seed: int = 0, image_size: int = 128, closeup: bool = False,
           progress: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
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
        raise ValueError(f"grid {grid} does not divide masks of {height} x {width} pixels; "
                         "give (rows, cols) that do, such as the model's patch_embed.grid_size")
    patches = masks.reshape(n, rows, height // rows, cols, width // cols)
    return patches.mean(axis=(2, 4), dtype=np.float32).reshape(n, rows * cols)


def _check(image_size: int, **not_negative: int) -> None:
    if image_size < MIN_IMAGE_SIZE:
        raise ValueError(f"image_size {image_size} is too small to see an object; give at least {MIN_IMAGE_SIZE}")
    for name, value in not_negative.items():
        if value < 0:
            raise ValueError(f"{name} {value} is negative; give 0 or more")


# ---- shapes: plain polygons, so that one function can place, light and paint everything -------------------------

Colour = tuple[int, int, int]


class Shape(NamedTuple):
    """A filled polygon: points (k, 2); height casts a shadow; roughness (0-255) is how much texture shows on it."""

    points: np.ndarray
    colour: Colour
    height: float = 0.0
    roughness: int = 60


def _box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _disc(x: float, y: float, rx: float, ry: float | None = None, start: float = 0, stop: float = 360,
          corners: int = 20) -> np.ndarray:
    angles = np.radians(np.linspace(start, stop, corners, endpoint=stop - start < 360))
    return np.stack([x + rx * np.cos(angles), y + (ry or rx) * np.sin(angles)], axis=1)


def _line(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
    across = np.array([y0 - y1, x1 - x0]) * (width / 2 / max(np.hypot(x1 - x0, y1 - y0), 1e-9))
    a, b = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([a + across, b + across, b - across, a - across])


def _capsule(length: float, radius: float) -> np.ndarray:
    right = _disc(length - radius, 0, radius, start=-90, stop=90)
    return np.concatenate([right, -right])


def _blob(rng: np.random.Generator, centre: np.ndarray, radius: float, corners: int = 28) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    waves = sum(np.sin(k * angles + phase) / k for k, phase in zip((2, 3, 5), rng.uniform(0, 6.3, 3), strict=True))
    reach = radius * (1 + 0.09 * waves)
    return centre + np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=1)


def _place(shapes: list[Shape], centre: np.ndarray, scale: float, angle: float) -> list[Shape]:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    return [shape._replace(points=shape.points @ turn + centre, height=shape.height * scale) for shape in shapes]


def _paint(canvas: Image.Image, shapes: list[Shape], origin: np.ndarray, scale: float, sun: np.ndarray) -> None:
    """Paint shapes in order, each group's shadows first; pixel = (point - origin) * scale."""
    draw = ImageDraw.Draw(canvas)
    opaque = canvas.mode == "RGBA"  # there the fourth band is opacity; on the ground ("RGBX") it is roughness

    def polygon(points: np.ndarray, fill: tuple[int, ...]) -> None:
        draw.polygon(((points - origin) * scale).ravel().tolist(), fill=fill)

    if opaque:
        for shape in shapes:
            if shape.height:
                polygon(shape.points + sun * shape.height, (12, 14, 22, 120))
    for shape in shapes:
        if shape.height and not opaque:
            polygon(shape.points + sun * shape.height, (38, 42, 40, 20))
        polygon(shape.points, (*shape.colour, 255 if opaque else shape.roughness))


# ---- the deciding objects: half a length along x is 1 ------------------------------------------------------------

WHITE = (240, 240, 236)


def _pick(rng: np.random.Generator, *colours: Colour) -> Colour:
    """One of the colours, jittered."""
    shift = rng.integers(-12, 13, 3)
    return tuple(np.clip(np.add(colours[rng.integers(len(colours))], shift), 0, 255).tolist())


def _mirrored(points: list[tuple[float, float]]) -> np.ndarray:
    """Close an outline given for y >= 0 by its mirror image."""
    return np.array(points + [(x, -y) for x, y in reversed(points)])


def _aircraft(rng: np.random.Generator) -> list[Shape]:
    body, accent = _pick(rng, (236, 238, 240), (214, 218, 224)), _pick(rng, (200, 40, 40), (30, 70, 160), (230, 150, 30))
    wing = _mirrored([(0.34, 0.1), (-0.26, 0.95), (-0.46, 0.95), (-0.16, 0.1)])
    tail = _mirrored([(-0.66, 0.05), (-0.9, 0.38), (-1.04, 0.38), (-0.94, 0.05)])
    engines = [Shape(_box(-0.05, y - 0.07, 0.2, y + 0.07), (90, 94, 100), 0.12) for y in (-0.42, 0.42)]
    return [*engines, Shape(wing, body, 0.16), Shape(tail, accent, 0.16), Shape(_disc(0, 0, 1, 0.14), body, 0.16),
            Shape(_disc(0.82, 0, 0.1, 0.09), (60, 70, 86))]


def _baseball_diamond(rng: np.random.Generator) -> list[Shape]:
    def fan(radius: float) -> np.ndarray:
        return np.concatenate([[(-1.0, 0.0)], _disc(-1, 0, radius, start=-45, stop=45)])

    clay, grass = _pick(rng, (198, 142, 92), (184, 122, 76)), _pick(rng, (88, 156, 62), (104, 168, 76))
    infield = np.array([(-0.82, 0), (-0.34, 0.48), (0.14, 0), (-0.34, -0.48)])
    foul_lines = [Shape(_line(-1, 0, 0.36, y, 0.06), WHITE) for y in (-1.36, 1.36)]
    return [Shape(fan(2.0), clay), Shape(fan(1.84), grass), Shape(fan(1.3), clay), Shape(infield, grass),
            Shape(_disc(-0.34, 0, 0.12), clay), *foul_lines, Shape(_disc(-0.92, 0, 0.12), clay)]


def _containers(rng: np.random.Generator) -> list[Shape]:
    paints = ((206, 60, 46), (40, 100, 180), (236, 160, 40), (60, 150, 90), (232, 226, 214), (150, 60, 120))
    columns, rows = int(rng.integers(3, 5)), int(rng.integers(4, 6))
    yard = [Shape(_box(-1, -0.72, 1, 0.72), (112, 112, 114))]
    for column in range(columns):
        for row in range(rows):
            x, y = 2 * column / columns - 1, 1.4 * row / rows - 0.7
            stack = _box(x + 0.05, y + 0.03, x + 2 / columns - 0.05, y + 1.4 / rows - 0.03)
            if rng.random() < 0.9:
                yard.append(Shape(stack, _pick(rng, *paints), 0.1))
    return yard


def _helipad(rng: np.random.Generator) -> list[Shape]:
    deck, sign = _pick(rng, (70, 74, 80), (60, 74, 96)), _pick(rng, (248, 212, 50), (244, 244, 240))
    bars = [_box(-0.34, -0.36, 0.34, -0.2), _box(-0.34, 0.2, 0.34, 0.36), _box(-0.1, -0.3, 0.1, 0.3)]
    return [Shape(_box(-0.86, -0.86, 0.86, 0.86), (206, 60, 48), 0.1), Shape(_box(-0.76, -0.76, 0.76, 0.76), deck),
            Shape(_disc(0, 0, 0.7), sign), Shape(_disc(0, 0, 0.56), deck), *(Shape(bar, sign) for bar in bars)]


def _ship(rng: np.random.Generator) -> list[Shape]:
    side = [(-1, 0.18), (-0.92, 0.25), (0.5, 0.25), (0.8, 0.15), (1, 0)]
    hull = _mirrored(side)
    foam, rim = _pick(rng, (196, 214, 220)), _pick(rng, (120, 36, 32), (34, 40, 56), (60, 62, 66))
    deck, cover = _pick(rng, (172, 92, 66), (150, 152, 148)), _pick(rng, (220, 186, 120), (120, 150, 140))
    hatches = [Shape(_box(x, -0.12, x + 0.22, 0.12), cover) for x in (-0.42, -0.1, 0.22)]
    return [Shape(hull * (1.05, 1.3), foam), Shape(hull, rim, 0.1), Shape(hull * (0.93, 0.72), deck), *hatches,
            Shape(_box(-0.88, -0.18, -0.54, 0.18), WHITE, 0.12), Shape(_box(-0.82, -0.06, -0.7, 0.06), (216, 84, 40))]


def _solar_farm(rng: np.random.Generator) -> list[Shape]:
    rows, glass = int(rng.integers(4, 6)), _pick(rng, (28, 44, 104), (22, 52, 118))
    farm = [Shape(_box(-1, -0.76, 1, 0.76), _pick(rng, (196, 190, 172)))]
    pitch = 1.48 / rows
    for row in range(rows):
        y = -0.74 + row * pitch
        farm.append(Shape(_box(-0.95, y + 0.2 * pitch, 0.95, y + 0.86 * pitch), glass, 0.04))
        farm.append(Shape(_line(-0.95, y + 0.42 * pitch, 0.95, y + 0.42 * pitch, 0.03), (112, 140, 200)))
    return farm + [Shape(_line(x, -0.74, x, 0.74, 0.05), (150, 170, 206)) for x in (-0.48, 0, 0.48)]


def _stadium(rng: np.random.Generator) -> list[Shape]:
    track, grass = _pick(rng, (196, 84, 58), (178, 70, 62)), _pick(rng, (84, 160, 62), (96, 172, 76))
    stripes = [Shape(_box(x, -0.34, x + 0.2, 0.34), (118, 188, 88)) for x in (-0.5, -0.1, 0.3)]
    stand = Shape(_box(-0.6, 0.72, 0.6, 0.9), _pick(rng, (214, 216, 220)), 0.16)
    return [stand, Shape(_capsule(1, 0.68), track), Shape(_capsule(0.87, 0.55), (236, 206, 192)),
            Shape(_capsule(0.84, 0.52), track), Shape(_capsule(0.74, 0.42), grass), *stripes,
            Shape(_line(0, -0.4, 0, 0.4, 0.05), WHITE), Shape(_disc(0, 0, 0.12), WHITE)]


def _storage_tanks(rng: np.random.Generator) -> list[Shape]:
    columns = int(rng.integers(2, 4))
    radius, paint = 0.88 / columns, _pick(rng, (238, 238, 234), (222, 214, 196))
    shade = tuple(int(0.8 * band) for band in paint)
    tanks = []
    for x in 2 * (np.arange(columns) + 0.5) / columns - 1:
        for y in (-1 / columns, 1 / columns):
            tanks += [Shape(_disc(x, y, radius), shade, 0.3), Shape(_disc(x, y, 0.84 * radius), paint),
                      Shape(_disc(x, y, 0.2 * radius), (130, 130, 134))]
    return tanks


def _swimming_pool(rng: np.random.Generator) -> list[Shape]:
    water, terrace = _pick(rng, (46, 196, 222), (70, 208, 214)), _pick(rng, (232, 222, 200), (216, 204, 196))
    if rng.random() < 0.5:
        basin = [Shape(_box(-0.74, -0.4, 0.74, 0.4), water)]
        basin += [Shape(_line(-0.7, y, 0.7, y, 0.04), (206, 242, 246)) for y in (-0.14, 0.14)]
    else:
        basin = [Shape(_disc(-0.32, 0.02, 0.44), water), Shape(_disc(0.34, -0.04, 0.42), water),
                 Shape(_box(-0.3, -0.36, 0.3, 0.3), water), Shape(_disc(0.36, -0.06, 0.2), (176, 236, 240))]
    shades = [Shape(_disc(x, 0.54, 0.09), _pick(rng, (224, 70, 60), (250, 250, 246)), 0.1) for x in (-0.6, -0.2, 0.55)]
    return [Shape(_box(-0.95, -0.66, 0.95, 0.66), terrace), *basin, *shades]


def _tennis_court(rng: np.random.Generator) -> list[Shape]:
    pairs = (((52, 124, 84), (44, 84, 170)), ((60, 130, 80), (182, 84, 54)), ((44, 98, 150), (70, 60, 150)))
    apron, court = (_pick(rng, colour) for colour in pairs[rng.integers(3)])
    lines = [(-0.7, y, 0.7, y) for y in (-0.38, -0.27, 0.27, 0.38)] + [(x, -0.38, x, 0.38) for x in (-0.7, 0.7)]
    lines += [(x, -0.27, x, 0.27) for x in (-0.36, 0.36)] + [(-0.36, 0, 0.36, 0)]
    return [Shape(_box(-1, -0.58, 1, 0.58), apron), Shape(_box(-0.7, -0.38, 0.7, 0.38), court),
            *(Shape(_line(*line, 0.055), WHITE) for line in lines), Shape(_line(0, -0.48, 0, 0.48, 0.05), (30, 34, 40), 0.1)]


class Kind(NamedTuple):
    paint: Callable[[np.random.Generator], list[Shape]]
    half_width: float  # in half lengths
    most: int  # how many may stand side by side


KINDS = {"aircraft": Kind(_aircraft, 0.95, 2), "baseball_diamond": Kind(_baseball_diamond, 1.4, 1),
         "containers": Kind(_containers, 0.72, 1), "helipad": Kind(_helipad, 0.86, 2), "ship": Kind(_ship, 0.33, 3),
         "solar_farm": Kind(_solar_farm, 0.76, 1), "stadium": Kind(_stadium, 0.9, 1),
         "storage_tanks": Kind(_storage_tanks, 0.9, 1), "swimming_pool": Kind(_swimming_pool, 0.66, 2),
         "tennis_court": Kind(_tennis_court, 0.58, 3)}

SITE_RADIUS = 0.17  # each of the two sites is free of clutter this far from its centre
OBJECT_LENGTH = (0.22, 0.29)  # of a lone object, before it is shrunk to fit its site
CLOSEUP_SPAN = (0.42, 0.66)  # of the frame, along the object


def _group(name: str, rng: np.random.Generator) -> tuple[list[Shape], float]:
    """One object or a few alike side by side, centred on 0, and the scale that makes them fit a site."""
    kind = KINDS[name]
    copies = min(int(rng.choice(3, p=(0.7, 0.22, 0.08))) + 1, kind.most)
    step = 2.25 * kind.half_width
    one = kind.paint(rng)
    shapes = [shape._replace(points=shape.points + (0, (copy - (copies - 1) / 2) * step))
              for copy in range(copies) for shape in one]
    reach = np.hypot(1, copies * step / 2)
    return shapes, min(rng.uniform(*OBJECT_LENGTH) / 2, SITE_RADIUS / reach)


# ---- the surroundings: the same for every class ------------------------------------------------------------------

GREENS = ((104, 128, 70), (122, 140, 82), (92, 116, 66), (138, 148, 84), (84, 104, 58))
EARTHS = ((152, 124, 92), (136, 106, 78), (170, 146, 106), (186, 168, 120), (120, 98, 74))
SANDS = ((206, 186, 144), (196, 172, 130))
CONCRETES = ((168, 166, 160), (150, 150, 148), (182, 176, 166))
LANDS = {"meadow": GREENS, "soil": EARTHS, "sand": SANDS, "concrete": CONCRETES, "fields": GREENS + EARTHS}
WATERS = ((44, 86, 108), (36, 72, 96), (58, 100, 104))
ROOFS = ((168, 92, 72), (150, 78, 62), (140, 140, 144), (204, 200, 190), (96, 104, 118), (120, 130, 108))
TREES = ((52, 84, 44), (62, 96, 50), (44, 72, 46))
CARS = ((226, 226, 222), (170, 50, 44), (50, 70, 120), (40, 42, 46), (196, 196, 198))


def _land(rng: np.random.Generator) -> list[Shape]:
    name = list(LANDS)[rng.integers(len(LANDS))]
    palette = LANDS[name]
    land = [Shape(_box(-1, -1, 2, 2), _pick(rng, *palette), roughness=110)]
    if name != "fields":
        for x, y, radius in rng.uniform((0, 0, 0.08), (1, 1, 0.25), (4, 3)):
            tone = tuple(int(band * rng.uniform(0.9, 1.08)) for band in land[0].colour)
            land.append(Shape(_blob(rng, np.array([x, y]), radius), tone, roughness=110))
        return land
    angle, cuts = rng.uniform(0, np.pi), np.cumsum(rng.uniform(0.2, 0.42, 6)) - 0.95
    for left, right in zip(cuts[:-1], cuts[1:], strict=True):
        low = -0.85 + rng.uniform(0, 0.2)
        while low < 0.75:
            high = low + rng.uniform(0.25, 0.6)
            colour = _pick(rng, *palette)
            parcel = [Shape(_box(left, low, right - 0.012, high - 0.012), colour, roughness=90)]
            if rng.random() < 0.55:
                furrow = tuple(int(0.86 * band) for band in colour)
                parcel += [Shape(_box(x, low, x + 0.012, high - 0.012), furrow)
                           for x in np.arange(left + 0.02, right - 0.03, 0.036)]
            land += _place(parcel, np.array([0.5, 0.5]), 1.0, angle)
            low = high
    return land


def _water(rng: np.random.Generator, dry: np.ndarray, wet: np.ndarray
           ) -> tuple[list[Shape], Callable[[np.ndarray], np.ndarray]]:
    """A coast, a pond at `wet` or a lake around `dry`; and how far points (..., 2) lie from it (< 0: in the water)."""
    colour, sand = _pick(rng, *WATERS), _pick(rng, *SANDS)
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
        shore = _blob(rng, centre, radius) - centre
        outlines = [centre + shore * (1 - sign * inset / radius) for inset in insets]
        if sign < 0:  # the lake is the frame with the island cut out: one outline that runs around both
            frame = _box(-1, -1, 2, 2)[[0, 1, 2, 3, 0]]
            outlines = [np.concatenate([frame, island, island[:1]]) for island in outlines]

        def distance(points: np.ndarray) -> np.ndarray:
            return sign * (np.linalg.norm(points - centre, axis=-1) - radius)

    return [Shape(line, tone, 0.0, rough) for line, (tone, rough) in zip(outlines, looks, strict=True)], distance


def _road(rng: np.random.Generator, distance: Callable[[np.ndarray], np.ndarray], dry: np.ndarray) -> np.ndarray:
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


def _clutter(rng: np.random.Generator, distance: Callable[[np.ndarray], np.ndarray], dry: np.ndarray,
             wet: np.ndarray, road: np.ndarray) -> list[Shape]:
    """Cars, houses and trees on a jittered grid of plots, wherever there is room."""
    shapes, built = [], rng.uniform(0, 0.6)
    street = rng.uniform(0, np.pi / 2)
    plots = (np.stack(np.meshgrid(np.arange(8), np.arange(8)), -1).reshape(-1, 2) + 0.5) / 8
    plots = plots[rng.random(64) < rng.uniform(0.2, 0.6)]
    plots = plots + rng.uniform(-0.03, 0.03, plots.shape)
    for plot, dry_by in zip(plots, distance(plots), strict=True):
        if dry_by < 0 and _far(plot, wet) > SITE_RADIUS:  # a white cap
            x, y = plot
            shapes.append(Shape(_line(x, y, x + rng.uniform(0.02, 0.05), y + 0.006, 0.008), (132, 160, 172)))
        if dry_by < 0.05 or _far(plot, dry) < SITE_RADIUS + 0.05 or _far(road, plot) < 0.09:
            continue
        if rng.random() < built:
            shapes += _place(_house(rng), plot, rng.uniform(0.036, 0.05), street + np.pi / 2 * rng.integers(2))
        else:
            for dx, dy, radius in rng.uniform((-0.035, -0.035, 0.014), (0.035, 0.035, 0.03), (rng.integers(1, 4), 3)):
                leaf = _pick(rng, *TREES)
                crown = _disc(*plot + (dx, dy), radius, corners=9)
                lit = _disc(*plot + (dx - 0.15 * radius, dy - 0.15 * radius), 0.6 * radius, corners=8)
                shapes += [Shape(crown, leaf, 0.6 * radius, 150), Shape(lit, tuple(band + 16 for band in leaf))]
    for near, ahead in zip(road[:-1], road[1:], strict=True):
        if rng.random() < 0.3:
            lane = 0.016 * (ahead - near)[::-1] / np.linalg.norm(ahead - near) * (1, -1) * rng.choice((-1, 1))
            start = near + lane
            shapes.append(Shape(_line(*start, *start + 0.25 * (ahead - near), 0.013), _pick(rng, *CARS), 0.006))
    return shapes


def _house(rng: np.random.Generator) -> list[Shape]:
    roof, depth = _pick(rng, *ROOFS), rng.uniform(0.5, 0.8)
    sunny = tuple(min(255, int(1.16 * band)) for band in roof)
    return [Shape(_box(-1, -depth, 1, depth), roof, 0.4), Shape(_box(-1, -depth, 1, 0), sunny)]


@lru_cache(maxsize=1)
def _textures() -> np.ndarray:
    """Tileable-looking clouds and grain (512, 512) float32, the same for every scene, which crops its own window."""
    rng, size = np.random.default_rng(0), 512
    noise = 0.5 * rng.standard_normal((size, size), np.float32)
    for cells, weight in ((256, 0.6), (96, 0.5), (32, 0.5), (12, 0.4)):
        coarse = Image.fromarray(rng.standard_normal((cells, cells), np.float32))
        noise += weight * np.asarray(coarse.resize((size, size), Image.Resampling.BICUBIC))
    return noise


def _texture(rng: np.random.Generator, image_size: int) -> np.ndarray:
    """A window of 128 x 128 texels, whatever the image's size: finer images do not see other ground."""
    x, y = rng.integers(0, 512 - 128, 2)
    window = _textures()[y:y + 128, x:x + 128]
    if image_size == 128:
        return window
    return np.asarray(Image.fromarray(window).resize((image_size, image_size), Image.Resampling.BILINEAR))


def _sites(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the site on land and of the one in the water, far enough apart for a shore between them."""
    while True:
        dry, wet = rng.uniform(SITE_RADIUS, 1 - SITE_RADIUS, (2, 2))
        if np.linalg.norm(dry - wet) > 0.44:
            return dry, wet


def _render(name: str, rng: np.random.Generator, object_rng: np.random.Generator, image_size: int, closeup: bool
            ) -> tuple[np.ndarray, np.ndarray]:
    """Draw one scene; `rng` draws all that surrounds the object, `object_rng` the object: image and mask."""
    dry, wet = _sites(rng)
    angle = rng.uniform(0, 2 * np.pi)
    sun = 1.1 * np.array([np.cos(angle), np.sin(angle)])
    shapes = _land(rng)
    water, distance = _water(rng, dry, wet)
    if not closeup:
        road = _road(rng, distance, dry)
        for width, colour in ((0.086, (176, 166, 144)), (0.068, (104, 104, 108))):
            shapes += [Shape(_line(*a, *b, width), colour) for a, b in zip(road[:-1], road[1:], strict=True)]
        shapes += [Shape(_line(*a, *(a + b) / 2, 0.007), (216, 214, 200))
                   for a, b in zip(road[:-1], road[1:], strict=True)]
        if rng.random() < 0.5:  # bare ground prepared for an object, whether or not one comes
            shapes.append(Shape(_blob(rng, dry, 0.165), _pick(rng, *CONCRETES, *EARTHS)))
        water += _clutter(rng, distance, dry, wet, road)
    tint, clouds, hue = rng.uniform(0.92, 1.08, 3), _texture(rng, image_size), _texture(rng, image_size)

    objects, scale = _group(name, object_rng)
    site = wet if name == "ship" else dry
    objects = _place(objects, site, scale, object_rng.uniform(0, 2 * np.pi))
    zoom, corner = 1.0, np.zeros(2)
    if closeup:
        low, high = _bounds(objects)
        zoom = object_rng.uniform(*CLOSEUP_SPAN) / (high - low).max()
        corner = (low + high) / 2 - object_rng.uniform(0.42, 0.58, 2) / zoom

    ground = Image.new("RGBX", (2 * image_size, 2 * image_size))
    _paint(ground, shapes + water, corner, 2 * image_size * zoom, sun)
    pixels = np.asarray(ground.reduce(2), np.float32)
    light = clouds * (pixels[..., 3] * (0.06 / 255))
    warmth = hue * (pixels[..., 3] * (0.03 / 255))
    shades = np.stack([light + warmth, light, light - warmth], axis=-1)
    image = Image.fromarray(np.clip(pixels[..., :3] * ((1 + shades) * tint), 0, 255).astype(np.uint8))
    mask = _paste(image, objects, corner, image_size * zoom, sun)
    return np.asarray(image), mask


def _bounds(shapes: list[Shape]) -> tuple[np.ndarray, np.ndarray]:
    points = np.concatenate([shape.points for shape in shapes])
    return points.min(axis=0), points.max(axis=0)


def _paste(image: Image.Image, objects: list[Shape], corner: np.ndarray, scale: float, sun: np.ndarray) -> np.ndarray:
    """Draw the objects finely in a window of their own, paste them, and return the mask (H, W) of what they touch."""
    low, high = _bounds(objects + [shape._replace(points=shape.points + sun * shape.height) for shape in objects])
    left, top = np.floor((low - corner) * scale).astype(int) - 1
    width, height = np.ceil((high - low) * scale).astype(int) + 3
    fine = 4 if max(width, height) <= 64 else 2
    window = Image.new("RGBA", (int(width) * fine, int(height) * fine))
    _paint(window, objects, corner + np.array([left, top]) / scale, scale * fine, sun)
    window = window.reduce(fine)
    image.paste(window, (int(left), int(top)), window)
    mask = Image.new("L", image.size)
    mask.paste(window.getchannel("A"), (int(left), int(top)))
    return np.asarray(mask) > 0
