"""Archives at an address: a real server, downloads that break, and what a store needs."""

import io
import re
import sys
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from finetune.run_folder.named_folders import data_folder, readable_folder
from finetune.sources.class_folders import read_folders
from finetune.stored import downloads, kept_folder, rows
from tests.finetune.made_pictures import png
from zoo.host.errors import UserError


def pets(first: int = 0) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for i in range(40):
            archive.writestr(f"pets/{('cat', 'dog')[i % 2]}/{i}.png", png(first + i))
    return buffer.getvalue()


@dataclass
class Server:
    """What the server answers, and what it was asked."""

    content: bytes = field(default_factory=pets)
    etag: str = '"1"'
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    """Bytes after which the next answers break off."""
    announced: bool = True
    redirect: str = ""
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


class Handler(BaseHTTPRequestHandler):
    server_state: Server

    def do_GET(self) -> None:
        state = self.server_state
        asked = self.headers.get("Range")
        state.ranges.append(asked)
        if state.statuses:
            return self.send_error(state.statuses.pop(0))
        if state.redirect and not self.path.startswith("/moved"):
            self.send_response(302)
            self.send_header("Location", state.redirect)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        first = 0
        if asked and self.headers.get("If-Range") == state.etag:
            first = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
            self.send_response(206)
            last = len(state.content) - 1
            self.send_header("Content-Range", f"bytes {first}-{last}/{len(state.content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", state.etag)
        if state.announced:
            self.send_header("Content-Length", str(len(state.content) - first))
        self.end_headers()
        sent = state.content[first:]
        if state.cuts:
            sent = sent[: state.cuts.pop(0)]
        self.wfile.write(sent)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("ZOOTUNE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(downloads, "FIRST_WAIT_S", 0.0)
    state = Server()
    handler = type("OwnHandler", (Handler,), {"server_state": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as listening:
        thread = threading.Thread(target=listening.serve_forever, args=(0.01,))
        thread.start()
        state.url = f"http://127.0.0.1:{listening.server_port}/sets/pets.zip?token=secret"
        yield state
        listening.shutdown()
        thread.join()


def test_an_archive_is_downloaded_once(server: Server, tmp_path: Path) -> None:
    expected = data_folder(server.url)
    assert not expected.exists()
    folder = readable_folder(server.url)
    assert folder == expected
    assert "secret" not in str(folder)
    assert read_folders(folder).classes == ("cat", "dog")
    assert len(list(folder.rglob("*.png"))) == 40
    assert readable_folder(server.url) == folder
    assert server.ranges == [None]
    assert sorted(path.name for path in folder.parent.iterdir()) == [
        folder.name,
        f"{folder.name}.lock",
    ]


def test_what_broke_goes_on_where_it_broke(server: Server) -> None:
    server.cuts = [1000, 500]
    assert len(list(readable_folder(server.url).rglob("*.png"))) == 40
    assert server.ranges == [None, "bytes=1000-", "bytes=1500-"]


def test_the_next_command_goes_on(server: Server) -> None:
    server.cuts = [1000, *[0] * (downloads.ATTEMPTS - 1)]
    with pytest.raises(UserError, match=r"broke off .*Run the same command again") as refused:
        readable_folder(server.url)
    assert "secret" not in str(refused.value)
    assert len(list(readable_folder(server.url).rglob("*.png"))) == 40
    assert server.ranges[-1] == "bytes=1000-"


def test_a_file_that_changed_meanwhile_is_downloaded_anew(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.cuts = [1000]
    monkeypatch.setattr(downloads, "ATTEMPTS", 1)
    with pytest.raises(UserError, match="broke off"):
        readable_folder(server.url)
    server.content, server.etag = pets(100), '"2"'
    folder = readable_folder(server.url)
    assert (folder / "cat" / "0.png").read_bytes() == png(100)


def test_a_busy_server_is_asked_again(server: Server) -> None:
    server.statuses = [503, 429]
    assert readable_folder(server.url).is_dir()


def test_without_an_announced_size_the_archive_tells_whether_it_is_whole(server: Server) -> None:
    server.announced, server.cuts = False, [1000]
    with pytest.raises(UserError, match="cannot be read to its end"):
        readable_folder(server.url)
    # and what was downloaded is not taken again
    assert len(list(readable_folder(server.url).rglob("*.png"))) == 40


@pytest.mark.parametrize(("status", "words"), [(404, "correct the address"), (403, "login")])
def test_a_refusal_is_a_sentence(status: int, words: str, server: Server) -> None:
    server.statuses = [status]
    with pytest.raises(UserError, match=words) as refused:
        readable_folder(server.url)
    assert "secret" not in str(refused.value)


def test_a_page_is_no_archive(server: Server, tmp_path: Path) -> None:
    server.content = b"<!doctype html><html>log in</html>"
    with pytest.raises(UserError, match=r"address of an archive .* seen an HTML page"):
        readable_folder(server.url)
    assert not list((tmp_path / "home").rglob("*.tmp"))


def test_what_does_not_fit_is_refused_first(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        kept_folder.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 10})
    )
    with pytest.raises(UserError, match="on a larger disk"):
        readable_folder(server.url)


def test_a_redirect_is_followed_and_nobody_there_is_a_sentence(server: Server) -> None:
    server.redirect = "/moved/pets.zip"
    assert readable_folder(server.url).is_dir()
    with pytest.raises(UserError, match="cannot be reached"):
        readable_folder("http://127.0.0.1:9/pets.zip")


def test_a_store_of_fsspec(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setitem(downloads.SCHEMES, "memory", "")
    fsspec.filesystem("memory").pipe("/sets/pets.zip", pets())
    assert len(list(readable_folder("memory://sets/pets.zip").rglob("*.png"))) == 40
    with pytest.raises(UserError, match="nothing is there"):
        readable_folder("memory://sets/cars.zip")


@pytest.mark.parametrize(("address", "package"), [("s3", "s3fs"), ("gs", "gcsfs")])
def test_the_package_of_a_store_is_named(
    address: str, package: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fsspec")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=f"pip install {package}"):
        rows.prepare(f"{address}://bucket/pets.zip")
