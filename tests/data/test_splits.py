import numpy as np
import pytest
import torch

from asel_lib import configs
from asel_lib.data.sets import open_set
from asel_lib.data.splits import LEAST, check_counts, imbalance, make_split
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
    with pytest.raises(ValueError, match="unknown split protocol 'publshed'"):
        split(protocol="publshed")


def test_a_class_too_small_to_split_is_named():
    with pytest.raises(DatasetError, match=r"c \(2\)"):
        make_split(NAMES[:202], LABELS[:202], "abc")


def small(*counts):
    """A set with that many images of each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    return [f"{label}/{number}.jpg" for number, label in enumerate(labels)], labels, "abcdefghijkl"[: len(counts)]


@pytest.mark.parametrize(
    "counts", [(5, 5), (5, 6, 7), (7, 7, 7), (6,) * 12, (9,) * 10, (5, 1000), (10, 5, 300), (LEAST,) * 7]
)
@pytest.mark.parametrize("protocol", ["train-val-test", "published"])
def test_the_least_number_that_is_asked_for_is_enough(counts, protocol):
    names, labels, classes = small(*counts)
    check_counts(labels, classes)
    found = make_split(names, labels, classes, protocol=protocol)
    for part, least in (("train", 3), ("test", 1), ("val", int(protocol != "published"))):
        of_each = np.bincount(labels[getattr(found, part)], minlength=len(counts))
        assert of_each.min() >= least, (part, of_each)
    assert sorted(np.concatenate([found.train, found.val, found.test])) == list(range(len(names)))
    assert make_split(names, labels, classes, protocol=protocol).fingerprint == found.fingerprint


def test_fewer_are_refused_before_a_file_is_opened_with_the_number_and_another_way():
    names, labels, classes = small(4, 30, 3)
    for refuse in (lambda: check_counts(labels, classes), lambda: make_split(names, labels, classes)):
        with pytest.raises(DatasetError, match=r"a \(4\), c \(3\): expected at least 5 a class.*cross-validation"):
            refuse()


def test_parts_that_a_set_brings_itself_need_no_least_number():
    labels = np.tile([0, 1], 6)
    parts = ["train"] * 4 + ["val"] * 4 + ["test"] * 4
    check_counts(labels, "ab", parts)
    found = make_split([f"{number}.jpg" for number in range(12)], labels, "ab", parts=parts)
    assert [len(found.train), len(found.val), len(found.test)] == [4, 4, 4]
    with pytest.raises(DatasetError, match=r"a \(2\), b \(2\)"):
        check_counts(labels, "ab", ["train"] * 4 + ["test"] * 8)


def test_a_strong_imbalance_is_one_line_and_a_slight_one_none():
    _, labels, classes = small(5, 1000)
    assert imbalance(labels, classes).startswith("lopsided: 5 images of a, 1000 of b.")
    assert imbalance(small(50, 400)[1], "ab") == ""


def test_an_imbalance_is_printed_where_a_set_is_opened(image_folder, capsys):
    root = image_folder({"rare": 5, "common": 60}, size=(8, 8))
    open_set(configs.load("smoke"), str(root))
    assert "pictures: lopsided: 5 images of rare, 60 of common" in capsys.readouterr().out
