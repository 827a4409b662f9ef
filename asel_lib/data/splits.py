"""Train, val and test parts: stratified, from the data set's file names and the seed alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from asel_lib import checks
from asel_lib.configs import SPLIT_PROTOCOLS
from asel_lib.errors import DatasetError

BY_NAME = "by name"  # the protocol of another copy of a data set, see `by_name.split_by_name`
LEAST = 5  # different images a class, of those that are to be split: 3 to learn from, 1 of val, 1 of test
LOPSIDED = 10  # times as many images in the largest class as in the smallest
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

    @property
    def tested(self) -> str:
        """What the test part is, for tables: "test", or "unseen" where it is what a training on another copy of the
        data set never saw."""
        return "unseen" if self.protocol == BY_NAME else "test"

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
    """Split n images into train, val and test, whatever the order in which they are given.

    Args:
        names: file names below the data set's root.
        labels: (n,), positions in `classes`.
        classes: their names.
        digests: of the files' bytes, so that byte-identical files share a part.
        parts: the data set's own ("train", "val" or "test"), where it has some. Its test part (else its val part) is
            our test part, and training files with a twin there are left out.
        protocol: "train-val-test": 70/10/20, or 90/10 of the own training part; "published": 80/20 without val.
        seed: of the split.

    Raises:
        DatasetError: a class has fewer than LEAST different images to be split.
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

    if not len(test) or (protocol != "published" and not len(val)):
        _, first = np.unique(digests[rest], return_index=True)
        check_counts(labels[rest[first]], classes)
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


def check_counts(labels: np.ndarray, classes: Sequence[str], parts: Sequence[str] | None = None) -> None:
    """Whether a set of these images can be split, by their number alone: it needs no image to be opened, so that it can
    be asked before anything starts. Files of the same bytes, which count once, are not seen here, but by `make_split`.

    Args:
        labels: (n,), positions in `classes`.
        parts: each image's own part, where the set has some: of these only "train" is ever split.

    Raises:
        DatasetError: names the classes with fewer than LEAST images.
    """
    labels = np.asarray(labels)
    if parts is not None:
        if {"val", "test"} <= set(parts):
            return  # nothing is split
        labels = labels[np.asarray(parts) == "train"]
    counts = np.bincount(labels, minlength=len(classes))
    if small := [f"{classes[c]} ({counts[c]})" for c in np.flatnonzero(counts < LEAST)]:
        raise DatasetError(
            f"too few different images to split in {', '.join(small)}: expected at least {LEAST} a class, 3 to learn "
            "from, 1 of val and 1 of test. Add images or remove the class folder. With fewer, no single split says "
            "much: cross-validation is the way (scikit-learn's StratifiedKFold, a training for each fold, laid out as "
            "train/, val/ and test/)"
        )


def imbalance(labels: np.ndarray, classes: Sequence[str]) -> str:
    """One line where the largest class has LOPSIDED times as many images as the smallest, "" else."""
    counts = np.bincount(np.asarray(labels), minlength=len(classes))
    least, most = int(counts.argmin()), int(counts.argmax())
    if counts[most] < LOPSIDED * counts[least]:
        return ""
    return (
        f"lopsided: {counts[least]} images of {classes[least]}, {counts[most]} of {classes[most]}. Top-1 says little "
        "of small classes: read balanced accuracy beside it, or set class_weights: balanced in the profile"
    )


def _cut(indices, labels, digests, classes, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(rest, cut): a stratified draw of `share`, byte-identical files together. `indices` in order of their names."""
    from sklearn.model_selection import train_test_split

    _, first = np.unique(digests[indices], return_index=True)
    representatives = indices[np.sort(first)]
    own = labels[representatives]
    counts = np.bincount(own, minlength=len(classes))
    cut = representatives[:0]
    if counts.min() >= LEAST and np.ceil(share * len(own)) >= len(classes):
        _, cut = train_test_split(representatives, test_size=share, random_state=seed, stratify=own)
    if np.bincount(labels[cut], minlength=len(classes)).min() == 0:  # too small for a draw in proportion
        cut = _one_of_each(representatives, own, share, seed)
    chosen = np.isin(digests[indices], digests[cut])
    return indices[~chosen], indices[chosen]


def fingerprint_of(names: Sequence[str], split: Split) -> str:
    """The fingerprint of the parts as they are now: another than the split's own where somebody changed them."""
    return _fingerprint(np.asarray(names), rest=split.train, val=split.val, test=split.test)


def _one_of_each(representatives: np.ndarray, labels: np.ndarray, share: float, seed: int) -> np.ndarray:
    """`share` of each class, but at least one image, and not all."""
    chance, cut = np.random.default_rng(seed), []
    for label in np.unique(labels):
        mine = representatives[labels == label]
        count = min(max(1, round(share * len(mine))), len(mine) - 1)
        cut.append(chance.permutation(mine)[:count])
    return np.concatenate(cut)


def _fingerprint(names: np.ndarray, **parts: np.ndarray) -> str:
    text = "\n".join(f"{part}\t{name}" for part, indices in parts.items() for name in sorted(names[indices]))
    return hashlib.sha256(text.encode()).hexdigest()[:16]
