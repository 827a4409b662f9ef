"""A list of images that a user hands over: each is answered, or named without being printed."""

import numpy as np
import pytest
from PIL import Image

from asel_lib.data.batches import transform
from asel_lib.data.inputs import UnreadableImages
from asel_lib.data.read_image import Reading


@pytest.fixture
def model(tiny):
    made = tiny()
    made.classes, made.transform = tuple("abcd"), transform(32, (0.5,) * 3, (0.5,) * 3)
    return made


@pytest.fixture
def mixed(tmp_path):
    """Four images, of which the second is broken and the last is not there."""
    chance, files = np.random.default_rng(0), [tmp_path / f"{number}.png" for number in range(5)]
    for file in files[:4]:
        Image.fromarray(chance.integers(0, 255, (40, 40, 3), dtype=np.uint8)).save(file)
    files[1].write_bytes(b"no image")
    return files


def test_one_bad_file_leaves_the_answers_of_the_others_in_the_error(model, mixed):
    with pytest.raises(
        UnreadableImages, match=r"2 of 5 images cannot be read: images\[1\]: .*1\.png: .*4\.png"
    ) as error:
        model.predict(mixed, 0.5, batch_size=2)
    good = [mixed[0], mixed[2], mixed[3]]
    assert error.value.answers == [(expected := model.predict(good, 0.5))[0], None, *expected[1:], None]
    assert sorted(error.value.failed) == [1, 4]


def test_a_bad_file_is_skipped_where_that_is_asked_for(model, mixed):
    with pytest.warns(UserWarning, match="2 of 5 images cannot be read: .*answered with None"):
        answers = model.predict(mixed, 0.5, on_error="skip", batch_size=1)
    assert [answer is None for answer in answers] == [False, True, False, False, True]
    with pytest.warns(UserWarning, match="1 of 1"):
        assert model.predict([mixed[1]], on_error="skip") == [None]
    with pytest.raises(ValueError, match="unknown on_error 'ignore'"):
        model.predict(mixed, on_error="ignore")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        (np.zeros((300, 300, 3), np.uint8), r"a numpy.ndarray of shape \(300, 300, 3\), uint8: expected a path"),
        (None, "a NoneType: expected a path"),
        (3, "a int: expected a path"),
        (b"bytes", "a bytes: expected a path"),
    ],
)
def test_a_wrong_type_is_named_with_its_place_and_never_printed(model, mixed, wrong, named):
    with pytest.raises(ValueError, match=rf"images\[1\] is {named}") as error:
        model.predict([mixed[0], wrong])
    assert len(str(error.value)) < 200
    with pytest.raises(ValueError, match="images is a ndarray: expected a list"):
        model.predict(np.zeros((2, 3)))


def test_drawings_stay_with_their_images(tiny, mixed):
    import torch

    model = tiny(selector="line_guided:lines=given,choice=top")
    model.classes, model.transform = tuple("abcd"), transform(32, (0.5,) * 3, (0.5,) * 3)
    lines = torch.zeros(5, 1, 64, 64)
    lines[0, :, :16, :16] = lines[1, :, :16, 48:] = lines[2, :, 48:, :16] = lines[3, :, 48:, 48:] = 1
    with pytest.warns(UserWarning):
        answers = model.predict(mixed, 1 / 16, lines=lines, on_error="skip")
    alone = model.predict([mixed[3]], 1 / 16, lines=lines[3:4])[0]
    assert answers[3].kept == alone.kept != answers[0].kept


def test_black_can_be_given_beside_white(model, tmp_path):
    """Which the error asks for in images of signed numbers."""
    levels = np.linspace(0, 255, 32 * 32).reshape(32, 32).round()
    Image.fromarray(levels.astype(np.uint8)).save(tmp_path / "eight.png")
    Image.fromarray((levels * 4 - 500).astype(np.int16).astype(np.int32)).save(tmp_path / "signed.tif")
    expected = model.predict([tmp_path / "eight.png"])[0].probability
    with pytest.raises(UnreadableImages, match="give black=-500, white=520"):
        model.predict([tmp_path / "signed.tif"])
    given = model.predict([tmp_path / "signed.tif"], black=-500, white=520)[0]
    assert given.probability == pytest.approx(expected, abs=1e-6)


def test_white_is_the_models_own_unless_it_is_given(model, tmp_path):
    values = np.random.default_rng(0).integers(0, 4000, (32, 32)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    eight = Image.fromarray(np.round(values * (255 / 4095)).astype(np.uint8))
    expected = model.predict([eight])[0].probability
    with pytest.raises(UnreadableImages, match=r"white=4095 \(12 bits\)"):
        model.predict([tmp_path / "deep.png"])
    assert model.predict([tmp_path / "deep.png"], white=4095)[0].probability == pytest.approx(expected, abs=1e-6)
    model.transform = transform(32, (0.5,) * 3, (0.5,) * 3, reading=Reading(white=4095))
    assert model.predict([tmp_path / "deep.png"])[0].probability == pytest.approx(expected, abs=1e-6)


def test_an_animation_is_read_by_its_first_frame_and_that_is_said(model, tmp_path):
    first, second = (Image.new("L", (32, 32), grey) for grey in (200, 9))
    first.save(tmp_path / "moving.gif", save_all=True, append_images=[second])
    with pytest.warns(UserWarning, match=r"images\[0\] has 2 frames: the first is read"):
        answer = model.predict([tmp_path / "moving.gif"])[0]
    assert answer.probability == pytest.approx(model.predict([first])[0].probability, abs=1e-6)
