"""Which folders are image sets, under which names they are found, and what is said of the others."""

import importlib
import inspect
import os
import subprocess
import sys
import threading
import zipfile
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from asel_lib.data import catalog
from asel_lib.data.decode import load
from asel_lib.data.pixels import EXTENSIONS, FORMATS
from asel_lib.errors import DatasetError, DatasetMissing

REAL_DATA = Path(os.environ.get("ASEL_DATA") or Path(__file__).parents[2] / "data").expanduser()


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch) -> Path:
    """An empty checkout and data folder."""
    monkeypatch.setenv("ASEL_ROOT", str(tmp_path / "checkout"))
    monkeypatch.setenv("ASEL_DATA", str(tmp_path / "data"))
    (tmp_path / "checkout").mkdir()
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def put(folder: Path, *names: str) -> Path:
    """A one-pixel image at each of these places below `folder`."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (1, 1)).save(folder / name)
    return folder


def put_classes(folder: Path, count: int, ending: str = "jpg") -> Path:
    return put(folder, *(f"class{index:03d}/1.{ending}" for index in range(count)))


# --- layouts ---


def test_class_folders_become_sorted_files_labels_and_classes(tmp_path):
    found = catalog.find(put(tmp_path / "My Photos!", "b/2.png", "b/1.png", "a/9.png", "a/sub/deep/3.png"))
    assert found.name == "my_photos"
    assert found.classes == ("a", "b")
    assert found.names == ("a/9.png", "a/sub/deep/3.png", "b/1.png", "b/2.png")
    assert found.files == tuple(found.root / name for name in found.names)
    assert found.labels.dtype == np.int64 and found.labels.tolist() == [0, 0, 1, 1]
    assert found.parts is None


@pytest.mark.parametrize("val", ["val", "valid", "validation", "Val"])
def test_split_folders_become_parts(tmp_path, val):
    folder = put(tmp_path / "own", "train/a/1.png", "train/b/1.png", f"{val}/a/1.png", "test/b/1.png")
    found = catalog.find(folder)
    assert dict(zip(found.names, found.parts, strict=True)) == {
        "train/a/1.png": "train",
        "train/b/1.png": "train",
        f"{val}/a/1.png": "val",
        "test/b/1.png": "test",
    }
    assert found.classes == ("a", "b")
    assert dict(zip(found.names, found.labels, strict=True))["test/b/1.png"] == 1


@pytest.mark.parametrize(
    ("train", "held_out", "part"),
    [
        ("Training", "Testing", "test"),
        ("Train", "Validation", "val"),
        ("TRAIN", "TEST", "test"),
        ("train_images", "test_images", "test"),
        ("Train Set", "Dev Set", "val"),
        ("seg_train", "seg_test", "test"),
        ("trainset", "testset", "test"),
        ("train2017", "val2017", "val"),
        ("TrainImages", "EvalImages", "val"),
    ],
)
def test_parts_are_known_by_their_usual_names_in_any_case(tmp_path, train, held_out, part):
    folder = tmp_path / "own"
    put(folder, f"{train}/a/1.png", f"{train}/b/1.png", f"{held_out}/a/1.png", f"{held_out}/b/1.png")
    found = catalog.find(folder)
    assert found.classes == ("a", "b")
    assert {(name.split("/")[0], of) for name, of in zip(found.names, found.parts, strict=True)} == {
        (train, "train"),
        (held_out, part),
    }


@pytest.mark.parametrize(
    "folders", [("test", "val"), ("Testing", "Validation"), ("fold1", "fold2"), ("train_1", "train_2"), ("dev", "dev2")]
)
def test_classes_that_look_like_parts_are_asked_about(tmp_path, folders):
    folder = put(tmp_path / "own", *(f"{part}/{label}/1.png" for part in folders for label in "ab"))
    with pytest.raises(DatasetError, match=f"{folders[0]}, {folders[1]} look like parts .* Are they classes"):
        catalog.find(folder)


@pytest.mark.parametrize("classes", [("train", "car"), ("test tube", "test bench"), ("1", "2"), ("set1", "set2")])
def test_classes_that_are_called_nearly_so_are_classes(tmp_path, classes):
    found = catalog.find(put(tmp_path / "own", *(f"{label}/1.png" for label in classes)))
    assert found.classes == tuple(sorted(classes)) and found.parts is None


def test_a_class_called_train_is_a_class(tmp_path):
    found = catalog.find(put(tmp_path / "vehicles", "train/1.png", "car/1.png"))
    assert found.classes == ("car", "train") and found.parts is None


def test_endings_count_in_any_case_and_other_files_do_not(tmp_path):
    endings = ("JPG", "jpeg", "PNG", "tif", "TIFF", "bmp", "webp", "ppm", "gif", "jfif", "jp2", "pgm")
    wanted = [*(f"a/{number}.{ending}" for number, ending in enumerate(endings)), "b/1.jpg"]
    folder = put(tmp_path / "set", *wanted, "beside.png")
    (folder / "a" / "notes.txt").touch()
    (folder / "a" / "Thumbs.db").touch()
    found = catalog.find(folder)
    assert found.names == tuple(sorted(wanted))
    assert found.left_out_line == (
        "set: 3 files are left out: 1 ending in .db, 1 ending in .txt, 1 outside of the class folders"
    )


def test_without_an_ending_the_content_counts(tmp_path):
    folder = put(tmp_path / "set", "a/1.png", "b/1.png")
    (folder / "a" / "1.png").rename(folder / "a" / "scan")
    (folder / "a" / "LICENSE").write_text("Do as you like.")
    found = catalog.find(folder)
    assert found.names == ("a/scan", "b/1.png")
    assert found.left_out == {"without an ending and no images by their content": 1}


def test_each_ending_that_is_taken_is_one_that_pillow_reads():
    Image.init()
    known = {ending for ending, format in Image.registered_extensions().items() if format in (*FORMATS, "MPO")}
    assert known >= EXTENSIONS


def test_files_that_are_left_out_are_told_when_a_set_is_decoded(tmp_path, capsys):
    folder = put(tmp_path / "set", "a/1.png", "b/1.png")
    (folder / "a" / "movie.mp4").touch()
    load(folder, 8)
    assert "set: 1 files are left out: 1 ending in .mp4" in capsys.readouterr().out
    load(folder, 8)
    assert "left out" not in capsys.readouterr().out


def test_hidden_files_and_folders_are_ignored(tmp_path):
    hidden = (".git/1.png", "a/.thumbnails/1.png", "a/._1.png", "__MACOSX/a/1.png")
    found = catalog.find(put(tmp_path / "set", "a/1.png", "b/1.png", *hidden))
    assert found.names == ("a/1.png", "b/1.png") and found.classes == ("a", "b")


def test_links_are_followed_but_never_round_in_a_loop(tmp_path):
    elsewhere = put(tmp_path / "elsewhere", "3.png")
    folder = put(tmp_path / "set", "a/1.png", "b/1.png")
    (folder / "a" / "linked").symlink_to(elsewhere)
    (folder / "a" / "self").symlink_to(folder / "a")
    (folder / "a" / "up").symlink_to(folder)
    (elsewhere / "again").symlink_to(elsewhere)
    assert catalog.find(folder).names == ("a/1.png", "a/linked/3.png", "b/1.png")


def test_an_image_that_cannot_be_opened_is_still_listed(tmp_path):
    """Decoding reports it by its path; leaving it out here would hide it."""
    folder = put(tmp_path / "set", "a/1.png", "b/1.png")
    (folder / "a" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    assert "a/gone.png" in catalog.find(folder).names


# --- names and places ---


@pytest.mark.parametrize("base", ["data", "checkout"])
@pytest.mark.parametrize(
    ("name", "folder", "classes"),
    [
        ("aid", "aid", 30),
        ("aid", "AID-data", 30),
        ("rsscn7", "RSSCN7", 7),
        ("ucmerced", "ucmerced", 21),
        ("ucmerced", "UCMerced_LandUse/Images", 21),
        ("eurosat", "eurosat", 10),
        ("eurosat", "eurosat/2750", 10),
        ("imagenet100", "imagenet100/train", 100),
        ("cifar10", "cifar10/train", 10),
    ],
)
def test_our_and_the_published_folder_names_are_found(tmp_path, base, name, folder, classes):
    put_classes(tmp_path / base / folder, classes)
    assert catalog.is_available(name)
    found = catalog.find(name.upper())
    assert found.name == name and len(found.classes) == classes
    assert found.root == tmp_path / base / folder.removesuffix("/train")


def test_our_layout_comes_before_the_published_one(data):
    put_classes(data / "RSSCN7", 7)
    put_classes(data / "rsscn7", 7)
    assert catalog.find("rsscn7").root == data / "rsscn7"


@pytest.mark.parametrize("path", ["rsscn7", "RSSCN7"])
def test_a_path_to_a_known_set_is_that_set(data, path):
    assert catalog.find(put_classes(data / path, 7)).name == "rsscn7"


@pytest.mark.parametrize("name", ["rsscn7", "synthetic", "AID"])
def test_another_folder_never_takes_a_known_name(tmp_path, name):
    put_classes(tmp_path / "data" / "rsscn7", 7)
    assert catalog.find(put_classes(tmp_path / "mine" / name, 7)).name == f"{name.lower()}_folder"


def test_relative_paths_are_found_from_anywhere(tmp_path, data, monkeypatch):
    put(tmp_path / "checkout" / "photos", "a/1.png", "b/1.png")
    put(data / "scans", "a/1.png", "b/1.png")
    put(tmp_path / "here" / "views", "a/1.png", "b/1.png")
    monkeypatch.chdir(tmp_path / "here")
    for asked, name in (("photos", "photos"), ("scans", "scans"), ("./views", "views")):
        assert catalog.find(asked).name == name
    assert catalog.is_available("views") and not catalog.is_available("nowhere")


def test_generated_sets_are_known_and_have_no_files():
    generated = {name for name in catalog.names() if catalog.is_generated(name)}
    assert generated == {"synthetic", "synthetic_closeups"}
    assert catalog.is_available("synthetic")
    with pytest.raises(DatasetError, match="generated"):
        catalog.find("synthetic")


# --- what is said ---


@pytest.mark.parametrize("name", [name for name in catalog.names() if not catalog.is_generated(name)])
def test_a_missing_set_is_one_line_with_its_place_and_origin(name, data):
    assert not catalog.is_available(name)
    with pytest.raises(DatasetMissing) as caught:
        catalog.find(name)
    line = str(caught.value)
    assert line == catalog.missing_message(name)
    assert "\n" not in line and str(data / name) in line and "http" in line


def test_an_unknown_name_is_answered_with_the_likely_one_and_all(tmp_path):
    assert not catalog.is_available("rscn7")
    for ask in (catalog.find, catalog.missing_message):
        with pytest.raises(DatasetError, match=r"'rscn7'.*Did you mean 'rsscn7'\?.*ucmerced"):
            ask("rscn7")


@pytest.mark.parametrize("name", ["", "  ", "no/such/folder"])
def test_nonsense_is_no_data_set(name):
    with pytest.raises(DatasetError, match="neither in the catalogue nor a folder"):
        catalog.find(name)


def test_a_file_is_no_image_folder(tmp_path):
    put(tmp_path, "1.png")
    with pytest.raises(DatasetError, match="nor a folder"):
        catalog.find(tmp_path / "1.png")


def test_one_class_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DatasetError, match="only one class, 'cats'"):
        catalog.find(put(tmp_path / "set", "cats/1.png", ".dogs/1.png"))
    with pytest.raises(DatasetError, match="only one class, 'cats'"):
        catalog.find(put(tmp_path / "split", "train/cats/1.png", "test/cats/1.png"))


def test_the_folder_around_an_image_folder_points_to_it(tmp_path):
    put(tmp_path / "outer" / "images", "a/1.png", "b/1.png")
    with pytest.raises(DatasetError, match=rf"did you mean {tmp_path}/outer/images\?"):
        catalog.find(tmp_path / "outer")


def test_no_images_is_an_error_that_says_what_is_there(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="empty: no images in 0 class folders; expected <class>"):
        catalog.find(tmp_path / "empty")
    with pytest.raises(DatasetError, match="2 images outside of class folders"):
        catalog.find(put(tmp_path / "flat", "1.png", "2.png"))


def test_an_empty_class_is_an_error_that_names_its_folder(tmp_path):
    folder = put(tmp_path / "set", "a/1.png", "b/1.png")
    (folder / "c").mkdir()
    with pytest.raises(DatasetError, match=rf"1 of 3 classes have no images: {folder}/c;"):
        catalog.find(folder)


def test_a_class_to_be_tested_must_have_images_to_learn_from(tmp_path):
    folder = put(tmp_path / "set", "train/a/1.png", "train/b/1.png", "test/c/1.png")
    with pytest.raises(DatasetError, match=f"{folder}/train/c"):
        catalog.find(folder)


def test_a_folder_beside_the_split_folders_is_not_dropped_in_silence(tmp_path):
    folder = put(tmp_path / "set", "train/a/1.png", "train/b/1.png", "test/a/1.png", "test_2/a/1.png")
    with pytest.raises(DatasetError, match="test_2"):
        catalog.find(folder)


def test_a_known_set_with_classes_missing_is_not_passed_off_as_whole(data):
    put_classes(data / "aid", 29)
    assert not catalog.is_available("aid")
    with pytest.raises(DatasetError, match="29 class folders, expected 30"):
        catalog.find("aid", download=True)
    assert catalog.find(data / "aid").name == "aid_folder"


# --- download ---


@pytest.fixture
def published(tmp_path, monkeypatch):
    """RSSCN7's archive as its repository would serve it, on a local server."""
    site = tmp_path / "site"
    put_classes(site / "RSSCN7-master", 7)
    put(site / "RSSCN7-master", ".idea/1.png")
    with zipfile.ZipFile(site / "master.zip", "w") as archive:
        for file in site.rglob("*.*g"):
            archive.write(file, file.relative_to(site))

    class Quiet(SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(site))

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        entry = replace(catalog.spec("rsscn7"), url=f"http://127.0.0.1:{server.server_port}/master.zip")
        monkeypatch.setitem(catalog._SPECS, "rsscn7", entry)
        yield site
        server.shutdown()


def test_a_public_set_is_fetched_once_into_our_layout(published, data, capsys):
    found = catalog.find("rsscn7", download=True)
    assert found.root == data / "rsscn7" and len(found.files) == 7
    assert "7 images" in (told := capsys.readouterr().out) and "2,800 expected" in told
    (published / "master.zip").unlink()
    assert catalog.find("rsscn7", download=True).names == found.names


def test_without_being_asked_nothing_is_fetched(published, data):
    with pytest.raises(DatasetMissing):
        catalog.find("rsscn7")
    assert list(data.iterdir()) == []


def test_a_failed_download_still_says_what_to_put_where(published, data):
    (published / "master.zip").unlink()
    with pytest.raises(DatasetMissing, match="404") as caught:
        catalog.find("rsscn7", download=True)
    assert str(data / "rsscn7") in str(caught.value) and "\n" not in str(caught.value)


def test_a_data_folder_that_cannot_be_written_is_named(published, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ASEL_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(DatasetError, match=f"cannot write into {tmp_path}/file/data"):
        catalog.find("rsscn7", download=True)


@pytest.mark.parametrize(("name", "module"), [("eurosat", "eurosat"), ("imagenette", "imagenette")])
def test_addresses_and_digests_are_those_of_torchvision(name, module):
    source = inspect.getsource(importlib.import_module(f"torchvision.datasets.{module}"))
    assert catalog.spec(name).url in source and catalog.spec(name).md5 in source


# --- the rest ---


def test_the_catalogue_starts_without_torch():
    code = "import sys, asel_lib.data.catalog; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[2]).returncode == 0


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "classes", "parts", "images"),
    [
        ("rsscn7", 7, None, {2_508, 2_800}),  # the copy behind the committed results; as published
        ("aid", 30, None, {8_985, 10_000}),
        ("cifar10", 10, {"train", "test"}, {59_012, 60_000}),
    ],
)
def test_real_sets_have_their_classes_and_parts(monkeypatch, name, classes, parts, images):
    monkeypatch.setenv("ASEL_DATA", str(REAL_DATA))
    if not catalog.is_available(name):
        pytest.skip(catalog.missing_message(name))
    found = catalog.find(name)
    assert len(found.classes) == classes == len(np.unique(found.labels))
    assert (found.parts and set(found.parts)) == parts
    assert len(found.files) == len(set(found.names)) and len(found.files) in images
