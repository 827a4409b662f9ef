"""The objects that decide the class, ten kinds, drawn along x with half their length as 1."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from asel_lib.data.synthetic.shapes import Shape, box, capsule, disc, pick, stroke
from asel_lib.data.synthetic.surroundings import SITE_RADIUS

WHITE = (240, 240, 236)


def _mirrored(points: list[tuple[float, float]]) -> np.ndarray:
    """Close an outline given for y >= 0 by its mirror image."""
    return np.array(points + [(x, -y) for x, y in reversed(points)])


def _aircraft(rng: np.random.Generator) -> list[Shape]:
    body, accent = pick(rng, (236, 238, 240), (214, 218, 224)), pick(rng, (200, 40, 40), (30, 70, 160), (230, 150, 30))
    wing = _mirrored([(0.34, 0.1), (-0.26, 0.95), (-0.46, 0.95), (-0.16, 0.1)])
    tail = _mirrored([(-0.66, 0.05), (-0.9, 0.38), (-1.04, 0.38), (-0.94, 0.05)])
    engines = [Shape(box(-0.05, y - 0.07, 0.2, y + 0.07), (90, 94, 100), 0.12) for y in (-0.42, 0.42)]
    return [
        *engines,
        Shape(wing, body, 0.16),
        Shape(tail, accent, 0.16),
        Shape(disc(0, 0, 1, 0.14), body, 0.16),
        Shape(disc(0.82, 0, 0.1, 0.09), (60, 70, 86)),
    ]


def _baseball_diamond(rng: np.random.Generator) -> list[Shape]:
    def fan(radius: float) -> np.ndarray:
        return np.concatenate([[(-1.0, 0.0)], disc(-1, 0, radius, start=-45, stop=45)])

    clay, grass = pick(rng, (198, 142, 92), (184, 122, 76)), pick(rng, (88, 156, 62), (104, 168, 76))
    infield = np.array([(-0.82, 0), (-0.34, 0.48), (0.14, 0), (-0.34, -0.48)])
    foul_lines = [Shape(stroke(-1, 0, 0.36, y, 0.06), WHITE) for y in (-1.36, 1.36)]
    return [
        Shape(fan(2.0), clay),
        Shape(fan(1.84), grass),
        Shape(fan(1.3), clay),
        Shape(infield, grass),
        Shape(disc(-0.34, 0, 0.12), clay),
        *foul_lines,
        Shape(disc(-0.92, 0, 0.12), clay),
    ]


def _containers(rng: np.random.Generator) -> list[Shape]:
    paints = ((206, 60, 46), (40, 100, 180), (236, 160, 40), (60, 150, 90), (232, 226, 214), (150, 60, 120))
    columns, rows = int(rng.integers(3, 5)), int(rng.integers(4, 6))
    yard = [Shape(box(-1, -0.72, 1, 0.72), (112, 112, 114))]
    for column in range(columns):
        for row in range(rows):
            x, y = 2 * column / columns - 1, 1.4 * row / rows - 0.7
            stack = box(x + 0.05, y + 0.03, x + 2 / columns - 0.05, y + 1.4 / rows - 0.03)
            if rng.random() < 0.9:
                yard.append(Shape(stack, pick(rng, *paints), 0.1))
    return yard


def _helipad(rng: np.random.Generator) -> list[Shape]:
    deck, sign = pick(rng, (70, 74, 80), (60, 74, 96)), pick(rng, (248, 212, 50), (244, 244, 240))
    bars = [box(-0.34, -0.36, 0.34, -0.2), box(-0.34, 0.2, 0.34, 0.36), box(-0.1, -0.3, 0.1, 0.3)]
    return [
        Shape(box(-0.86, -0.86, 0.86, 0.86), (206, 60, 48), 0.1),
        Shape(box(-0.76, -0.76, 0.76, 0.76), deck),
        Shape(disc(0, 0, 0.7), sign),
        Shape(disc(0, 0, 0.56), deck),
        *(Shape(bar, sign) for bar in bars),
    ]


def _ship(rng: np.random.Generator) -> list[Shape]:
    side = [(-1, 0.18), (-0.92, 0.25), (0.5, 0.25), (0.8, 0.15), (1, 0)]
    hull = _mirrored(side)
    foam, rim = pick(rng, (196, 214, 220)), pick(rng, (120, 36, 32), (34, 40, 56), (60, 62, 66))
    deck, cover = pick(rng, (172, 92, 66), (150, 152, 148)), pick(rng, (220, 186, 120), (120, 150, 140))
    hatches = [Shape(box(x, -0.12, x + 0.22, 0.12), cover) for x in (-0.42, -0.1, 0.22)]
    return [
        Shape(hull * (1.05, 1.3), foam),
        Shape(hull, rim, 0.1),
        Shape(hull * (0.93, 0.72), deck),
        *hatches,
        Shape(box(-0.88, -0.18, -0.54, 0.18), WHITE, 0.12),
        Shape(box(-0.82, -0.06, -0.7, 0.06), (216, 84, 40)),
    ]


def _solar_farm(rng: np.random.Generator) -> list[Shape]:
    rows, glass = int(rng.integers(4, 6)), pick(rng, (28, 44, 104), (22, 52, 118))
    farm = [Shape(box(-1, -0.76, 1, 0.76), pick(rng, (196, 190, 172)))]
    pitch = 1.48 / rows
    for row in range(rows):
        y = -0.74 + row * pitch
        farm.append(Shape(box(-0.95, y + 0.2 * pitch, 0.95, y + 0.86 * pitch), glass, 0.04))
        farm.append(Shape(stroke(-0.95, y + 0.42 * pitch, 0.95, y + 0.42 * pitch, 0.03), (112, 140, 200)))
    return farm + [Shape(stroke(x, -0.74, x, 0.74, 0.05), (150, 170, 206)) for x in (-0.48, 0, 0.48)]


def _stadium(rng: np.random.Generator) -> list[Shape]:
    track, grass = pick(rng, (196, 84, 58), (178, 70, 62)), pick(rng, (84, 160, 62), (96, 172, 76))
    stripes = [Shape(box(x, -0.34, x + 0.2, 0.34), (118, 188, 88)) for x in (-0.5, -0.1, 0.3)]
    stand = Shape(box(-0.6, 0.72, 0.6, 0.9), pick(rng, (214, 216, 220)), 0.16)
    return [
        stand,
        Shape(capsule(1, 0.68), track),
        Shape(capsule(0.87, 0.55), (236, 206, 192)),
        Shape(capsule(0.84, 0.52), track),
        Shape(capsule(0.74, 0.42), grass),
        *stripes,
        Shape(stroke(0, -0.4, 0, 0.4, 0.05), WHITE),
        Shape(disc(0, 0, 0.12), WHITE),
    ]


def _storage_tanks(rng: np.random.Generator) -> list[Shape]:
    columns = int(rng.integers(2, 4))
    radius, paint = 0.88 / columns, pick(rng, (238, 238, 234), (222, 214, 196))
    shade = tuple(int(0.8 * band) for band in paint)
    tanks = []
    for x in 2 * (np.arange(columns) + 0.5) / columns - 1:
        for y in (-1 / columns, 1 / columns):
            tanks += [
                Shape(disc(x, y, radius), shade, 0.3),
                Shape(disc(x, y, 0.84 * radius), paint),
                Shape(disc(x, y, 0.2 * radius), (130, 130, 134)),
            ]
    return tanks


def _swimming_pool(rng: np.random.Generator) -> list[Shape]:
    water, terrace = pick(rng, (46, 196, 222), (70, 208, 214)), pick(rng, (232, 222, 200), (216, 204, 196))
    if rng.random() < 0.5:
        basin = [Shape(box(-0.74, -0.4, 0.74, 0.4), water)]
        basin += [Shape(stroke(-0.7, y, 0.7, y, 0.04), (206, 242, 246)) for y in (-0.14, 0.14)]
    else:
        basin = [
            Shape(disc(-0.32, 0.02, 0.44), water),
            Shape(disc(0.34, -0.04, 0.42), water),
            Shape(box(-0.3, -0.36, 0.3, 0.3), water),
            Shape(disc(0.36, -0.06, 0.2), (176, 236, 240)),
        ]
    shades = [Shape(disc(x, 0.54, 0.09), pick(rng, (224, 70, 60), (250, 250, 246)), 0.1) for x in (-0.6, -0.2, 0.55)]
    return [Shape(box(-0.95, -0.66, 0.95, 0.66), terrace), *basin, *shades]


def _tennis_court(rng: np.random.Generator) -> list[Shape]:
    pairs = (((52, 124, 84), (44, 84, 170)), ((60, 130, 80), (182, 84, 54)), ((44, 98, 150), (70, 60, 150)))
    apron, court = (pick(rng, colour) for colour in pairs[rng.integers(3)])
    lines = [(-0.7, y, 0.7, y) for y in (-0.38, -0.27, 0.27, 0.38)] + [(x, -0.38, x, 0.38) for x in (-0.7, 0.7)]
    lines += [(x, -0.27, x, 0.27) for x in (-0.36, 0.36)] + [(-0.36, 0, 0.36, 0)]
    return [
        Shape(box(-1, -0.58, 1, 0.58), apron),
        Shape(box(-0.7, -0.38, 0.7, 0.38), court),
        *(Shape(stroke(*line, 0.055), WHITE) for line in lines),
        Shape(stroke(0, -0.48, 0, 0.48, 0.05), (30, 34, 40), 0.1),
    ]


class Kind(NamedTuple):
    paint: Callable[[np.random.Generator], list[Shape]]
    half_width: float  # in half lengths
    most: int  # how many may stand side by side


KINDS = {
    "aircraft": Kind(_aircraft, 0.95, 2),
    "baseball_diamond": Kind(_baseball_diamond, 1.4, 1),
    "containers": Kind(_containers, 0.72, 1),
    "helipad": Kind(_helipad, 0.86, 2),
    "ship": Kind(_ship, 0.33, 3),
    "solar_farm": Kind(_solar_farm, 0.76, 1),
    "stadium": Kind(_stadium, 0.9, 1),
    "storage_tanks": Kind(_storage_tanks, 0.9, 1),
    "swimming_pool": Kind(_swimming_pool, 0.66, 2),
    "tennis_court": Kind(_tennis_court, 0.58, 3),
}

OBJECT_LENGTH = (0.22, 0.29)  # of a lone object, before it is shrunk to fit its site
CLOSEUP_SPAN = (0.42, 0.66)  # of the frame, along the object


def group(name: str, rng: np.random.Generator) -> tuple[list[Shape], float]:
    """One object or a few alike side by side, centred on 0, and the scale that makes them fit a site."""
    kind = KINDS[name]
    copies = min(int(rng.choice(3, p=(0.7, 0.22, 0.08))) + 1, kind.most)
    step = 2.25 * kind.half_width
    one = kind.paint(rng)
    shapes = [
        shape._replace(points=shape.points + (0, (copy - (copies - 1) / 2) * step))
        for copy in range(copies)
        for shape in one
    ]
    reach = np.hypot(1, copies * step / 2)
    return shapes, min(rng.uniform(*OBJECT_LENGTH) / 2, SITE_RADIUS / reach)
