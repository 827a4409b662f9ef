import json
import os

import numpy as np
import pytest
from PIL import Image

from asel_lib import paths
from asel_lib.data import catalog, decode, generated
from asel_lib.data.read_image import Reading, read_image
from asel_lib.errors import DatasetError


def test_images_are_decoded_once_and_again_when_a_file_changes(image_folder, monkeypatch):
    root = image_folder({"a": 6, "b": 6})
    first = decode.load(root, 16)
    assert first.pixels.shape == (12, 16, 16, 3)
    read = []
    original = decode.read_picture
    monkeypatch.setattr(decode, "read_picture", lambda *given: read.append(1) or original(*given))
    again = decode.load(root, 16)
    assert not read
    assert again.fingerprint == first.fingerprint
    Image.new("RGB", (32, 32), "white").save(root / "a" / "000.png")
    changed = decode.load(root, 16)
    assert len(read) == 12
    assert (np.asarray(changed.pixels[0]) == 255).all()
    assert changed.fingerprint != first.fingerprint


def test_a_file_replaced_under_its_old_size_and_time_is_seen(image_folder, capsys):
    """As unpacking or `cp -p` leaves them: only the time that the system sets differs."""
    root = image_folder({"a": 6, "b": 6}, name="raw")
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        Image.new("RGB", (16, 16), (number, 0, 0)).save(file.with_suffix(".bmp"))
        file.unlink()
    file, other = root / "a" / "000.bmp", root / "a" / "001.bmp"
    first = decode.load(root, 16)
    status = file.stat()
    file.write_bytes(other.read_bytes())
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert file.stat().st_size == status.st_size
    assert decode.load(root, 16).fingerprint != first.fingerprint
    assert "changed: made again" in capsys.readouterr().out


def about(**changes):
    def change(folder):
        held = json.loads((folder / "about.json").read_text())
        (folder / "about.json").write_text(json.dumps(held | changes))

    return change


def array(made):
    return lambda folder: np.save(folder / "pixels.npy", made)


def bytes_of(name, change):
    return lambda folder: (folder / name).write_bytes(change((folder / name).read_bytes()))


DAMAGES = {
    "truncated": bytes_of("pixels.npy", lambda content: content[:2000]),
    "only a header's beginning": bytes_of("pixels.npy", lambda content: content[:20]),
    "empty": bytes_of("pixels.npy", lambda content: b""),
    "garbage": bytes_of("pixels.npy", lambda content: bytes(range(256)) * 40),
    "gone": lambda folder: (folder / "pixels.npy").unlink(),
    "a pickle": lambda folder: np.save(folder / "pixels.npy", np.array([{}]), allow_pickle=True),
    "wrong shape": array(np.zeros((12, 8, 8, 3), np.uint8)),
    "wrong shape, said so": lambda folder: (
        array(np.zeros((12, 16, 16), np.uint8))(folder),
        about(shapes={"pixels": [12, 16, 16]})(folder),
    ),
    "fewer images, said so": lambda folder: (
        array(np.zeros((11, 16, 16, 3), np.uint8))(folder),
        about(shapes={"pixels": [11, 16, 16, 3]})(folder),
    ),
    "wrong type": array(np.zeros((12, 16, 16, 3), np.float32)),
    "facts torn": bytes_of("about.json", lambda content: content[: len(content) // 2]),
    "facts of another kind": bytes_of("about.json", lambda content: b"[]"),
    "places beyond the files": about(kept=list(range(1, 13))),
    "places that are none": about(kept=[0.5] * 12),
    "digests that are none": about(digests=[1] * 12),
    "digests too few": about(digests=["a"] * 11),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_cache_is_made_again_and_that_is_said(image_folder, damage, capsys):
    root = image_folder({"a": 6, "b": 6})
    first = decode.load(root, 16)
    pixels = np.array(first.pixels)  # a copy: the file itself is about to change
    DAMAGES[damage](next(paths.cache().iterdir()))
    again = decode.load(root, 16)
    assert np.array_equal(again.pixels, pixels) and again.fingerprint == first.fingerprint
    assert "made again" in capsys.readouterr().out
    assert np.array_equal(decode.load(root, 16).pixels, pixels)
    assert "made again" not in capsys.readouterr().out


def test_small_images_of_one_size_keep_it(image_folder):
    assert decode.load(image_folder({"a": 6, "b": 6}, size=(20, 20)), 64).pixels.shape[1:3] == (20, 20)


def test_every_kind_of_image_becomes_rgb(tmp_path):
    grey = np.linspace(0, 255, 64, dtype=np.uint8).reshape(8, 8)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(tmp_path / "sixteen.png")
    Image.fromarray(np.stack([grey] * 3, -1)).convert("CMYK").save(tmp_path / "cmyk.tif")
    Image.fromarray(np.stack([grey] * 3 + [np.full_like(grey, 255)], -1)).save(tmp_path / "alpha.png")
    Image.fromarray(grey).convert("P").save(tmp_path / "palette.png")
    Image.fromarray(np.stack([grey] * 3, -1)).save(tmp_path / "phone.jpg", "MPO", quality=100)
    Image.fromarray(np.full((8, 8), 200, np.uint16)).save(tmp_path.parent / "dark.png")
    assert read_image(tmp_path.parent / "dark.png", Reading(white=65_535)).max() == 1
    for file in sorted(tmp_path.iterdir()):
        pixels = read_image(file)
        assert pixels.shape == (8, 8, 3), file.name
        assert np.abs(pixels.astype(int) - grey[..., None]).max() <= 3, file.name


def test_a_photo_is_turned_upright(tmp_path):
    image = Image.new("RGB", (4, 8))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert read_image(tmp_path / "turned.jpg").shape == (4, 8, 3)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + b"\0" * 50])
def test_an_unreadable_image_is_named(tmp_path, content):
    (tmp_path / "bad.png").write_bytes(content)
    with pytest.raises(DatasetError, match="bad.png: not a readable image"):
        read_image(tmp_path / "bad.png")


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


def test_pixels_go_to_a_file_as_they_are_decoded_and_stay_in_order(image_folder, monkeypatch):
    root = image_folder({"a": 130, "b": 130})
    (root / "a" / "torn.jpg").write_bytes(b"no image")
    monkeypatch.setattr(decode, "AT_ONCE", 7)
    found = catalog.find(str(root))
    arrays, about = decode._decode_all(found, 16)
    assert isinstance(arrays["pixels"], np.memmap) and len(arrays["pixels"]) == len(about["kept"]) == 260
    for row in (0, 6, 7, 131, 259):
        file = found.files[about["kept"][row]]
        np.testing.assert_array_equal(arrays["pixels"][row], decode.resize(read_image(file), 16))


def test_without_room_for_a_file_pixels_are_kept_in_memory(image_folder, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(decode.os, "posix_fallocate", full)
    root = image_folder({"a": 3, "b": 3})
    arrays, _ = decode._decode_all(catalog.find(str(root)), 16)
    assert not isinstance(arrays["pixels"], np.memmap) and arrays["pixels"].shape == (6, 16, 16, 3)
