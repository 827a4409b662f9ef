import numpy as np
import pytest
import torch

from asel_lib.data.splits import make_split
from asel_lib.errors import DatasetError

NAMES = [f"{c}/{i:03d}.jpg" for c in "abc" for i in range(100)]
LABELS = np.repeat([0, 1, 2], 100)


def split(**changes):
    return make_split(**({"names": NAMES, "labels": LABELS, "classes": "abc"} | changes))


def parts_by_name(found, names):
    return {part: {names[i] for i in getattr(found, part)} for part in ("train", "val", "test")}


def test_parts_are_stratified_and_share_no_file():
    found = split()
    assert [len(found.train), len(found.val), len(found.test)] == [210, 30, 60]
    assert sorted(np.concatenate([found.train, found.val, found.test])) == list(range(300))
    for part in (found.train, found.val, found.test):
        assert len(set(np.bincount(LABELS[part]))) == 1


def test_the_split_is_the_same_whatever_was_drawn_before():
    first = split()
    torch.manual_seed(5), torch.rand(3), np.random.seed(7), np.random.rand(11)  # noqa: NPY002
    assert split().fingerprint == first.fingerprint
    assert np.array_equal(split().test, first.test)


def test_the_split_depends_on_names_not_on_their_order():
    order = np.random.default_rng(0).permutation(300)
    names = [NAMES[i] for i in order]
    shuffled = make_split(names, LABELS[order], "abc")
    assert parts_by_name(shuffled, names) == parts_by_name(split(), NAMES)
    assert shuffled.fingerprint == split().fingerprint


def test_another_seed_or_file_is_another_split():
    prints = {split().fingerprint, split(seed=1).fingerprint, split(names=["z.jpg", *NAMES[1:]]).fingerprint}
    assert len(prints) == 3


def test_byte_identical_files_share_a_part():
    digests = [f"{i // 3}" for i in range(300)]  # in threes, some of them across classes
    found = split(digests=digests)
    part_of = {}
    for part in ("train", "val", "test"):
        for index in getattr(found, part):
            assert part_of.setdefault(digests[index], part) == part
    assert len(found.train) + len(found.val) + len(found.test) == 300


def test_an_own_test_part_is_kept_and_its_twins_leave_training():
    parts = ["test" if i % 5 == 0 else "train" for i in range(300)]
    digests = [str(i) for i in range(300)]
    digests[1] = digests[0]  # a training file with the bytes of a test file
    found = split(parts=parts, digests=digests)
    assert found.test.tolist() == list(range(0, 300, 5))
    assert 1 not in np.concatenate([found.train, found.val])
    assert len(found.val) == 24  # a tenth of the own training part


def test_a_val_folder_without_a_test_folder_is_the_test_part():
    parts = ["val" if i % 5 == 0 else "train" for i in range(300)]
    assert split(parts=parts).test.tolist() == list(range(0, 300, 5))


def test_the_published_protocol_has_no_val():
    found = split(protocol="published")
    assert [len(found.train), len(found.val), len(found.test)] == [240, 0, 60]
    assert found.test.tolist() == split().test.tolist()
    with pytest.raises(ValueError, match="unknown protocol 'publshed'"):
        split(protocol="publshed")


def test_a_class_too_small_to_split_is_named():
    with pytest.raises(DatasetError, match=r"c \(2\)"):
        make_split(NAMES[:202], LABELS[:202], "abc")
