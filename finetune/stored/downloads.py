"""Archives at an address -> one file, which is then unpacked as any other: `https://`, `http://`,
and `s3://` or `gs://` through the library fsspec.

A download that breaks goes on where it broke, in the same command and in the next one, if the
server says by its ETag that the file is still the same; else it begins again. It is complete when
it has the size that was announced; what is in it is checked when it is unpacked. Pictures that a
table names by their addresses are not downloaded.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from finetune.stored import kept_folder
from finetune.stored.kept_folder import BrokenOff, public
from zoo.contract import rundir
from zoo.host import console, disk
from zoo.host.errors import UserError, first_line

SCHEMES = {"https": "", "http": "", "s3": "s3fs", "gs": "gcsfs"}
"""Beginning of an address -> the package that fsspec needs for it; none for the web, which is read
without fsspec."""
ATTEMPTS = 5
FIRST_WAIT_S = 1.0
"""Before the second attempt, doubled for each further one."""
CONNECT_S, ANSWER_S = 10.0, 60.0
CHUNK_BYTES = 1 << 20
LEAST_FREE_BYTES = 100_000_000
"""Kept free on the disk where a server does not announce the size."""
MB = 1_000_000
ADVICE = {
    401: "it wants a login: download it by hand",
    403: "it wants a login, or the address is no longer valid: download it by hand",
    404: "nothing is there: correct the address",
}
BUSY = (408, 429, 500, 502, 503, 504)


class Download(NamedTuple):
    """What a server sends: the file from one byte on."""

    first: int
    size: int | None
    """Bytes of the whole file, if they are announced."""
    version: str
    """Says whether the file is still the same; empty if the server does not say."""
    chunks: Iterator[bytes]


def is_remote(name: str) -> bool:
    """Tell by the beginning of an address."""
    scheme, mark, _ = name.partition("://")
    return bool(mark) and scheme.lower() in SCHEMES


def source_facts(name: str) -> object:
    """What tells this source from others: its address. A file that changes there is not noticed;
    remove the folder to download it again."""
    return name


def write_source(name: str, folder: Path, coarse: bool = False) -> Path:
    """Download the file into `folder`, which may hold the beginning of it; returns its path.

    `UserError` if it cannot be reached or does not fit on the disk, `BrokenOff` if it broke off
    too often: the same command goes on.
    """
    folder.mkdir(exist_ok=True)
    title = public(name).rstrip("/").rpartition("/")[2]
    path = folder / f"file-{re.sub(r'[^A-Za-z0-9._-]+', '-', title)[-100:]}"
    if path.is_file():
        return path
    scheme = name.partition("://")[0].lower()
    receive: Callable[[str, Path], None] = _from_web
    if scheme not in ("http", "https"):
        receive = _from_store
    part = folder / "part"
    for attempt in range(ATTEMPTS):
        try:
            receive(name, part)
            break
        except BrokenOff:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(FIRST_WAIT_S * 2**attempt)
    # last, so that a file that is there is complete
    os.replace(part, path)
    return path


def _begun(part: Path) -> tuple[int, str]:
    """Tell what is there of a file: (bytes, version)."""
    notes = part.with_suffix(".json")
    if not (part.is_file() and notes.is_file()):
        return 0, ""
    return part.stat().st_size, str(rundir.read_json(notes, kind=dict).get("version", ""))


def _receive(name: str, part: Path, download: Download) -> None:
    """Write what a server sends behind what is there; `BrokenOff` if the file is not complete
    then."""
    kept_folder.check_free(part.parent, (download.size or 0) - download.first)
    rundir.write_json(part.with_suffix(".json"), {"version": download.version})
    mode = "r+b" if download.first else "wb"
    total = (download.size or 0) // MB
    with open(part, mode) as file, console.bar("downloading (MB)", total) as advance:
        file.seek(download.first)
        shown = download.first // MB
        advance(shown)
        for chunk in download.chunks:
            file.write(chunk)
            if download.size is None:
                _check_still_free(part.parent)
            advance(file.tell() // MB - shown)
            shown = file.tell() // MB
        # the file that was begun may have been longer
        file.truncate()
    size = part.stat().st_size
    if download.size is not None and size != download.size:
        raise _broken(name, f"{size:,} of {download.size:,} bytes came")


def _check_still_free(folder: Path) -> None:
    if shutil.disk_usage(folder).free < LEAST_FREE_BYTES:
        raise UserError(
            f"{folder}: the disk is nearly full, and the server does not say how large the file "
            "is: free some, or set ZOOTUNE_HOME to a folder on a larger disk."
        )


def _broken(name: str, reason: str) -> BrokenOff:
    return BrokenOff(
        f"{public(name)}: the download broke off ({reason}): expected the whole file. Run the same "
        "command again and it goes on."
    )


def _from_web(name: str, part: Path) -> None:
    import httpx2

    done, version = _begun(part)
    # packed on the way, the bytes on the disk would say nothing of where to go on
    headers = {"Accept-Encoding": "identity"}
    # a weak ETag does not promise the same bytes
    if done and version and not version.startswith("W/"):
        headers |= {"Range": f"bytes={done}-", "If-Range": version}
    timeout = httpx2.Timeout(ANSWER_S, connect=CONNECT_S)
    try:
        with httpx2.stream(
            "GET",
            name,
            headers=headers,
            timeout=timeout,
            follow_redirects=True,
            verify=_certificates(),
        ) as response:
            _check_answer(name, response)
            if response.status_code == 416:
                # the file became shorter
                part.unlink()
                raise _broken(name, "the file changed")
            _receive(name, part, _answer_of_web(response, done))
    except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
        raise UserError(
            f"{public(name)} cannot be reached ({type(error).__name__}: {first_line(error)}): "
            "check the address and the network, or download it elsewhere and use the file."
        ) from None
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.TooManyRedirects) as error:
        raise UserError(
            f"{public(name)}: expected an address of a file, seen {first_line(error)}."
        ) from None
    except httpx2.TransportError as error:
        raise _broken(name, f"{type(error).__name__}: {first_line(error)}") from None


@cache
def _certificates() -> Any:
    """Load the certificates of the web once, which takes a while."""
    import httpx2

    return httpx2.create_ssl_context()


def _check_answer(name: str, response: Any) -> None:
    status = response.status_code
    if name.lower().startswith("https:") and response.url.scheme != "https":
        raise UserError(
            f"{public(name)} leads to an address without encryption ({response.url.host}): "
            "expected https. Download it by hand if you trust it."
        )
    if status in BUSY:
        raise _broken(name, f"HTTP status {status}")
    if status not in (200, 206, 416):
        advice = ADVICE.get(status, "try again later, or download it by hand")
        raise UserError(f"{public(name)}: expected a file, seen HTTP status {status}: {advice}.")


def _answer_of_web(response: Any, done: int) -> Download:
    """Read what the server says of the file, whether it goes on or begins again."""
    headers = response.headers
    length = headers.get("Content-Length", "")
    size = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
    first = 0
    if response.status_code == 206:
        match = re.fullmatch(
            r"bytes (\d{1,18})-\d{1,18}/(\d{1,18})", headers.get("Content-Range", "")
        )
        if not match or int(match[1]) != done:
            raise UserError(
                f"{response.url.host} sends another part of the file than was asked for: download "
                "it by hand."
            )
        first, size = done, int(match[2])
    return Download(first, size, headers.get("ETag", ""), response.iter_raw())


def _from_store(name: str, part: Path) -> None:
    """Read from an object store; its own library finds the user's keys."""
    package = SCHEMES[name.partition("://")[0].lower()]
    try:
        from fsspec.core import url_to_fs

        store, path = url_to_fs(name)
        state = store.info(path)
        version = str(state.get("ETag") or state.get("etag") or state.get("mtime") or "")
        done, begun_version = _begun(part)
        first = done if version and version == begun_version and done <= state["size"] else 0
        with store.open(path, "rb") as source:
            source.seek(first)
            chunks = iter(lambda: source.read(CHUNK_BYTES), b"")
            _receive(name, part, Download(first, state["size"], version, chunks))
    except ImportError as error:
        raise UserError(
            f"{public(name)} is read by the package {package or 'fsspec'}, which is not installed "
            f"({first_line(error)}): pip install {package or 'fsspec'}"
        ) from None
    except FileNotFoundError:
        raise UserError(f"{public(name)}: nothing is there: correct the address.") from None
    except PermissionError as error:
        raise UserError(
            f"{public(name)} may not be read ({first_line(error)}): log in to the store first."
        ) from None
    except OSError as error:
        if disk.no_room(error):
            raise
        raise _broken(name, f"{type(error).__name__}: {first_line(error)}") from None
