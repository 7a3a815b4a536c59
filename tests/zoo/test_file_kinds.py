"""What is no picture is called by its name, with what to do; a picture is told by its content."""

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.engine.decoder import FORMATS
from tests.bad_pictures import animation, encode, jpeg, photo, ramp, tiff
from zoo.host.errors import BadImage
from zoo.picture.decoding import decode


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "a")
    return buffer.getvalue()


def boxes(brand: bytes, *more: bytes) -> bytes:
    """The start of a file of the ISO base media format."""
    body = b"ftyp" + brand + bytes(4) + b"".join(more)
    return struct.pack(">I", len(body) + 4) + body + bytes(64)


def bands(count: int, dtype: type, *, planes: int = 1, **entries: int) -> bytes:
    """An uncompressed TIFF of 8 x 8 with `count` bands; `entries` are further tags, as in
    t259=34712."""
    values = np.zeros((8, 8, count), dtype)
    bits, kind = 8 * values.itemsize, {"f": 3, "u": 1, "i": 2}[values.dtype.kind]
    at = 8 + values.nbytes
    lists = struct.pack(f"<{count}H", *[bits] * count) + struct.pack(f"<{count}H", *[kind] * count)
    strips = count if planes == 2 else 1
    lists += struct.pack(
        f"<{2 * strips}I",
        *(8 + place * values.nbytes // strips for place in range(strips)),
        *[values.nbytes // strips] * strips,
    )
    fields = {
        256: (4, 1, 8),
        257: (4, 1, 8),
        258: (3, count, at if count > 2 else bits * (65537 if count == 2 else 1)),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, strips, at + 4 * count if strips > 1 else 8),
        277: (3, 1, count),
        278: (4, 1, 8),
        279: (4, strips, at + 4 * count + 4 * strips if strips > 1 else values.nbytes),
        284: (3, 1, planes),
        339: (3, count, at + 2 * count if count > 2 else kind * (65537 if count == 2 else 1)),
    }
    fields |= {int(tag[1:]): (4, 1, value) for tag, value in entries.items()}
    directory = struct.pack("<H", len(fields)) + b"".join(
        struct.pack("<HHII", tag, *fields[tag]) for tag in sorted(fields)
    )
    content = values.tobytes() + lists
    return b"II*\0" + struct.pack("<I", 8 + len(content)) + content + directory + bytes(4)


NO_PICTURES: dict[str, tuple[bytes, str]] = {
    "lfs.jpg": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "a Git LFS pointer, not the picture: run git lfs pull$",
    ),
    "annex.jpg": (
        b"/annex/objects/SHA256E-s1--ab.jpg\n",
        "a git-annex pointer, not the picture: run git annex get$",
    ),
    "page.jpg": (b"\n <!DOCTYPE HTML><html>", "an HTML page, not the picture: download"),
    "page-of-xml.jpg": (
        b'<?xml version="1.0"?><!DOCTYPE html PUBLIC><HTML>',
        "an HTML page, not the picture",
    ),
    "drawing.jpg": (
        b'\xef\xbb\xbf<?xml version="1.0"?>\n<!-- a --><svg width="9">',
        "an SVG drawing; .*: export it",
    ),
    "denied.jpg": (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
        "text .HTML, SVG or XML.;",
    ),
    "link.jpg.url": (
        b"[InternetShortcut]\r\nURL=https://a.b\r\n",
        "a shortcut to an Internet address",
    ),
    "a.jpg.lnk": (
        b"L\0\0\0\x01\x14\x02\0" + bytes(60),
        "a shortcut of Windows, not the picture: copy the file",
    ),
    "a.desktop": (b"[Desktop Entry]\nType=Link\n", "a shortcut of a desktop"),
    "alias": (b"book\0\0\0\0mark\0\0\0\0", "an alias of macOS"),
    ".a.jpg.icloud": (
        b"bplist00\xd3\1\2\3",
        "a property list of macOS .*, not the picture: download",
    ),
    "zeros.jpg": (bytes(9000), "nothing but zero bytes; .*: copy or download the picture again"),
    "note.jpg": ("Zugriff verweigert: für diese Datei".encode(), "text; expected a JPEG"),
    "film.jpg": (boxes(b"isom", b"isommp42"), "a film .MP4 or QuickTime.; .*: save single frames"),
    "old-film.mov": (struct.pack(">I", 64) + b"moov" + bytes(64), "a film .QuickTime."),
    "film.avi": (b"RIFF\x10\0\0\0AVI LIST" + bytes(20), "a film .AVI."),
    "film.webm": (b"\x1a\x45\xdf\xa3" + bytes(20), "a film .Matroska or WebM."),
    "sound.jpg": (b"RIFF\x10\0\0\0WAVEfmt " + bytes(20), "sound"),
    "a.avif": (boxes(b"avif"), "AVIF; .*: save it as JPEG or PNG"),
    "b.avif": (boxes(b"mif1", b"mif1avifmiaf"), "AVIF"),
    "raw.cr3": (boxes(b"crx "), "a camera's raw file .Canon CR3."),
    "raw.raf": (b"FUJIFILMCCD-RAW 0201" + bytes(50), "a camera's raw file"),
    "raw.cr2": (
        b"II*\0\x10\0\0\0CR\2\0" + tiff(ramp(np.uint8, 9))[12:],
        "a camera's raw file .*CR2.*: develop it",
    ),
    "raw.dng": (bands(3, np.uint8, t50706=0x401), "a camera's raw file .*DNG.*: develop it"),
    "raw.nef": (bands(3, np.uint8, t254=1, t330=8), "a camera's raw file"),
    "mosaic.tif": (bands(1, np.uint16, t262=32803), "a camera's raw file"),
    "a.jxl": (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
    "b.jxl": (b"\xff\x0a" + bytes(9), "JPEG XL"),
    "a.jp2": (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
    "a.jxr": (b"II\xbc\1" + bytes(9), "JPEG XR"),
    "a.tga": (encode(photo(), "TGA"), "Targa"),
    "a.pcx": (encode(photo(), "PCX"), "PCX"),
    "a.cur": (b"\0\0\2\0\1\0" + bytes(9), "a cursor"),
    "scan.pdf": (b"%PDF-1.4", "PDF; .*: export its pages"),
    "a.psd": (b"8BPS\0\1", "Photoshop"),
    "a.docx": (zip_file(), "a ZIP archive"),
    "a.svgz": (b"\x1f\x8b\x08" + bytes(9), "a gzip archive"),
    "a.dcm": (bytes(128) + b"DICM\2\0", "DICOM"),
    "a.npy": (b"\x93NUMPY\1\0", "an array of NumPy"),
    "a.ico": (b"\0\0\1\0\1\0" + bytes(20), "an icon"),
    "a.exr": (b"\x76\x2f\x31\x01\2", "OpenEXR"),
    "float64.tif": (
        tiff(ramp(np.float64, 1), sample_format=3),
        r"a TIFF of 1 band of 64 bits \(float\); expected 1",
    ),
    "float-rgb.tif": (bands(3, np.float32), r"a TIFF of 3 bands of 32 bits \(float\); expected"),
    "five.tif": (bands(5, np.uint8), "a TIFF of 5 bands of 8 bits; expected 1 .grey., 3 .RGB."),
    "eight-planes.tif": (bands(8, np.uint8, planes=2), "a TIFF of 8 bands of 8 bits"),
    "of-32-bits.tif": (
        tiff(ramp(np.uint32, 9)),
        "a TIFF of 1 band of 32 bits; expected|integers of 32 bits",
    ),
    "jpeg-2000.tif": (
        bands(3, np.uint8, t259=34712),
        "a TIFF of 3 bands of 8 bits, compressed as JPEG 2000",
    ),
    "webp.tif": (
        bands(3, np.uint8, t259=50001),
        "a TIFF of 3 bands of 8 bits, compressed as WebP",
    ),
    "12-bit.jpg": (
        jpeg().replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c", 1),
        "a JPEG of 12 bits a colour, expected 8: save it with 8 bits",
    ),
}
"""Name -> (content, the reason that is given)."""


@pytest.mark.parametrize("name", NO_PICTURES)
def test_what_is_no_picture_is_called_by_its_name(name: str) -> None:
    content, reason = NO_PICTURES[name]
    with pytest.raises(BadImage, match=f"^picture: ({reason})") as caught:
        decode(content)
    assert "damaged" not in caught.value.reason
    assert "\n" not in caught.value.reason
    assert len(caught.value.reason) < 250


def test_a_service_names_only_what_it_takes() -> None:
    with pytest.raises(
        BadImage, match=r"HEIF; expected a JPEG, .* or GIF picture: save it as JPEG or PNG$"
    ):
        decode(boxes(b"heic"), formats=FORMATS)


def test_heif_without_its_plugin_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    with pytest.raises(BadImage, match=r'pip install "zootune\[heif\]"'):
        decode(boxes(b"heic"))


@pytest.mark.parametrize("name", ["a.mpo", "a.jfif", "a.pjpeg", "a.apng", "a", "a.txt", "a.tif"])
def test_the_content_decides_and_not_the_suffix(name: str, tmp_path: Path) -> None:
    second = Image.new("RGB", (64, 48), "red")
    contents = {
        "a.mpo": encode(photo(), "MPO", save_all=True, append_images=[second], quality=90),
        "a.pjpeg": encode(photo(), "JPEG", quality=90, progressive=True),
        "a.apng": animation("PNG"),
    }
    (tmp_path / name).write_bytes(contents.get(name, jpeg()))
    picture = decode(tmp_path / name)
    assert picture.size == (64, 48)
    assert np.asarray(picture).mean() == pytest.approx(
        200 / 3 if name == "a.apng" else 107.85, abs=1
    )
