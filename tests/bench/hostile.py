"""What strangers send: 200 requests, most of which must be refused."""

import io
import json
from collections.abc import Iterator
from itertools import cycle, islice

import numpy as np
from PIL import Image

from tests.bad_pictures import BAD, animation, encode, grey_png, photo, tiff

BOUNDARY = "multipart/form-data; boundary=x"


class Zeros(io.RawIOBase):
    """A body of 200 MB that nobody holds in memory."""

    def __init__(self) -> None:
        self._left = 200_000_000

    def __len__(self) -> int:
        return 200_000_000

    def read(self, size: int = -1) -> bytes:
        taken = min(self._left, 65_536)
        self._left -= taken
        return bytes(taken)


def form(content: bytes, *, name: str = "x.jpg", count: int = 1) -> bytes:
    """A form with `count` times the same file."""
    part = (
        f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'.encode()
        + content
        + b"\r\n"
    )
    return part * count + b"--x--\r\n"


def hostile_requests(count: int) -> list[tuple[str, object, str, bool]]:
    """(what it is, body, content type, whether it is to be answered)."""
    return list(islice(cycle(_kinds()), count))


def _kinds() -> Iterator[tuple[str, object, str, bool]]:
    for name, (make, _) in BAD.items():
        yield name, form(make(), name=name), BOUNDARY, False
    yield "1x20000", form(encode(Image.new("RGB", (1, 20000)), "PNG")), BOUNDARY, False
    yield "TIFF", form(tiff(np.zeros((48, 64), np.uint8))), BOUNDARY, False
    yield "1,001 files", form(b"x", count=1001), BOUNDARY, False
    yield "path in JSON", json.dumps({"path": "/etc/passwd"}), "application/json", False
    yield "path as picture", json.dumps({"images": ["/etc/passwd"]}), "application/json", False
    yield (
        "address as picture",
        json.dumps({"images": ["http://127.0.0.1/"]}),
        "application/json",
        False,
    )
    yield "deep JSON", "[" * 100_000, "application/json", False
    yield "traversal in a bad name", form(b"<svg>", name="../../../etc/passwd"), BOUNDARY, False
    yield (
        "traversal in a good name",
        form(encode(photo(), "PNG"), name="../../../etc/passwd"),
        BOUNDARY,
        True,
    )
    yield (
        "24 million pixels, 1 bit",
        form(grey_png(4900, 4900, bits=1, rows=bytes(4900 * 614))),
        BOUNDARY,
        True,
    )
    yield (
        "16-bit grey",
        form(encode(Image.fromarray(np.full((48, 64), 30000, np.uint16)), "PNG")),
        BOUNDARY,
        True,
    )
    yield "animated", form(animation("GIF")), BOUNDARY, True
    yield "CMYK", form(encode(photo().convert("CMYK"), "JPEG")), BOUNDARY, True
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"EXIF {orientation}", form(encode(photo(), "JPEG", exif=exif)), BOUNDARY, True
    yield "200 MB", Zeros(), BOUNDARY, False
