import hashlib

import numpy as np
import pytest

from asel_lib.data import synthetic


def test_a_scene_depends_on_seed_and_index_alone():
    first = synthetic.scene(7, seed=3, image_size=64)
    np.random.seed(0), synthetic.scene(8, seed=3)  # noqa: NPY002
    again = synthetic.scene(7, seed=3, image_size=64)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    few, many = (synthetic.scenes(n, seed=3, image_size=64, progress=False) for n in (8, 12))
    assert np.array_equal(few[0], many[0][:8])
    assert np.array_equal(few[0][7], first.image)
    assert not np.array_equal(first.image, synthetic.scene(7, seed=4, image_size=64).image)


def test_the_drawing_is_that_of_its_version():
    """Checkpoints name the version of the scenes they were trained on. Whoever changes a picture raises VERSION, and
    then this digest; shipped demo checkpoints have to be trained again."""
    digest = hashlib.sha256()
    for closeup in (False, True):
        for index in range(20):
            digest.update(synthetic.scene(index, 1, 64, closeup).image.tobytes())
    assert (synthetic.VERSION, digest.hexdigest()[:16]) == (1, "c11147ff14f99ec5")


def test_the_mask_marks_the_deciding_object_and_the_rest_does_not_know_it():
    """The same seed and index drawn with another class: every pixel outside both masks is the same."""
    from asel_lib.data.synthetic import _render

    def render(name):
        return _render(name, np.random.default_rng(5), np.random.default_rng(6), 64, False)

    (aircraft, mask), (tanks, other) = render("aircraft"), render("storage_tanks")
    assert np.array_equal(aircraft[~(mask | other)], tanks[~(mask | other)])
    assert not np.array_equal(aircraft[mask], tanks[mask])


def test_objects_are_small_in_scenes_and_large_in_close_ups():
    scenes = [synthetic.scene(i, image_size=64).mask.mean() for i in range(60)]
    closeups = [synthetic.scene(i, image_size=64, closeup=True).mask.mean() for i in range(60)]
    assert 0.01 < min(scenes) and max(scenes) < 0.12
    assert np.mean(closeups) > 3 * np.mean(scenes)


def test_labels_are_balanced_and_colour_alone_does_not_tell_the_class():
    images, labels, _ = synthetic.scenes(200, image_size=32, progress=False)
    assert np.bincount(labels).tolist() == [20] * 10
    means = images.reshape(200, -1, 3).mean(1)
    centres = np.stack([means[:100][labels[:100] == c].mean(0) for c in range(10)])
    guesses = ((means[100:, None] - centres) ** 2).sum(-1).argmin(1)
    assert (guesses == labels[100:]).mean() < 0.3


def test_object_patches_is_the_share_of_each_patch_that_is_covered():
    masks = np.zeros((1, 8, 8), bool)
    masks[0, :4, :2] = True
    assert synthetic.object_patches(masks, (2, 2)).tolist() == [[0.5, 0, 0, 0]]
    with pytest.raises(ValueError, match=r"grid \(3, 2\) does not divide"):
        synthetic.object_patches(masks, (3, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: synthetic.scene(-1), "index -1"),
        (lambda: synthetic.scene(0, image_size=16), "image_size 16"),
        (lambda: synthetic.scenes(-5), "count -5"),
    ],
)
def test_values_that_cannot_be_drawn_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()
