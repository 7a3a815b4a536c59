"""What a file is that no decoder here opens, told by its first bytes, and what to do about it.

Folders of pictures hold more than pictures: placeholders of clouds and of Git, pages that a
download gave instead of the picture, films, raw data of cameras. `seen` gives the words of a
reason; nothing here decodes.

Sources of the signatures: the formats' own specifications, and their entries in the registry of
media types (IANA).
"""

import codecs
from typing import NamedTuple

SCANNED_BYTES = 4096
"""Of the start of a file that are looked at."""
_PLACEHOLDER = "not the picture"
_CONVERT = "save it as JPEG or PNG"
_FRAMES = "save single frames of it as JPEG or PNG"
_UNPACK = "unpack it"


class _Kind(NamedTuple):
    """One row: files with `start` at byte `at` are `what`."""

    start: bytes
    what: str
    advice: str
    at: int = 0


_TEXTS = (
    _Kind(b"version https://git-lfs", f"a Git LFS pointer, {_PLACEHOLDER}", "run git lfs pull"),
    _Kind(b"/annex/objects/", f"a git-annex pointer, {_PLACEHOLDER}", "run git annex get"),
    _Kind(b"../.git/annex/", f"a git-annex pointer, {_PLACEHOLDER}", "run git annex get"),
    _Kind(
        b"[internetshortcut]",
        f"a shortcut to an Internet address, {_PLACEHOLDER}",
        "download what it leads to",
    ),
    _Kind(
        b"[desktop entry]",
        f"a shortcut of a desktop, {_PLACEHOLDER}",
        "copy the file that it leads to",
    ),
    _Kind(b"<svg", "an SVG drawing", "export it as PNG"),
    _Kind(b"<!doctype svg", "an SVG drawing", "export it as PNG"),
    _Kind(
        b"<!doctype html",
        f"an HTML page, {_PLACEHOLDER}",
        "download the picture again, and sign in where needed",
    ),
    _Kind(
        b"<html",
        f"an HTML page, {_PLACEHOLDER}",
        "download the picture again, and sign in where needed",
    ),
    _Kind(b"<", "text (HTML, SVG or XML)", "download the picture again"),
    _Kind(b"%pdf", "PDF", "export its pages as PNG"),
    _Kind(b"%!ps", "EPS", "export it as PNG"),
    _Kind(b"simple  =", "FITS", f"scale it to 8 or 16 bits and {_CONVERT}"),
)
"""Compared in lower case, after a byte order mark and white space."""

HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
"""Of pictures that the optional plugin decodes; mif1 and msf1 may also be AVIF."""
_BRANDS = (
    *(_Kind(brand, "HEIF", _CONVERT) for brand in HEIF_BRANDS),
    *(_Kind(brand, "AVIF", _CONVERT) for brand in (b"avif", b"avis", b"avio")),
    _Kind(b"crx ", "a camera's raw file (Canon CR3)", "develop it, and save it as JPEG or TIFF"),
    _Kind(b"M4A ", "sound (MPEG-4)", "remove it"),
)
"""By the brand that follows `ftyp`; every other brand is a film's."""

_RAW = "develop it, and save it as JPEG or TIFF"
_BYTES = (
    _Kind(b"JXL ", "JPEG XL", _CONVERT, at=4),
    _Kind(b"\xff\x0a", "JPEG XL", _CONVERT),
    _Kind(b"\0\0\0\x0cjP  ", "JPEG 2000", _CONVERT),
    _Kind(b"\xff\x4f\xff\x51", "JPEG 2000", _CONVERT),
    _Kind(b"II\xbc", "JPEG XR", _CONVERT),
    _Kind(b"8BPS", "Photoshop", _CONVERT),
    _Kind(b"\xc5\xd0\xd3\xc6", "EPS", "export it as PNG"),
    _Kind(b"gimp xcf", "a project of GIMP", _CONVERT),
    _Kind(b"FUJIFILMCCD-RAW", "a camera's raw file (Fujifilm RAF)", _RAW),
    _Kind(b"IIRO", "a camera's raw file (Olympus ORF)", _RAW),
    _Kind(b"IIRS", "a camera's raw file (Olympus ORF)", _RAW),
    _Kind(b"MMOR", "a camera's raw file (Olympus ORF)", _RAW),
    _Kind(b"IIU\0", "a camera's raw file (Panasonic RW2)", _RAW),
    _Kind(b"FOVb", "a camera's raw file (Sigma X3F)", _RAW),
    _Kind(b"\0MRM", "a camera's raw file (Minolta MRW)", _RAW),
    _Kind(b"moov", "a film (QuickTime)", _FRAMES, at=4),
    _Kind(b"mdat", "a film (QuickTime)", _FRAMES, at=4),
    _Kind(b"AVI ", "a film (AVI)", _FRAMES, at=8),
    _Kind(b"WAVE", "sound (WAVE)", "remove it", at=8),
    _Kind(b"\x1a\x45\xdf\xa3", "a film (Matroska or WebM)", _FRAMES),
    _Kind(b"\0\0\1\xba", "a film (MPEG)", _FRAMES),
    _Kind(b"\0\0\1\xb3", "a film (MPEG)", _FRAMES),
    _Kind(b"FLV\1", "a film (Flash)", _FRAMES),
    _Kind(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", "a film (WMV)", _FRAMES),
    _Kind(b"\x8aMNG", "a film (MNG)", _FRAMES),
    _Kind(b"OggS", "a film or sound (Ogg)", _FRAMES),
    _Kind(b"ID3", "sound (MP3)", "remove it"),
    _Kind(
        b"L\0\0\0\1\x14\2\0",
        f"a shortcut of Windows, {_PLACEHOLDER}",
        "copy the file that it leads to",
    ),
    _Kind(
        b"bplist00",
        f"a property list of macOS (a placeholder of iCloud, or a web address), {_PLACEHOLDER}",
        "download the picture in Finder",
    ),
    _Kind(
        b"book\0\0\0\0mark", f"an alias of macOS, {_PLACEHOLDER}", "copy the file that it leads to"
    ),
    _Kind(
        b"\0\5\x16\7", f"macOS's notes on another file (AppleDouble), {_PLACEHOLDER}", "remove it"
    ),
    _Kind(
        b"\0\5\x16\0", f"macOS's notes on another file (AppleSingle), {_PLACEHOLDER}", "remove it"
    ),
    _Kind(b"\0\0\0\1Bud1", "macOS's notes on a folder (.DS_Store)", "remove it"),
    _Kind(
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "a file of Office, or Windows' thumbnails (Thumbs.db)",
        "remove it, or save the pictures in it as JPEG or PNG",
    ),
    _Kind(b"PK\3\4", "a ZIP archive, or a file of Office", _UNPACK),
    _Kind(b"Rar!", "a RAR archive", _UNPACK),
    _Kind(b"7z\xbc\xaf", "a 7z archive", _UNPACK),
    _Kind(b"\x1f\x8b", "a gzip archive", _UNPACK),
    _Kind(b"ustar", "a tar archive", _UNPACK, at=257),
    _Kind(b"DICM", "DICOM", f"apply its window and {_CONVERT}", at=128),
    _Kind(b"\x93NUMPY", "an array of NumPy", f"scale it to 8 or 16 bits and {_CONVERT}"),
    _Kind(b"\x89HDF", "HDF5", f"scale it to 8 or 16 bits and {_CONVERT}"),
    _Kind(b"\x76\x2f\x31\x01", "OpenEXR", f"scale it to 8 or 16 bits and {_CONVERT}"),
    _Kind(b"#?RADIANCE", "Radiance HDR", f"scale it to 8 or 16 bits and {_CONVERT}"),
    *(
        _Kind(f"P{digit}{space}".encode(), "a portable pixmap (PNM)", _CONVERT)
        for digit in range(1, 8)
        for space in "\n\r\t "
    ),
    _Kind(b"\0\0\2\0\0\0", "Targa (TGA)", _CONVERT),
    _Kind(b"\0\0\3\0\0\0", "Targa (TGA)", _CONVERT),
    _Kind(b"\0\0\x0a\0\0\0", "Targa (TGA)", _CONVERT),
    _Kind(b"\x0a\5\1\x08", "PCX", _CONVERT),
    _Kind(b"\0\0\1\0", "an icon (ICO)", _CONVERT),
    _Kind(b"\0\0\2\0", "a cursor (CUR)", _CONVERT),
    _Kind(b"icns", "icons of macOS", _CONVERT),
    _Kind(b"DDS ", "a DDS texture", _CONVERT),
    _Kind(b"qoif", "QOI", _CONVERT),
    _Kind(b"BPG\xfb", "BPG", _CONVERT),
    _Kind(b"FLIF", "FLIF", _CONVERT),
    _Kind(b" EMF", "a Windows metafile", "export it as PNG", at=40),
    _Kind(b"\xd7\xcd\xc6\x9a", "a Windows metafile", "export it as PNG"),
)
"""Told by signature alone."""


def seen(data: bytes) -> tuple[str, str]:
    """(what a file is, what to do about it), two clauses; ("", "") where its first bytes do not
    tell."""
    start = data[:SCANNED_BYTES]
    # what a download that was cut off, or a damaged disk, leaves
    if not start.strip(b"\0"):
        return ("nothing but zero bytes", "copy or download the picture again")
    if start[4:8] == b"ftyp":
        brand = start[8:12]
        if b"avif" in start[16:64]:  # among the compatible brands
            brand = b"avif"
        return _first(_BRANDS, brand) or ("a film (MP4 or QuickTime)", _FRAMES)
    # a byte order mark or blanks may stand before the first tag
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    found = _first(_TEXTS, text)
    if found == _first(_TEXTS, b"<"):  # an XML declaration or a comment comes first
        for word in (b"<html", b"<svg"):  # the last one found counts
            if word in text:
                found = _first(_TEXTS, word)
    found = found or _first(_BYTES, start)
    if not found and _is_text(start):
        return ("text", "download the picture again")
    return found or ("", "")


def reason(data: bytes, expected: str, *, named: str = "") -> str:
    """Why a file is no picture, in one clause. `expected`: the formats in words; `named`: what it
    is otherwise."""
    if not data:
        return "the file is empty"
    what, advice = seen(data)
    if what.endswith(_PLACEHOLDER):
        return f"{what}: {advice}"
    refused = f"{what or named or 'of no known format'}; expected {expected}"
    if advice:
        refused += f": {advice}"
    return refused


def _first(kinds: tuple[_Kind, ...], start: bytes) -> tuple[str, str] | None:
    for kind in kinds:
        if start.startswith(kind.start, kind.at):
            return kind.what, kind.advice
    return None


def _is_text(start: bytes) -> bool:
    try:
        # incremental: its last character may be cut
        text = codecs.getincrementaldecoder("utf-8")().decode(start)
    except UnicodeDecodeError:
        return False
    # blanks and line breaks are not printable to Python
    return "".join(text.split()).isprintable()
