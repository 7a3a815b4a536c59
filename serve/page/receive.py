"""`POST /gradio_api/upload`: pictures of the page, written to the folder of uploads as they arrive.

In place of Gradio's own, which keeps up to 1,000 files open at a time and what was broken off for
ever.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request

from serve.insides import of_gradio
from serve.limits.uploads import MAX_FILES, Uploads

WANTED = "Expected pictures in the field 'files', each as a file, and no other field."


async def receive(request: Request, uploads: Uploads, *, max_bytes: int) -> list[str]:
    """Write the files of a form's field `files`, at most `max_bytes` of each, and return their
    paths; an HTTP error with a sentence otherwise.

    What has arrived of an upload that is refused or broken off is deleted at once.
    """
    kind, options = parse_options_header(request.headers.get("content-type", ""))
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise HTTPException(400, "Expected multipart/form-data with a boundary.")
    upload_id = request.query_params.get("upload_id", "")
    upload = _Upload(uploads, max_bytes, of_gradio.progress_of(upload_id))
    try:
        parser = MultipartParser(options[b"boundary"], upload.callbacks())
        async for chunk in request.stream():
            await asyncio.to_thread(parser.write, chunk)  # it writes to disk
        parser.finalize()
        paths = upload.keep()
        if not paths:
            raise HTTPException(400, WANTED)
        return paths
    except (FormParserError, ClientDisconnect):
        raise HTTPException(400, "The form is not well-formed.") from None
    except OSError:
        raise HTTPException(
            507, "The pictures cannot be stored now; try again later.", {"retry-after": "60"}
        ) from None
    finally:
        upload.close()
        of_gradio.upload_is_over(upload_id)


class _Upload:
    """The files of one upload, one open at a time; final."""

    def __init__(self, uploads: Uploads, max_bytes: int, progress: Callable[[str, bytes], None]):
        self._uploads, self._max_bytes, self._progress = uploads, max_bytes, progress
        self._header, self._value, self._disposition = b"", b"", b""
        self._name, self._size = "", 0
        self._written: list[Path] = []
        self._kept = False
        self.open: BinaryIO | None = None

    def callbacks(self) -> Any:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._field,
            "on_header_value": self._more,
            "on_header_end": self._header_end,
            "on_headers_finished": self._start,
            "on_part_data": self._data,
            "on_part_end": self._end,
        }

    def keep(self) -> list[str]:
        """Return the paths, if all files are whole; without this, `close` deletes them."""
        if self.open is not None:
            raise HTTPException(400, "The form ends in the middle of a file.")
        self._kept = True
        return [str(path) for path in self._written]

    def close(self) -> None:
        """End the file that is open, and delete what is not kept."""
        if self.open is not None:
            self.open.close()
        if self._kept:
            return
        for path in self._written:
            with contextlib.suppress(OSError):
                path.unlink()
                path.parent.rmdir()

    def _begin(self) -> None:
        self._header, self._value, self._disposition = b"", b"", b""

    def _field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _more(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header, self._value = b"", b""

    def _start(self) -> None:
        """Begin the file that the headers of a part announce."""
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != b"files" or b"filename" not in options:
            raise HTTPException(400, WANTED)
        # while they arrive, since each takes a folder
        if len(self._written) == MAX_FILES:
            raise HTTPException(400, f"Too many files: at most {MAX_FILES} are accepted at once.")
        self._name = options[b"filename"].decode("utf-8", "replace")
        path = self._uploads.new_folder() / _file_name(self._name)
        self._written.append(path)
        # x mode: never over a file, or through a link, that is there already
        self.open, self._size = path.open("xb"), 0

    def _data(self, data: bytes, start: int, end: int) -> None:
        """Write a piece of the file that is open."""
        assert self.open is not None
        self._size += end - start
        if self._size > self._max_bytes:
            raise HTTPException(
                413, f"The picture is too large: at most {self._max_bytes / 1e6:g} MB are accepted."
            )
        self.open.write(data[start:end])
        self._progress(self._name, data[start:end])

    def _end(self) -> None:
        assert self.open is not None
        self.open.close()
        self.open = None
        self._uploads.wrote(self._size)


def _file_name(name: str) -> str:
    """Return the last part of a name as a plain file name."""
    # a browser on Windows may send the whole path
    last = Path(name.replace("\\", "/")).name
    return of_gradio.without_invalid_characters(last).lstrip(".") or "picture"
