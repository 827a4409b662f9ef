"""Files from strangers: no code in them is run, and whatever is in them ends in an answer or a named error."""

import io
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save as save_safetensors

import asel_lib
from asel_lib import checkpoints, paths, records, tables
from asel_lib.data import decode, lines
from asel_lib.data.informative import Generator, read_generator
from asel_lib.data.read_image import read_image
from asel_lib.errors import AselError, CheckpointError, DatasetError, TrainingError
from asel_lib.reporting.summaries import summary
from asel_lib.training.state import read_state, write_state
from tests import made_up
from tests.made_up import results

REPOSITORY = Path(__file__).parents[1]
RECORD = made_up.RECORD | {"history": [{"epoch": 1}], "budgets": {"0.2": 1.0}, "images": 10, "source": "pictures"}


def fuzz(examples):
    """A few seconds each; drawn anew from a fixed seed, so that a failure comes again."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
    )


# --- no pickle is run ---

SOURCES = sorted(
    file
    for folder in ("asel_lib", "pipeline", "notebooks")
    for file in (REPOSITORY / folder).rglob("*")
    if file.suffix in (".py", ".ipynb")
)
NEVER = {
    "a pickle module": r"\b(import|from)\s+(c?pickle|dill|cloudpickle|joblib|shelve|marshal)\b",
    "pandas' or numpy's pickles": r"\bread_pickle\b|\bto_pickle\b|allow_pickle\s*=\s*True|\.loads\(.*pickle",
    "torch.load without weights_only=True": r"torch\.load\((?!.*weights_only=True)",
    "torch.save, which pickles": r"torch\.save\(",
    "np.load without allow_pickle=False": r"np\.load\((?!.*allow_pickle=False)",
    "a loader of torch's that unpickles": r"torch\.(jit|hub|package)\.\w*[lL]oad|load_state_dict_from_url",
    "YAML that makes objects": r"yaml\.(load|unsafe_load|full_load)\(",
    "torchvision's CIFAR, made of pickles": r"\bCIFAR100?\b\(",
}


@pytest.mark.parametrize("what", NEVER)
def test_nothing_in_the_source_runs_a_pickle(what):
    found = [
        f"{file.relative_to(REPOSITORY)}: {line.strip()}"
        for file in SOURCES
        for line in file.read_text().splitlines()
        if re.search(NEVER[what], line)
    ]
    assert not found


def test_the_search_for_pickles_finds_them():
    written = [
        "import pickle",
        "from joblib import load",
        "torch.load(path)",
        "np.load(f)",
        "torch.save(a, b)",
        "pd.read_pickle(a)",
        "yaml.load(a)",
        "torch.hub.load(a)",
        "CIFAR10(root)",
    ]
    for line in written:
        assert any(re.search(pattern, line) for pattern in NEVER.values()), line


class Bomb:
    """Pickled, a call that creates a file."""

    def __init__(self, file):
        self.file = str(file)

    def __reduce__(self):
        return os.mkdir, (self.file,)


@pytest.mark.parametrize("held", ["bare", "in a state dict", "in a wrapped state dict", "legacy"])
def test_a_pth_with_code_is_refused_and_the_code_not_run(workplace, held):
    trace, file = workplace / "trace", workplace / "published.pth"
    bomb = Bomb(trace)
    content = {
        "bare": bomb,
        "in a state dict": {"vit.head.weight": torch.ones(2), "x": bomb},
        "in a wrapped state dict": {"state_dict": {"x": bomb}},
        "legacy": {"x": bomb},
    }[held]
    torch.save(content, file, _use_new_zipfile_serialization=held != "legacy")
    for read in (asel_lib.load_published, read_generator):
        with pytest.raises(CheckpointError, match="published.pth"):
            read(file)
    with pytest.raises(CheckpointError, match="load_published"):
        asel_lib.load(file)
    with pytest.raises(TrainingError, match="not a readable state"):
        read_state(file)
    assert not trace.exists()
    torch.load(file, weights_only=False)  # the control: let run, the code in this very file works
    assert trace.exists()


def test_a_cache_with_code_is_made_again_and_the_code_not_run(image_folder, workplace):
    trace, root = workplace / "trace", image_folder({"a": 6, "b": 6})
    pixels = np.array(decode.load(root, 16).pixels)
    np.save(next(paths.cache().glob("*/pixels.npy")), np.array([Bomb(trace)]), allow_pickle=True)
    assert np.array_equal(decode.load(root, 16).pixels, pixels)
    assert not trace.exists()


# --- what a record may ask for ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint's two files: (bytes of the weights, record)."""
    from asel_lib.models import SelectiveViT

    model = SelectiveViT("vit_tiny_patch16_224", 4, img_size=32, **RECORD["model"]["timm"])
    file = checkpoints.save(model, tmp_path_factory.mktemp("trained") / "tiny", RECORD)
    return file.read_bytes(), json.loads(file.with_suffix(".json").read_text())


def put(folder, content: bytes, record: object) -> Path:
    """Both files, the record with the digest of the weights, as a forger would."""
    if isinstance(record, dict) and "sha256" in record:
        record = record | {"sha256": checkpoints._digest(content)}
    (folder / "tiny.safetensors").write_bytes(content)
    text = record if isinstance(record, str) else json.dumps(record)
    (folder / "tiny.json").write_text(text)
    return folder / "tiny.safetensors"


def changed(record: dict, entry: str, value: object) -> dict:
    """A copy in which `entry` ("model.timm.depth") is another."""
    copy = json.loads(json.dumps(record))
    *outer, last = entry.split(".")
    inner = copy
    for name in outer:
        inner = inner[name]
    inner[last] = value
    return copy


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("model.timm.checkpoint_path", "evil.pth"),
        ("model.timm.pretrained", True),
        ("model.timm.pretrained_cfg", {"url": "http://127.0.0.1/x"}),
        ("model.timm.norm_layer", "eval"),
        ("model.architecture", "hf-hub:someone/model"),
        ("model.architecture", "local-dir:/tmp"),
        ("model.architecture", "resnet18"),
        ("model.architecture", "vit_nothing"),
        ("model.selector", "unheard_of"),
        ("model.timm.depth", 10**9),
        ("model.timm.embed_dim", 10**8),
        ("model.timm.embed_dim", 10**30),
        ("model.timm.embed_dim", -48),
        ("model.timm.patch_size", 0),
        ("model.timm.mlp_ratio", 1e12),
        ("model.timm.num_heads", 7),
        ("model.timm.reg_tokens", 10**9),
        ("transform.size", 16_384),
        ("transform.size", 10**12),
        ("transform.size", 32.0),
        ("transform.std", [0, 1, 1]),
        ("transform.mean", [0, 1]),
        ("classes", []),
        ("classes", ["a"] * 10**5),
        ("classes", {"a": 1}),
        ("budgets", {"a fifth": 1}),
        ("budgets", [1]),
        ("images", 10**15),
        ("format", True),
    ],
)
def test_a_record_that_asks_for_what_is_not_there_is_refused_before_anything_is_made(workplace, trained, entry, value):
    content, record = trained
    with pytest.raises(CheckpointError, match="tiny"):
        asel_lib.load(put(workplace, content, changed(record, entry, value)))


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("model.timm.checkpoint_path", "evil.pth"),
        ("model.timm.pretrained_cfg", {"file": "evil.pth"}),
        ("model.timm.pretrained_cfg_overlay", {"url": "http://127.0.0.1/evil.pth"}),
        ("model.timm.weight_init", "skip"),
        ("model.architecture", "hf-hub:someone/model"),
        ("model.architecture", "hf_hub:someone/model"),
        ("model.architecture", "local-dir:/somewhere"),
    ],
)
def test_a_record_never_sends_timm_to_another_file_or_to_a_network(workplace, trained, monkeypatch, entry, value):
    """pytest.fail is no Exception: nothing on the way takes it for a damaged record."""
    monkeypatch.setattr("timm.create_model", lambda *_, **__: pytest.fail("timm was asked for it"))
    content, record = trained
    with pytest.raises(CheckpointError, match="tiny"):
        asel_lib.load(put(workplace, content, changed(record, entry, value)))


def test_weights_of_a_number_format_that_torch_lacks_are_refused(workplace, trained):
    content, record = trained
    with pytest.raises(CheckpointError, match="tiny.safetensors"):
        asel_lib.load(put(workplace, content.replace(b'"F32"', b'"F4"', 1) + b" ", record))


def test_tensors_larger_than_their_file_are_refused(workplace):
    state = {
        "vit.pos_embed": torch.zeros(1, 1, 1).expand(1, 10_000_001, 192),
        "vit.patch_embed.proj.weight": torch.zeros(192, 3, 16, 16),
        "vit.head.weight": torch.zeros(2, 192),
    }
    torch.save(state, workplace / "large.pth")
    assert (workplace / "large.pth").stat().st_size < 1_000_000
    with pytest.raises(CheckpointError, match="does not hold as much"):
        asel_lib.load_published(workplace / "large.pth")


@pytest.mark.parametrize("number", ["999999999", "x", "-1", ""])
def test_a_published_file_with_blocks_out_of_number_is_refused(workplace, number):
    state = {
        "vit.pos_embed": torch.zeros(1, 5, 192),
        "vit.patch_embed.proj.weight": torch.zeros(192, 3, 16, 16),
        "vit.head.weight": torch.zeros(2, 192),
        f"vit.blocks.{number}.norm1.weight": torch.zeros(192),
    }
    torch.save(state, workplace / "many.pth")
    with pytest.raises(CheckpointError, match="many.pth: its blocks are"):
        asel_lib.load_published(workplace / "many.pth")


# --- fuzzing: valid files changed a little, and anything at all ---

ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from([10**9, 1e308, ""]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@st.composite
def damaged(draw, whole: bytes) -> bytes:
    """`whole` with bits flipped, cut, with bytes put in, taken out or repeated; or anything at all."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["flip", "cut", "insert", "remove", "number", "repeat", "any"]))
        at = draw(st.integers(0, max(0, min(len(content), draw(st.sampled_from([64, 512, 10**9]))) - 1)))
        if kind == "flip" and content:
            content[at] ^= 1 << draw(st.integers(0, 7))
        elif kind == "cut":
            del content[at:]
        elif kind == "insert":
            content[at:at] = draw(st.binary(min_size=1, max_size=16))
        elif kind == "remove":
            del content[at : at + draw(st.integers(1, 64))]
        elif kind == "number":  # where a size is written
            content[at : at + 8] = draw(st.sampled_from([2**63 - 1, 2**64 - 1, 2**31, 2**32 - 1])).to_bytes(8, "little")
        elif kind == "repeat":
            content[at:at] = content[at : at + draw(st.integers(1, 512))]
        else:
            content = bytearray(draw(st.binary(max_size=200)))
    return bytes(content)


@st.composite
def spliced(draw, record: dict) -> object:
    """A record with up to three of its values, at any depth, replaced by any JSON or left out; at times any JSON."""
    if draw(st.integers(0, 9)) == 0:
        return draw(ANY_JSON)
    copy = json.loads(json.dumps(record))
    for _ in range(draw(st.integers(1, 3))):
        inner = copy
        while True:
            places = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
            if not places:
                break
            place = draw(st.sampled_from(places))
            if isinstance(inner[place], dict | list) and inner[place] and draw(st.booleans()):
                inner = inner[place]
                continue
            if draw(st.integers(0, 4)) == 0:
                del inner[place]
            else:
                inner[place] = draw(ANY_JSON)
            break
    return copy


@fuzz(150)
@given(data=st.data())
def test_a_changed_record_loads_or_is_a_named_error(workplace, trained, data):
    content, record = trained
    try:
        model = asel_lib.load(put(workplace, content, data.draw(spliced(record))))
    except CheckpointError as error:
        assert "tiny" in str(error)
    else:
        assert model.predict([Image.new("RGB", (32, 32))], keep_ratio=0.5)[0].label in model.classes


@fuzz(150)
@given(data=st.data())
def test_changed_weights_load_or_are_a_named_error(workplace, trained, data):
    content, record = trained
    try:
        asel_lib.load(put(workplace, data.draw(damaged(content)), record))
    except CheckpointError as error:
        assert "tiny" in str(error)


@fuzz(150)
@given(data=st.data())
def test_a_record_of_changed_bytes_loads_or_is_a_named_error(workplace, trained, data):
    content, record = trained
    file = put(workplace, content, record)
    file.with_suffix(".json").write_bytes(data.draw(damaged(json.dumps(record).encode())))
    try:
        asel_lib.load(file)
    except CheckpointError as error:
        assert "tiny" in str(error)


def test_nesting_without_end_is_a_named_error(workplace, trained):
    with pytest.raises(CheckpointError, match="no readable record"):
        asel_lib.load(put(workplace, trained[0], "[" * 100_000))


@fuzz(100)
@given(value=ANY_JSON)
@example({"format": 1})
def test_any_json_as_a_record_is_a_named_error(value):
    with pytest.raises(CheckpointError):
        records.check(value, Path("any.json"))


def state_of_a_training() -> bytes:
    file = io.BytesIO()
    write_state(file, {"key": "k", "model": {"weight": torch.arange(6.0)}, "history": [{"loss": 0.5}], "epoch": 3})
    return file.getvalue()


@fuzz(200)
@given(content=damaged(state_of_a_training()))
def test_a_changed_state_is_read_or_is_a_named_error(tmp_path, content):
    (tmp_path / "state").write_bytes(content)
    try:
        assert isinstance(read_state(tmp_path / "state"), dict)
    except TrainingError as error:
        assert "state" in str(error)


def published() -> bytes:
    file = io.BytesIO()
    torch.manual_seed(0)
    torch.save(Generator(1, 1, width=4).state_dict(), file)
    return file.getvalue()


@fuzz(100)
@given(content=damaged(published()))
def test_a_changed_pth_is_read_or_is_a_named_error(tmp_path, content):
    (tmp_path / "weights.pth").write_bytes(content)
    for read in (asel_lib.load_published, read_generator):
        try:
            read(tmp_path / "weights.pth")
        except CheckpointError as error:
            assert "weights.pth" in str(error)


SHAPES = st.lists(st.sampled_from([0, 1, 2, 3, 5, 16, 192]), max_size=5)


@fuzz(150)
@given(data=st.data())
def test_published_entries_of_any_shape_are_a_named_error(tmp_path, data):
    names = ["vit.pos_embed", "vit.patch_embed.proj.weight", "vit.head.weight", "vit.blocks.0.norm1.weight", "vit.x"]
    if data.draw(st.booleans()):
        names = [name.replace("vit.", "backbone.") for name in names] + ["patch_selector.0.weight"]
    state = {name: torch.zeros(data.draw(SHAPES)) for name in names if data.draw(st.integers(0, 5))}
    torch.save(state, tmp_path / "weights.pth")
    with pytest.raises((CheckpointError, ValueError)) as error:
        asel_lib.load_published(tmp_path / "weights.pth")
    assert str(error.value)


@fuzz(100)
@given(data=st.data())
def test_an_agents_published_entries_of_any_shape_are_a_named_error(tmp_path, data):
    state = {
        name: torch.zeros(data.draw(SHAPES))
        for name in (
            "to_patch_embedding.2.bias",
            "transformer.layers.0.0.to_qkv.weight",
            "transformer.layers.0.1.net.1.bias",
            "linear_head.1.bias",
        )
    }
    number = st.sampled_from([0, 1, 4, 8, 16, 224, -1, 10**9, "x", None])
    config = {key: data.draw(number) for key in ("resize_dim", "patch_size", "heads")}
    torch.save({"model_state": state, "dqn_state": {}, "config": config}, tmp_path / "weights.pth")
    with pytest.raises((CheckpointError, ValueError)) as error:
        asel_lib.load_published(tmp_path / "weights.pth")
    assert str(error.value)


def picture(format: str, mode: str = "RGB", **options) -> bytes:
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (9, 11, 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(file, format, **options)
    return file.getvalue()


PICTURES = [
    picture("PNG"),
    picture("PNG", "P"),
    picture("PNG", "I;16"),
    picture("JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0"),
    picture("TIFF"),
    picture("TIFF", "F"),
    picture("TIFF", compression="tiff_lzw"),
    picture("BMP"),
    picture("WEBP"),
    picture("GIF", "P"),
    picture("GIF", "P", save_all=True, append_images=[Image.new("P", (11, 9))]),
    picture("JPEG2000"),
    picture("PNG", "RGBA"),
    picture("PPM"),
]


@fuzz(400)
@given(data=st.data())
def test_a_changed_image_is_read_or_is_a_named_error(tmp_path, data):
    content = data.draw(damaged(data.draw(st.sampled_from(PICTURES))))
    (tmp_path / "image.png").write_bytes(content)
    for read in (read_image, lambda file: read_image(file.read_bytes()), lambda f: lines._read(f, 64)):
        try:
            pixels = read(tmp_path / "image.png")
        except DatasetError as error:
            assert re.search("image.png: not (read:|a readable)|^bytes: not ", str(error))
        else:
            assert pixels.dtype == np.uint8


def test_no_other_program_reads_an_image(tmp_path, monkeypatch):
    """An EPS is a program in PostScript, and Pillow would have Ghostscript run it."""
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("it was run"))
    Image.new("RGB", (9, 9)).save(tmp_path / "image.png", "EPS")
    with pytest.raises(pytest.fail.Exception):
        Image.open(tmp_path / "image.png").load()  # that it would
    for read in (read_image, lambda file: lines._read(file, 64)):
        with pytest.raises(DatasetError, match="image.png: not a readable"):
            read(tmp_path / "image.png")


@pytest.mark.parametrize("error", [NotImplementedError, RuntimeError, AttributeError, IndexError, MemoryError])
def test_whatever_pillow_raises_is_a_named_error(tmp_path, monkeypatch, error):
    """Seen of its readers of DDS, AVIF and SPIDER files, which are no longer asked, and of older versions."""

    def broken(*_, **__):
        raise error("damaged")

    monkeypatch.setattr(Image, "open", broken)
    for read in (read_image, lambda file: lines._read(file, 64)):
        with pytest.raises(DatasetError, match="image.png: not a readable"):
            read(tmp_path / "image.png")


def an_image(width: int, height: int) -> bytes:
    """A BMP of a few bytes that says it is that large."""
    small = bytearray(picture("BMP"))
    small[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return bytes(small)


def test_an_image_that_says_it_is_huge_is_a_named_error(tmp_path):
    (tmp_path / "image.bmp").write_bytes(an_image(100_000, 100_000))
    with pytest.raises(DatasetError, match="image.bmp: not read: Image size .* exceeds limit .* cut it into tiles"):
        read_image(tmp_path / "image.bmp")


def table() -> bytes:
    return tables.RESULTS.checked(results(ratios=(0.5, 1.0)), "").to_csv(index=False).encode()


CELLS = st.sampled_from(["", "nan", "inf", "1e999", "9" * 400, '"', "\0", "a,b", "True", "\n", "-", "0x1", "1;2"])


@st.composite
def edited(draw, whole: bytes) -> bytes:
    """The table with some cells replaced."""
    lines = [line.split(",") for line in whole.decode().splitlines()]
    for _ in range(draw(st.integers(1, 4))):
        line = draw(st.sampled_from(lines))
        line[draw(st.integers(0, len(line) - 1))] = draw(CELLS | st.text(max_size=10))
    return "\n".join(",".join(line) for line in lines).encode("utf-8", "surrogatepass")


@fuzz(300)
@given(content=damaged(table()) | edited(table()))
def test_a_changed_results_table_is_read_or_is_a_named_error(tmp_path, content):
    (tmp_path / "results.csv").write_bytes(content)
    try:
        found = tables.read(tmp_path / "results.csv")
    except AselError as error:
        assert "results.csv" in str(error)
    else:
        assert list(found.columns) == list(tables.RESULTS.columns) and len(found)
        summary(found)


CONFUSION = (
    b"dataset,checkpoint,schedule,selector,recipe,variant,trained_ratio,seed,policy,keep_ratio,class,answer,images\n"
    b"aid,a,direct,learned,masked,,,0,learned,0.3,x,x,5\n"
)


@fuzz(150)
@given(content=damaged(CONFUSION) | edited(CONFUSION))
def test_a_changed_confusion_table_is_read_or_is_a_named_error(tmp_path, content):
    (tmp_path / "confusion.csv").write_bytes(content)
    try:
        found = tables.confusions(tmp_path, tmp_path / "none.csv")
    except AselError as error:
        assert "confusion.csv" in str(error)
    else:
        assert list(found.columns) == list(tables.CONFUSION.columns)


def test_the_fuzzer_changes_what_it_is_given(trained):
    """Else all of the above would pass on whole files."""
    whole, seen = save_safetensors({"a": torch.ones(3)}), []

    @fuzz(100)
    @given(content=damaged(whole))
    def collect(content):
        seen.append(content)

    collect()
    assert len(set(seen)) > 60 and sum(content != whole for content in seen) > 80
