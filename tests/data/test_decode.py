import numpy as np
import pytest
from PIL import Image

from asel_lib import paths
from asel_lib.data import decode, generated
from asel_lib.errors import DatasetError


def test_images_are_decoded_once_and_again_when_a_file_changes(image_folder, monkeypatch):
    root = image_folder({"a": 6, "b": 6})
    first = decode.load(root, 16)
    assert first.pixels.shape == (12, 16, 16, 3)
    read = []
    original = decode.read_image
    monkeypatch.setattr(decode, "read_image", lambda source: read.append(1) or original(source))
    again = decode.load(root, 16)
    assert not read
    assert again.fingerprint == first.fingerprint
    Image.new("RGB", (32, 32), "white").save(root / "a" / "000.png")
    changed = decode.load(root, 16)
    assert len(read) == 12
    assert (np.asarray(changed.pixels[0]) == 255).all()
    assert changed.fingerprint != first.fingerprint


def test_a_damaged_cache_is_rebuilt(image_folder):
    root = image_folder({"a": 6, "b": 6})
    first = np.array(decode.load(root, 16).pixels)
    array = next(paths.cache().glob("*/pixels.npy"))
    array.write_bytes(array.read_bytes()[:200])
    assert np.array_equal(decode.load(root, 16).pixels, first)


def test_small_images_of_one_size_keep_it(image_folder):
    assert decode.load(image_folder({"a": 6, "b": 6}, size=(20, 20)), 64).pixels.shape[1:3] == (20, 20)


def test_every_kind_of_image_becomes_rgb(tmp_path):
    grey = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    Image.fromarray(np.stack([grey] * 3, -1)).convert("CMYK").save(tmp_path / "cmyk.tif")
    Image.fromarray(np.stack([grey] * 4, -1)).save(tmp_path / "alpha.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path.parent / "dark.png")
    assert decode.read_image(tmp_path.parent / "dark.png").max() == 1
    for file in sorted(tmp_path.iterdir()):
        pixels = decode.read_image(file)
        assert pixels.shape == (8, 8, 3), file.name
        assert np.abs(pixels.astype(int) - grey[..., None]).max() <= 3, file.name


def test_a_photo_is_turned_upright(tmp_path):
    image = Image.new("RGB", (4, 8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert decode.read_image(tmp_path / "turned.jpg").shape == (4, 8, 3)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_an_unreadable_image_is_named(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DatasetError, match="bad.png: not a readable image"):
        decode.read_image(tmp_path / "bad.png")


def test_one_broken_image_in_two_hundred_is_reported_and_left_out(image_folder):
    root = image_folder({"a": 100, "b": 100}, size=(8, 8))
    (root / "b" / "007.png").write_bytes(b"")
    for _ in range(2):  # decoded, then from the cache
        with pytest.warns(UserWarning, match=r"1 of 200 .*b/007\.png; left out"):
            images = decode.load(root, 8)
    assert len(images) == 199
    assert "b/007.png" not in images.names
    assert images.labels.tolist() == [0] * 100 + [1] * 99


def test_more_than_one_percent_broken_is_an_error(image_folder):
    root = image_folder({"a": 20, "b": 20})
    (root / "b" / "007.png").write_bytes(b"junk")
    with pytest.raises(DatasetError, match=r"1 of 40 images cannot be read: .*007\.png"):
        decode.load(root, 16)


def test_a_cache_that_cannot_be_written_is_a_warning(image_folder):
    root = image_folder({"a": 6, "b": 6})
    paths.cache().write_text("a file where the folder should be")
    with pytest.warns(UserWarning, match="not kept for next time"):
        assert len(decode.load(root, 16)) == 12


def test_generated_scenes_are_drawn_when_asked_for(workplace, monkeypatch):
    drawn, scene = [], generated.synthetic.scene
    monkeypatch.setattr(generated.synthetic, "scene", lambda index, *rest: drawn.append(index) or scene(index, *rest))
    images = decode.load("synthetic", 32, synthetic_images=200)
    assert len(images) == 200
    assert not drawn
    assert images.masks[[3, 5]].any(axis=(1, 2)).all()
    assert np.array_equal(images.pixels[3:6][0], scene(3, 0, 32).image)
    assert drawn == [3, 5, 4]
    assert images.fingerprint == decode.load("synthetic", 64, synthetic_images=200).fingerprint
    assert images.fingerprint != decode.load("synthetic_closeups", 32, synthetic_images=200).fingerprint


def test_real_images_are_read(real_data, monkeypatch, tmp_path):
    monkeypatch.setenv("ASEL_DATA", str(real_data("rsscn7").parent))
    monkeypatch.setenv("ASEL_CACHE", str(tmp_path))
    images = decode.load("rsscn7", 32)
    assert len(images.classes) == 7
    assert images.pixels.std() > 20
