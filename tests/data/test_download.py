"""Downloads against a small local server; archives made on the spot."""

import hashlib
import io
import os
import stat
import tarfile
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from asel_lib.data.download import fetch, obtain
from asel_lib.data.unpack import unpack, unpack_cifar10
from asel_lib.errors import DatasetError, DatasetMissing

CONTENT = bytes(range(256)) * 400  # 102,400 bytes
SHA256 = hashlib.sha256(CONTENT).hexdigest()
MD5 = hashlib.md5(CONTENT).hexdigest()


class FileServer(ThreadingHTTPServer):
    """Serves `content` at every address, as well or as badly as its attributes say."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.knows_ranges = True
        self.etag = ""
        self.cuts: list[int] = []  # bytes sent before the connection breaks, one entry a request
        self.answers: list[int] = []  # HTTP statuses to answer with first
        self.asked: list[str | None] = []  # the Range header of each request

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/images.zip"

    def handle_error(self, request, client_address):
        pass  # a client that hangs up is part of the trial


class Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_GET(self):
        server = self.server
        server.asked.append(self.headers["Range"])
        if server.answers:
            return self.send_error(server.answers.pop(0))
        start, whole = 0, len(server.content)
        same = self.headers["If-Range"] in (None, server.etag)
        if self.headers["Range"] and server.knows_ranges and same:
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            if start >= whole:
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{whole}")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{whole - 1}/{whole}")
        else:
            self.send_response(200)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        self.wfile.write(body[: server.cuts.pop(0)] if server.cuts else body)

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with FileServer() as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def get(server, tmp_path):
    """fetch() from the local server, without waiting between attempts."""

    def get(**options) -> Path:
        options = {"progress": False, "pause": 0.0, "timeout": 5.0} | options
        return fetch(server.url, tmp_path / "stock" / "images.zip", **options)

    return get


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# --- fetch ---


@pytest.mark.parametrize("digest", [{"sha256": SHA256}, {"md5": MD5}, {"sha256": SHA256.upper()}])
def test_a_download_arrives_whole_and_alone(get, tmp_path, digest):
    assert get(**digest).read_bytes() == CONTENT
    assert left_in(tmp_path) == ["images.zip"]


def test_a_file_that_is_there_is_not_fetched_again(get, server):
    get(sha256=SHA256)
    get(sha256=SHA256)
    assert len(server.asked) == 1


def test_a_cut_connection_is_taken_up_where_it_broke(get, server):
    server.cuts = [30_000, 20_000]
    assert get(sha256=SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=30000-", "bytes=50000-"]


def test_a_later_call_goes_on_with_the_part_of_an_earlier_one(get, server, tmp_path):
    server.cuts = [30_000]
    with pytest.raises(DatasetMissing, match="30,000 bytes are kept") as caught:
        get(sha256=SHA256, attempts=1)
    assert "\n" not in str(caught.value)
    assert left_in(tmp_path) == ["images.zip.part"]
    assert get(sha256=SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=30000-"]


def test_a_server_that_ignores_ranges_sends_the_whole_file_again(get, server):
    server.knows_ranges = False
    server.cuts = [30_000]
    assert get(sha256=SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=30000-"]


def test_a_part_that_is_already_whole_is_accepted(get, server, tmp_path):
    (tmp_path / "stock").mkdir()
    (tmp_path / "stock" / "images.zip.part").write_bytes(CONTENT)
    assert get(sha256=SHA256).read_bytes() == CONTENT


def test_a_part_longer_than_the_file_is_fetched_afresh(get, server, tmp_path):
    (tmp_path / "stock").mkdir()
    (tmp_path / "stock" / "images.zip.part").write_bytes(CONTENT + b"more")
    assert get(sha256=SHA256).read_bytes() == CONTENT


def test_two_versions_of_a_file_are_never_joined(get, server, capsys):
    server.etag = '"first"'
    server.cuts = [30_000]
    with pytest.raises(DatasetMissing):
        get(attempts=1)
    server.etag, server.content = '"second"', CONTENT[::-1]
    assert get().read_bytes() == CONTENT[::-1]
    assert server.asked[-1] == "bytes=30000-"


def test_without_digest_and_etag_a_part_is_not_trusted(get, server):
    server.cuts = [30_000]
    assert get().read_bytes() == CONTENT
    assert server.asked == [None, None]


def test_without_digest_the_found_one_is_printed(get, capsys):
    get()
    assert SHA256 in capsys.readouterr().out


def test_a_wrong_digest_removes_the_download_and_names_both(get, tmp_path):
    with pytest.raises(DatasetError) as caught:
        get(sha256="0" * 64)
    assert SHA256 in str(caught.value) and "0" * 64 in str(caught.value)
    assert left_in(tmp_path) == []


def test_a_file_of_other_content_is_named_but_left_alone(get, tmp_path):
    (tmp_path / "stock").mkdir()
    (tmp_path / "stock" / "images.zip").write_bytes(b"mine")
    with pytest.raises(DatasetError, match="remove"):
        get(md5=MD5)
    assert (tmp_path / "stock" / "images.zip").read_bytes() == b"mine"


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(get, server):
    server.answers = [503, 429]
    assert get(sha256=SHA256).read_bytes() == CONTENT
    server.answers = [404]
    server.asked.clear()
    with pytest.raises(DatasetMissing, match="404"):
        fetch(server.url, get().with_name("other.zip"), progress=False, pause=0.0)
    assert len(server.asked) == 1


def test_no_network_is_one_line(tmp_path):
    with FileServer() as closed:
        url = closed.url
    with pytest.raises(DatasetMissing) as caught:
        fetch(url, tmp_path / "images.zip", attempts=2, pause=0.0, progress=False)
    assert url in str(caught.value) and "\n" not in str(caught.value)
    assert left_in(tmp_path) == []


def test_a_disk_that_cannot_be_written_is_not_taken_for_the_network(server, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DatasetError, match="cannot write"):
        fetch(server.url, tmp_path / "file" / "images.zip", progress=False)


def test_only_web_addresses_are_fetched(tmp_path):
    with pytest.raises(ValueError, match="file:///etc/hosts"):
        fetch("file:///etc/hosts", tmp_path / "hosts")


# --- unpack ---

FILES = {"set-1/a/1.png": b"one", "set-1/b/2.png": b"two"}


def make_zip(file: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def make_tar(file: Path, members: dict[str, bytes], *links: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(file, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for link in links:
            archive.addfile(link)
    return file


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_an_archive_lands_with_what_lies_below_the_inner_folder(tmp_path, kind):
    file = tmp_path / "archive"  # the content counts, not the ending
    if kind == "zip":
        make_zip(file, FILES)
    else:
        make_tar(file, FILES, mode=f"w:{kind.removeprefix('tar').removeprefix('.')}")
    unpack(file, tmp_path / "out" / "set", inner="set-1")
    assert (tmp_path / "out" / "set" / "a" / "1.png").read_bytes() == b"one"
    assert (tmp_path / "out" / "set" / "b" / "2.png").read_bytes() == b"two"
    assert os.listdir(tmp_path / "out") == ["set"]


def dangerous_archives():
    link_in_zip = zipfile.ZipInfo("set/link")
    link_in_zip.external_attr = (stat.S_IFLNK | 0o777) << 16
    return {
        "zip parent": lambda file: make_zip(file, {"a.png": b"", "../evil.png": b"x"}),
        "zip deep parent": lambda file: make_zip(file, {"a/../../evil.png": b"x"}),
        "zip absolute": lambda file: make_zip(file, {"/evil.png": b"x"}),
        "zip backslash": lambda file: make_zip(file, {"..\\evil.png": b"x"}),
        "zip drive": lambda file: make_zip(file, {"C:/evil.png": b"x"}),
        "zip link": lambda file: make_zip(file, {link_in_zip: b"/etc"}),
        "tar parent": lambda file: make_tar(file, {"../evil.png": b"x"}),
        "tar absolute": lambda file: make_tar(file, {"/evil.png": b"x"}),
        "tar link": lambda file: make_tar(file, FILES, special("set-1/out", tarfile.SYMTYPE, "../../..")),
        "tar hard link": lambda file: make_tar(file, FILES, special("set-1/out", tarfile.LNKTYPE, "/etc/x")),
        "tar device": lambda file: make_tar(file, FILES, special("set-1/null", tarfile.CHRTYPE)),
        "tar pipe": lambda file: make_tar(file, FILES, special("set-1/pipe", tarfile.FIFOTYPE)),
    }


@pytest.mark.parametrize("kind", dangerous_archives())
def test_an_archive_that_reaches_out_of_its_folder_is_refused(tmp_path, kind):
    file = dangerous_archives()[kind](tmp_path / "archive")
    with pytest.raises(DatasetError, match="not safe"):
        unpack(file, tmp_path / "out" / "set")
    assert os.listdir(tmp_path / "out") == []
    assert sorted(os.listdir(tmp_path)) == ["archive", "out"]


def test_a_damaged_archive_leaves_nothing_behind(tmp_path):
    whole = make_tar(tmp_path / "whole", {"a/1.png": os.urandom(50_000)}, mode="w:gz").read_bytes()
    (tmp_path / "cut").write_bytes(whole[:30_000])
    swapped = bytearray(make_zip(tmp_path / "zip", {"a/1.png": b"picture" * 9}).read_bytes())
    swapped[60] ^= 0xFF  # in the stored bytes: the member's checksum tells
    (tmp_path / "swapped").write_bytes(swapped)
    (tmp_path / "page").write_text("<html>not found</html>")
    for name in ("cut", "swapped", "page"):
        with pytest.raises(DatasetError, match="download it again"):
            unpack(tmp_path / name, tmp_path / "out" / "set")
    assert os.listdir(tmp_path / "out") == []


def test_an_archive_without_the_inner_folder_says_what_it_holds(tmp_path):
    with pytest.raises(DatasetError, match="'set-2'.*'set-1'"):
        unpack(make_zip(tmp_path / "archive", FILES), tmp_path / "set", inner="set-2")
    assert not (tmp_path / "set").exists()


def test_a_folder_with_content_is_never_unpacked_over(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "mine.png").touch()
    with pytest.raises(DatasetError, match="is there already"):
        unpack(make_zip(tmp_path / "archive", FILES), tmp_path / "set")
    assert left_in(tmp_path / "set") == ["mine.png"]


def test_what_a_killed_process_left_is_cleared(tmp_path):
    half = tmp_path / ".set.unpacking" / "content"
    half.mkdir(parents=True)
    (half / "half.png").touch()
    unpack(make_zip(tmp_path / "archive", FILES), tmp_path / "set")
    assert left_in(tmp_path / "set") == ["1.png", "2.png"]
    assert not (tmp_path / ".set.unpacking").exists()


# --- obtain ---


def test_processes_that_want_the_same_set_fetch_it_once(server, tmp_path):
    server.content = make_zip(tmp_path / "archive", FILES).read_bytes()
    digest = hashlib.md5(server.content).hexdigest()

    def work():
        obtain(server.url, tmp_path / "data" / "set", md5=digest, inner="set-1", unpack=unpack)

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(server.asked) == 1
    assert left_in(tmp_path / "data" / "set") == ["1.png", "2.png"]
    assert not list((tmp_path / "data" / ".downloads").glob("*.zip*"))  # the archive is not kept


def cifar10(labels, seed=0):
    """Binary batches of noise: (bytes, pixels (n, 32, 32, 3))."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 32, 32, 3), dtype=np.uint8)
    planes = pixels.transpose(0, 3, 1, 2).reshape(len(labels), -1)
    return np.column_stack([np.array(labels, np.uint8), planes]).tobytes(), pixels


def test_cifar10_batches_become_images_that_are_named_as_in_its_public_folders(tmp_path):
    (first, _), (second, shown), (tested, _) = cifar10([1, 0]), cifar10([1], seed=1), cifar10([0, 1], seed=2)
    files = {"data_batch_2.bin": second, "data_batch_1.bin": first, "test_batch.bin": tested}
    files |= {"batches.meta.txt": b"airplane\ncat\n\n", "readme.html": b"<html>"}
    archive = make_tar(tmp_path / "archive", {f"bin/{name}": content for name, content in files.items()}, mode="w:gz")
    unpack_cifar10(archive, tmp_path / "cifar10", "bin")
    found = sorted(path.relative_to(tmp_path / "cifar10").as_posix() for path in tmp_path.rglob("*.png"))
    assert found == [
        "test/airplane/0000.png",
        "test/cat/0000.png",
        "train/airplane/0000.png",
        "train/cat/0000.png",
        "train/cat/0001.png",
    ]
    assert (np.asarray(Image.open(tmp_path / "cifar10/train/cat/0001.png")) == shown[0]).all()


@pytest.mark.parametrize(
    "change",
    [{"data_batch_1.bin": cifar10([1])[0][:-1]}, {"data_batch_1.bin": cifar10([7])[0]}, {"batches.meta.txt": b""}],
    ids=["cut", "label without a name", "no names"],
)
def test_cifar10_batches_that_are_none_leave_nothing_behind(tmp_path, change):
    files = {"data_batch_1.bin": cifar10([1])[0], "test_batch.bin": cifar10([0])[0], "batches.meta.txt": b"a\nb\n"}
    archive = make_tar(tmp_path / "archive", files | change)
    with pytest.raises(DatasetError, match="archive does not hold CIFAR-10's binary batches"):
        unpack_cifar10(archive, tmp_path / "out" / "cifar10")
    assert os.listdir(tmp_path / "out") == []
