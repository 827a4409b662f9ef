"""Plain polygons, so that one function can place, light and paint everything in a scene."""

from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]


class Shape(NamedTuple):
    """A filled polygon: points (k, 2); height casts a shadow; roughness (0-255) is how much texture shows on it."""

    points: np.ndarray
    colour: Colour
    height: float = 0.0
    roughness: int = 60


def box(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def disc(
    x: float, y: float, rx: float, ry: float | None = None, start: float = 0, stop: float = 360, corners: int = 20
) -> np.ndarray:
    angles = np.radians(np.linspace(start, stop, corners, endpoint=stop - start < 360))
    return np.stack([x + rx * np.cos(angles), y + (ry or rx) * np.sin(angles)], axis=1)


def stroke(x0: float, y0: float, x1: float, y1: float, width: float) -> np.ndarray:
    across = np.array([y0 - y1, x1 - x0]) * (width / 2 / max(np.hypot(x1 - x0, y1 - y0), 1e-9))
    a, b = np.array([x0, y0]), np.array([x1, y1])
    return np.stack([a + across, b + across, b - across, a - across])


def capsule(length: float, radius: float) -> np.ndarray:
    right = disc(length - radius, 0, radius, start=-90, stop=90)
    return np.concatenate([right, -right])


def blob(rng: np.random.Generator, centre: np.ndarray, radius: float, corners: int = 28) -> np.ndarray:
    angles = np.linspace(0, 2 * np.pi, corners, endpoint=False)
    waves = sum(np.sin(k * angles + phase) / k for k, phase in zip((2, 3, 5), rng.uniform(0, 6.3, 3), strict=True))
    reach = radius * (1 + 0.09 * waves)
    return centre + np.stack([reach * np.cos(angles), reach * np.sin(angles)], axis=1)


def place(shapes: list[Shape], centre: np.ndarray, scale: float, angle: float) -> list[Shape]:
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)
    turn = np.array([[cos, sin], [-sin, cos]])
    return [shape._replace(points=shape.points @ turn + centre, height=shape.height * scale) for shape in shapes]


def paint(canvas: Image.Image, shapes: list[Shape], origin: np.ndarray, scale: float, sun: np.ndarray) -> None:
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


def bounds(shapes: list[Shape]) -> tuple[np.ndarray, np.ndarray]:
    points = np.concatenate([shape.points for shape in shapes])
    return points.min(axis=0), points.max(axis=0)


def pick(rng: np.random.Generator, *colours: Colour) -> Colour:
    """One of the colours, jittered."""
    shift = rng.integers(-12, 13, 3)
    return tuple(np.clip(np.add(colours[rng.integers(len(colours))], shift), 0, 255).tolist())
