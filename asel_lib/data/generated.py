"""Generated data sets: scenes drawn when they are first asked for, so that opening a set costs nothing."""

import hashlib

import numpy as np
from tqdm.auto import tqdm

from asel_lib.data import catalog, synthetic


class Scenes:
    """Scenes 0 ... count - 1 of a generated set of the catalogue. `pixels` uint8 (n, H, W, 3) and `masks` bool
    (n, H, W) are indexed like arrays; each scene is drawn once, in the process that asks for it (about 5 ms)."""

    def __init__(self, name: str, count: int, image_size: int):
        self.spec = catalog.spec(name)
        self.image_size = image_size
        self._drawn = np.zeros(count, dtype=bool)
        # np.empty takes no memory until a scene is written.
        self.pixels = _Column(self, np.empty((count, image_size, image_size, 3), np.uint8))
        self.masks = _Column(self, np.empty((count, image_size, image_size), bool))

    def draw(self, indices: np.ndarray) -> None:
        missing = np.unique(indices[~self._drawn[indices]])
        for index in tqdm(missing, "drawing scenes", unit="img", leave=False, disable=len(missing) < 200):
            drawn = synthetic.scene(int(index), self.spec.seed, self.image_size, self.spec.closeup)
            self.pixels.store[index], self.masks.store[index] = drawn.image, drawn.mask
            self._drawn[index] = True


class _Column:
    """An array whose rows are drawn on first use."""

    def __init__(self, scenes: Scenes, store: np.ndarray):
        self.scenes, self.store = scenes, store

    shape = property(lambda self: self.store.shape)

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, rows) -> np.ndarray:
        self.scenes.draw(np.atleast_1d(np.arange(len(self.store))[rows]))
        return self.store[rows]

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        return np.array(self[:], dtype=dtype)


def identities(name: str, count: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(names, digests) of the scenes: what the bytes of files are elsewhere is here the version of the drawing, so
    that scenes drawn in another way are another data set."""
    scenes = [identity(name, index) for index in range(count)]
    return tuple(scene for scene, _ in scenes), tuple(digest for _, digest in scenes)


def identity(name: str, index: int) -> tuple[str, str]:
    """(name, digest) of one scene."""
    scene = f"{name}/{catalog.spec(name).seed}/{index:06d}"
    return scene, hashlib.sha256(f"version {synthetic.VERSION}/{scene}".encode()).hexdigest()[:16]
