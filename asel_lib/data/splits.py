"""Train, val and test parts: stratified, from the data set's file names and the seed alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asel_lib import checks
from asel_lib.errors import DatasetError
from asel_lib.configs import SPLIT_PROTOCOLS

TEST_FRACTION = 0.2
VAL_FRACTION = 0.1  # of the whole; of the training part where the data set brings its own test part


@dataclass(frozen=True)
class Split:
    """Indices into the data set of each part; `fingerprint` is the same only for the same files in the same parts."""

    train: np.ndarray
    val: np.ndarray
    test: np.ndarray
    protocol: str
    seed: int
    fingerprint: str

    def __post_init__(self):
        for part in ("train", "val", "test"):  # a change makes another split, which has another fingerprint
            array = np.asarray(getattr(self, part)).view()
            array.setflags(write=False)
            object.__setattr__(self, part, array)

    def record(self) -> dict:
        """What a checkpoint says of the split it was trained on; `make_split` with it gives the split again."""
        sizes = {part: len(getattr(self, part)) for part in ("train", "val", "test")}
        return {"protocol": self.protocol, "seed": self.seed, "fingerprint": self.fingerprint, **sizes}


def make_split(
    names: Sequence[str],
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    digests: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
    protocol: str = "train-val-test",
    seed: int = 42,
) -> Split:
    """Split n images into train, val and test.

    names: file names below the data set's root; digests: of their bytes, so that byte-identical files share a part;
    parts: the data set's own parts ("train" | "val" | "test") where it has some. Its test part (else its val part)
    is our test part, and training files with a twin there are left out.
    protocol "train-val-test": 70/10/20, or 90/10 of the own training part. "published": 80/20 without val.
    The order in which the files are given does not matter. DatasetError where a class is too small to be split.
    """
    checks.one_of("split protocol", protocol, SPLIT_PROTOCOLS)
    names, labels = np.asarray(names), np.asarray(labels)
    digests = names if digests is None else np.asarray(digests)
    parts = np.asarray(parts) if parts is not None else np.full(len(names), "train")
    order = np.argsort(names, kind="stable")

    has_test = bool((parts == "test").any())
    own_test = parts == ("test" if has_test else "val")
    own_val = (parts == "val") & has_test
    test = order[own_test[order]]
    val = order[own_val[order] & ~np.isin(digests[order], digests[test])]
    rest = order[~(own_test | own_val)[order]]
    rest = rest[~np.isin(digests[rest], digests[np.concatenate([test, val])])]

    if not len(test):
        rest, test = _cut(rest, labels, digests, classes, TEST_FRACTION, seed)
    if protocol == "published":
        rest, val = np.sort(np.concatenate([rest, val])), val[:0]
    elif not len(val):
        # a tenth of the whole, whether or not the test part was cut from it
        share = VAL_FRACTION / (1 - TEST_FRACTION) if not own_test.any() else VAL_FRACTION
        rest, val = _cut(rest, labels, digests, classes, share, seed)
    return Split(
        np.sort(rest), np.sort(val), np.sort(test), protocol, seed, _fingerprint(names, rest=rest, val=val, test=test)
    )


def _cut(indices, labels, digests, classes, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(rest, cut): a stratified draw of `share`, byte-identical files together. `indices` in order of their names."""
    from sklearn.model_selection import train_test_split

    _, first = np.unique(digests[indices], return_index=True)
    representatives = indices[np.sort(first)]
    counts = np.bincount(labels[representatives], minlength=len(classes))
    small = [f"{classes[c]} ({counts[c]})" for c in np.flatnonzero(counts < 5)]
    if small:
        raise DatasetError(
            f"too few different images to split in {', '.join(small)}: expected at least 5 a class; "
            "add images or remove the class folder"
        )
    try:
        _, cut = train_test_split(
            representatives, test_size=share, random_state=seed, stratify=labels[representatives]
        )
    except ValueError as error:
        raise DatasetError(
            f"{len(representatives)} images of {len(classes)} classes cannot be split: {error}; add images"
        ) from error
    chosen = np.isin(digests[indices], digests[cut])
    return indices[~chosen], indices[chosen]


def fingerprint_of(names: Sequence[str], split: Split) -> str:
    """The fingerprint of the parts as they are now: another than the split's own where somebody changed them."""
    return _fingerprint(np.asarray(names), rest=split.train, val=split.val, test=split.test)


def _fingerprint(names: np.ndarray, **parts: np.ndarray) -> str:
    text = "\n".join(f"{part}\t{name}" for part, indices in parts.items() for name in sorted(names[indices]))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
