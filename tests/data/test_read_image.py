"""What an image file's numbers mean is the same in training, in predict and in an exported folder's predict.py."""

import io
import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import asel_lib
from asel_lib import configs
from asel_lib.data import decode, pixels
from asel_lib.data.batches import sized
from asel_lib.data.decode import ImageArray
from asel_lib.data.read_image import Reading, read_image, read_picture
from asel_lib.data.sets import open_recorded
from asel_lib.errors import DatasetError
from asel_lib.training import stages

SCRIPT = Path(pixels.__file__).parents[1] / "export" / "predict.py"
SIDE = 16
NOISE = np.random.default_rng(0)


def numbers(most, channels=1, kind=np.uint16) -> np.ndarray:
    """(16, 16, channels) from 0 to `most`, both of which occur."""
    made = NOISE.integers(0, most + 1, (SIDE, SIDE, channels))
    made[0, 0], made[0, 1] = 0, most
    return made.astype(kind)


def png16(values: np.ndarray) -> bytes:
    """A PNG of 16 bits a channel, which Pillow cannot write in colour."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", SIDE, SIDE, 16, {1: 0, 2: 4, 3: 2, 4: 6}[values.shape[2]], 0, 0, 0)
    parts = [chunk(b"IHDR", head), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff16(values: np.ndarray, order: str = "<", deflate: bool = False) -> bytes:
    """A TIFF of 16 bits a channel, signed where the values are."""
    channels, signed = values.shape[2], values.dtype.kind == "i"
    content = values.astype(f"{order}{values.dtype.kind}2").tobytes()
    content = zlib.compress(content) if deflate else content
    shorts = {256: SIDE, 257: SIDE, 259: 8 if deflate else 1, 262: 2 if channels > 1 else 1, 277: channels, 278: SIDE}
    entries = {tag: struct.pack(order + "HHIHH", tag, 3, 1, value, 0) for tag, value in (shorts | {284: 1}).items()}
    if signed:
        entries[339] = struct.pack(order + "HHIHH", 339, 3, 1, 2, 0)
    bits = 8 + 2 + 12 * (len(entries) + 3) + 4
    entries[258] = struct.pack(order + "HHII", 258, 3, channels, bits)
    if channels == 1:
        entries[258] = struct.pack(order + "HHIHH", 258, 3, 1, 16, 0)
    entries[273] = struct.pack(order + "HHII", 273, 4, 1, bits + 2 * channels)
    entries[279] = struct.pack(order + "HHII", 279, 4, 1, len(content))
    directory = struct.pack(order + "H", len(entries)) + b"".join(entries[tag] for tag in sorted(entries)) + b"\0\0\0\0"
    return (
        (b"II*\0" if order == "<" else b"MM\0*")
        + struct.pack(order + "I", 8)
        + directory
        + struct.pack(order + f"{channels}H", *[16] * channels)
        + content
    )


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def grey(values: np.ndarray, white: float, black: float = 0) -> np.ndarray:
    """What the numbers mean, (16, 16, 3) uint8."""
    made = np.round((values.astype(float) - black) * 255 / (white - black)).clip(0, 255).astype(np.uint8)
    return np.repeat(made, 3, axis=2) if made.shape[2] == 1 else made[..., :3]


TWELVE, COLOUR, REFLECTANCE = numbers(4000), numbers(4000, 3), numbers(9000)
SIGNED, SHARES = numbers(3000, kind=np.int16) - np.int16(1000), numbers(1000).astype(np.float32) / 1000
BROKEN = np.where(SHARES == SHARES[5, 5], np.float32("nan"), SHARES)
PALETTE = Image.fromarray(numbers(255, 3, np.uint8)).quantize(8)
CLEAR = Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 0))
HALF = Image.new("RGBA", (SIDE, SIDE), (255, 0, 0, 128))
OPAQUE = numbers(65_535, 4)
OPAQUE[..., 3] = 65_535
TURNED = Image.Exif()
TURNED[0x0112] = 3
PLAIN = Image.fromarray(numbers(255, 3, np.uint8))
LOOKS = np.asarray(PLAIN)

# name -> (file, what it should look like, the set's white and black; None where it has 8 bits)
FILES = {
    "12 bits.png": (png16(TWELVE), grey(TWELVE, 4095), (4095, 0)),
    "12 bits colour.png": (png16(COLOUR), grey(COLOUR, 4095), (4095, 0)),
    "12 bits colour.tif": (tiff16(COLOUR), grey(COLOUR, 4095), (4095, 0)),
    "12 bits colour, big-endian.tif": (tiff16(COLOUR, ">"), grey(COLOUR, 4095), (4095, 0)),
    "12 bits colour, packed.tif": (tiff16(COLOUR, deflate=True), grey(COLOUR, 4095), (4095, 0)),
    "reflectance.tif": (tiff16(REFLECTANCE), grey(REFLECTANCE, 10_000), (10_000, 0)),
    "reflectance.jp2": (
        saved(Image.fromarray(REFLECTANCE[..., 0]), "JPEG2000", irreversible=False),
        grey(REFLECTANCE, 10_000),
        (10_000, 0),
    ),
    "16 bits and opaque.png": (png16(OPAQUE), grey(OPAQUE, 65_535), (65_535, 0)),
    "signed.tif": (tiff16(SIGNED), grey(SIGNED, 2000, -1000), (2000, -1000)),
    "shares.tif": (saved(Image.fromarray(SHARES[..., 0]), "TIFF"), grey(SHARES, 1), (1, 0)),
    "nan.tif": (saved(Image.fromarray(BROKEN[..., 0]), "TIFF"), grey(np.nan_to_num(BROKEN), 1), (1, 0)),
    "12 bits, says so.pgm": (b"P5 16 16 4095\n" + TWELVE.astype(">u2").tobytes(), grey(TWELVE, 4095), None),
    "wholly transparent.png": (saved(CLEAR, "PNG"), np.full_like(LOOKS, 255), None),
    "half transparent.webp": (
        saved(HALF, "WEBP", lossless=True),
        np.broadcast_to(np.uint8([255, 127, 127]), LOOKS.shape),
        None,
    ),
    "palette.gif": (
        saved(PALETTE, "GIF", transparency=0),
        np.where(np.asarray(PALETTE)[..., None] == 0, 255, np.asarray(PALETTE.convert("RGB"))),
        None,
    ),
    "palette.png": (
        saved(PALETTE, "PNG", transparency=0),
        np.where(np.asarray(PALETTE)[..., None] == 0, 255, np.asarray(PALETTE.convert("RGB"))),
        None,
    ),
    "frames.gif": (
        saved(Image.new("L", (SIDE, SIDE), 200), "GIF", save_all=True, append_images=[Image.new("L", (SIDE, SIDE), 9)]),
        np.full_like(LOOKS, 200),
        None,
    ),
    "photograph.mpo": (saved(Image.new("RGB", (SIDE, SIDE), (9, 99, 199)), "MPO", quality=100), (9, 99, 199), None),
    "photograph.jfif": (saved(Image.new("RGB", (SIDE, SIDE), (9, 99, 199)), "JPEG", quality=100), (9, 99, 199), None),
    "turned.png": (saved(PLAIN, "PNG", exif=TURNED), LOOKS[::-1, ::-1], None),
    "no ending": (saved(PLAIN, "BMP"), LOOKS, None),
    "a lie.jpg": (saved(PLAIN, "PNG"), LOOKS, None),
}


def exported_read(monkeypatch):
    """The function with which an exported folder's predict.py reads, from its own text, beside its own pixels.py."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setitem(sys.modules, "pixels", pixels)
    held: dict = {}
    exec(compile(SCRIPT.read_text().partition("\n\n\ngiven = ")[0], SCRIPT, "exec"), held)
    return held["read"]


def put(root: Path, content: bytes, name: str) -> Path:
    """An image set of twice that file."""
    for label in ("a", "b"):
        (root / label).mkdir(parents=True)
        (root / label / name).write_bytes(content)
    return root


@pytest.mark.parametrize("name", FILES)
def test_the_three_doors_see_the_same_pixels(workplace, monkeypatch, name):
    content, looks, levels = FILES[name]
    images = decode.load(put(workplace / "odd", content, name), SIDE)
    assert len(images) == 2
    seen = np.asarray(images.pixels[0])
    tolerance = 3 if name.startswith("photograph") else 1
    assert np.abs(seen.astype(int) - np.asarray(looks).astype(int)).max() <= tolerance
    assert (images.reading.white, images.reading.black) == (levels or (None, 0))
    file = workplace / "odd" / "a" / name
    recorded = json.loads(json.dumps(images.reading.record()))  # as it goes through a checkpoint's record
    reading = Reading.of(recorded)
    np.testing.assert_array_equal(sized(str(file), SIDE, reading=reading), seen)
    np.testing.assert_array_equal(sized(Image.open(file), SIDE, reading=reading), seen)
    np.testing.assert_array_equal(sized(file.read_bytes(), SIDE, reading=reading), seen)
    read = exported_read(monkeypatch)
    known = {"size": (SIDE, SIDE), "resized": None, "preprocessing": True, "mean": None, "std": None}
    np.testing.assert_array_equal(read(file, **known, **recorded), seen)


def test_a_model_predicts_with_the_white_that_it_learnt_with(workplace):
    root, chance = workplace / "deep", np.random.default_rng(0)
    for label, most in (("bright", 4000), ("dark", 900)):
        (root / label).mkdir(parents=True)
        for number in range(30):
            Image.fromarray(chance.integers(0, most, (32, 32)).astype(np.uint16)).save(root / label / f"{number}.png")
    trained = stages.warm_up(configs.load("smoke"), str(root), recipe="dropped", progress=False)
    assert trained.record["transform"]["white"] == 4095
    model = asel_lib.load(trained.file)
    file = root / "dark" / "3.png"
    eight = Image.fromarray(np.round(np.asarray(Image.open(file)) * (255 / 4095)).astype(np.uint8))
    answers = model.predict([file, eight])
    assert answers[0].probability == pytest.approx(answers[1].probability, abs=1e-5)
    assert open_recorded(trained.record)[0].fingerprint == trained.record["dataset_fingerprint"]


def test_one_white_is_for_all_files_of_a_set(workplace, capsys):
    root = put(workplace / "deep", png16(TWELVE), "bright.png")
    dark = (TWELVE // 40).astype(np.uint16)
    (root / "a" / "dark.png").write_bytes(png16(dark))
    images = decode.load(root, SIDE)
    assert "grey levels of 3 images of more than 8 bits go from 0 to 4000; black is 0, white 4095 (12 bits)" in (
        capsys.readouterr().out
    )
    by_name = dict(zip(images.names, np.asarray(images.pixels), strict=True))
    np.testing.assert_array_equal(by_name["a/dark.png"], grey(dark, 4095))


def test_a_white_that_is_given_counts_and_makes_another_data_set(workplace):
    root = put(workplace / "deep", png16(TWELVE), "image.png")
    found = decode.load(root, SIDE)
    given = decode.load(root, SIDE, reading=Reading(white=8190))
    np.testing.assert_array_equal(given.pixels[0], grey(TWELVE, 8190))
    np.testing.assert_array_equal(decode.load(root, SIDE).pixels[0], grey(TWELVE, 4095))  # not what the cache held
    assert found.fingerprint != given.fingerprint
    assert decode.load(root, SIDE, reading=Reading(white=4095)).fingerprint == found.fingerprint


def test_a_white_that_is_what_the_set_says_itself_is_read_from_the_cache(workplace, monkeypatch):
    root = put(workplace / "deep", png16(TWELVE), "image.png")
    recorded = decode.load(root, SIDE).reading
    monkeypatch.setattr(decode, "read_picture", lambda *_: pytest.fail("decoded again"))
    assert decode.load(root, SIDE, reading=recorded).reading == recorded


def test_ordinary_sets_keep_their_fingerprint_whatever_is_asked(image_folder):
    """Checkpoints are reused by it: this one was computed before levels and backgrounds were a part of it."""
    images = ImageArray("tones", np.zeros((2, 4, 4, 3), np.uint8), np.arange(2), ("a", "b"), ("1", "2"), ("x", "y"))
    assert images.fingerprint == "3f7bb66d9ebf8102"
    root = image_folder({"a": 3, "b": 3})
    one, other = decode.load(root, 16), decode.load(root, 16, reading=Reading(white=4095, background="black"))
    assert one.fingerprint == other.fingerprint and other.reading.white is None


def test_whole_and_fractional_numbers_without_a_common_white_are_refused(workplace):
    root = put(workplace / "deep", png16(TWELVE), "image.png")
    (root / "a" / "shares.tif").write_bytes(FILES["shares.tif"][0])
    with pytest.raises(DatasetError, match="whole numbers from 0 to 4000 and fractional numbers from 0 to 1"):
        decode.load(root, SIDE)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, (0, 1)),
        (0, 200, (0, 255)),
        (0, 900, (0, 1023)),
        (3, 4095, (0, 4095)),
        (0, 4096, (0, 10_000)),
        (0, 16_000, (0, 16_383)),
        (0, 40_000, (0, 65_535)),
        (0, 3.5, (0, 3.5)),
        (0, 10**6, (0, 10**6)),
        (-0.5, 0.9, (-1, 1)),
        (-1000, 3000, (-1000, 3000)),
    ],
)
def test_the_smallest_usual_range_that_holds_all_numbers_is_taken(low, high, expected):
    assert pixels.usual_range(low, high) == expected


@pytest.mark.parametrize(
    ("name", "choices"),
    [
        ("12 bits.png", "go from 0 to 4000, .* give white=4095 .12 bits., white=10000 .reflectance., .*65535"),
        ("12 bits colour.tif", "go from 0 to 4000"),
        ("reflectance.tif", "go from 0 to 9000, .* give white=10000"),
        ("signed.tif", "go from -1000 to 2000, .* give black=-1000, white=2000"),
    ],
)
def test_one_file_that_does_not_say_what_is_white_is_refused_with_the_choices(tmp_path, name, choices):
    (tmp_path / name).write_bytes(FILES[name][0])
    with pytest.raises(DatasetError, match=f"{name}: not read: .*{choices}"):
        read_image(tmp_path / name)
    with pytest.raises(DatasetError, match=choices):
        read_image(Image.open(tmp_path / name))


def test_one_file_that_says_it_itself_is_read(tmp_path):
    bright = numbers(65_000)
    for content, looks in (
        (png16(bright), grey(bright, 65_535)),
        (png16(np.zeros_like(bright)), grey(np.zeros_like(bright), 1)),
        FILES["shares.tif"][:2],
        FILES["12 bits, says so.pgm"][:2],
    ):
        np.testing.assert_array_equal(read_image(content), looks)


def test_what_lies_behind_transparent_pixels_can_be_chosen_and_is_part_of_the_set(workplace):
    root = put(workplace / "glass", saved(CLEAR, "PNG"), "image.png")
    white, black = decode.load(root, SIDE), decode.load(root, SIDE, reading=Reading(background="black"))
    assert (white.pixels[0].max(), black.pixels[0].max()) == (255, 0)
    assert decode.load(root, SIDE).pixels[0].max() == 255
    assert white.fingerprint != black.fingerprint
    assert black.reading.record() == {"background": [0, 0, 0]}


def test_what_is_read_in_another_way_is_counted(workplace, capsys):
    root = put(workplace / "odd", FILES["frames.gif"][0], "frames.gif")
    (root / "a" / "clear.png").write_bytes(saved(CLEAR, "PNG"))
    decode.load(root, SIDE)
    told = capsys.readouterr().out
    assert "1 images are transparent and lie over red 255, green 255, blue 255" in told
    assert "of 2 images of several frames the first is read" in told
    assert read_picture(FILES["frames.gif"][0]).info == {"transparent": False, "frames": 2}


def test_colour_of_16_bits_is_read_in_full_from_an_opened_image_or_refused(tmp_path):
    (tmp_path / "deep.png").write_bytes(png16(COLOUR))
    expected, reading = grey(COLOUR, 4095), Reading(white=4095)
    for opened in (Image.open(tmp_path / "deep.png"), Image.open(io.BytesIO(png16(COLOUR)))):
        assert np.array_equal(read_image(opened, reading), expected)
    loaded = Image.open(tmp_path / "deep.png")
    loaded.load()  # Pillow keeps the upper byte of each number: nearly black
    with pytest.raises(DatasetError, match="keeps 8 when it is loaded: give the path"):
        read_image(loaded, reading)


@pytest.mark.parametrize(
    "wrong",
    [
        {"white": 0},
        {"white": 5, "black": 6},
        {"white": float("nan")},
        {"background": (1, 2)},
        {"background": (0, 0, 256)},
    ],
)
def test_a_reading_that_cannot_be_is_named(wrong):
    with pytest.raises(ValueError, match="white is|background is"):
        Reading(**wrong)


def test_no_image_is_printed_in_an_error():
    for given in (np.zeros((4, 4)), b"nothing", Image.fromarray(TWELVE[..., 0])):
        with pytest.raises(DatasetError) as caught:
            read_image(given)
        assert len(str(caught.value)) < 500 and "[" not in str(caught.value)
