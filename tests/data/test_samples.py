"""Single images of a data set, found again by name and digest."""

import numpy as np

from asel_lib.data import decode
from asel_lib.data.samples import named_images


def test_images_are_found_again_as_they_were_decoded(image_folder):
    root = image_folder({"a": 3, "b": 3}, size=(40, 40))
    images = decode.load(root, 32)
    found = named_images(root, images.names[1:4], images.digests[1:4], 32)
    assert list(found) == list(images.names[1:4])
    for name, pixels in found.items():
        np.testing.assert_array_equal(pixels, images.pixels[images.names.index(name)])


def test_an_image_that_changed_or_went_is_left_out(image_folder):
    root = image_folder({"a": 3, "b": 3})
    images = decode.load(root, 32)
    (root / images.names[0]).unlink()
    (root / images.names[1]).write_bytes((root / images.names[2]).read_bytes())
    assert list(named_images(root, images.names, images.digests, 32)) == list(images.names[2:])


def test_scenes_are_drawn_again_while_they_are_drawn_as_before(workplace):
    images = decode.load("synthetic", 32, synthetic_images=20)
    found = named_images("synthetic", images.names[7:9], (images.digests[7], "another version"), 32)
    assert list(found) == [images.names[7]]
    np.testing.assert_array_equal(found[images.names[7]], images.pixels[7])
    assert named_images("synthetic", ["synthetic/0/x", "other/0/000001"], images.digests[:2], 32) == {}


def test_of_a_set_that_is_not_here_there_is_nothing(workplace):
    assert named_images("aid", ["a/1.jpg"], ["0"], 32) == {}
    assert named_images("no_such_set", ["a/1.jpg"], ["0"], 32) == {}
