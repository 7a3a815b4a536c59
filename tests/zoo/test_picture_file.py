"""A picture's cost is bounded before a decoder sees it: time, memory, equal pixels, orientation, no
metadata left."""

import io
import resource
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from serve.engine.decoder import FORMATS
from tests.bad_pictures import ODD, encode, grey_png, photo, png_chunk
from tests.bench.fuzz import fuzz_pictures, run_length_bmp
from tests.zoo.costs import peak_of
from tests.zoo.jpeg_scans import many_scans, segment
from zoo.host.errors import BadImage
from zoo.picture import decoding, exif
from zoo.picture.decoding import decode, without_metadata
from zoo.picture.picture_file import reduced_picture

MEGABYTES = 6
"""Of a specimen without an own size: what grows faster than the file is over the limits well below
the largest."""
N = MEGABYTES * 1_000_000
LIMIT_BYTES = 300_000_000


def jpeg(**options: object) -> bytes:
    return encode(photo(), "JPEG", **options)


def after_start(more: bytes) -> bytes:
    return jpeg()[:2] + more + jpeg()[2:]


def before_frame(more: bytes) -> bytes:
    data = jpeg()
    place = data.index(b"\xff\xc0")
    return data[:place] + more + data[place:]


def before_end(more: bytes, **options: object) -> bytes:
    data = jpeg(**options)
    return data[:-2] + more + data[-2:]


def png(before: bytes = b"", after: bytes = b"") -> bytes:
    return grey_png(8, 8, bits=8, rows=bytes(72), before=before, after=after)


def png_of_palette(more: bytes) -> bytes:
    data = encode(photo().convert("P"), "PNG")
    return data[:33] + more + data[33:]


def gif(more: bytes, *, size: tuple[int, int] = (1, 1), data: bytes = b"\2\x44\1\0") -> bytes:
    screen = b"GIF89a" + struct.pack("<HH", *size) + b"\x80\0\0" + b"\0\0\0\xff\xff\xff"
    return screen + more + b"," + struct.pack("<HHHH", 0, 0, *size) + b"\0\2" + data


def webp(*chunks: bytes) -> bytes:
    body = b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def webp_chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content + bytes(len(content) & 1)


def webp_frames(side: int, *, count: int = 1, within: bytes = b"") -> bytes:
    still = encode(Image.new("RGB", (64, 64)), "WEBP", lossless=True)[12:]
    frame = webp_chunk(b"ANMF", bytes(6) + b"\x3f\0\0" * 2 + bytes(4) + still + within)
    canvas = webp_chunk(b"VP8X", b"\2\0\0\0" + (side - 1).to_bytes(3, "little") * 2)
    return webp(canvas, webp_chunk(b"ANIM", bytes(6)), frame * count)


def run_length(side: int, body: bytes, *, bits: int = 8) -> bytes:
    data = bytearray(run_length_bmp(bits))
    struct.pack_into("<ii", data, 18, side, side)
    return bytes(data[: int.from_bytes(data[10:14], "little")]) + body


def tiff(block: bytes, *more: tuple[int, int, int, int], **changed: int) -> bytes:
    """An uncompressed grey TIFF of 64 x 64 whose entries point into `block`, at 8."""
    fields = {
        "width": (256, 64),
        "length": (257, 64),
        "bits": (258, 8),
        "compression": (259, 1),
        "photometric": (262, 1),
        "offset": (273, 8),
        "samples": (277, 1),
        "rows": (278, 64),
        "bytes": (279, 4096),
    }
    entries = [(tag, 4, 1, changed.get(name, value)) for name, (tag, value) in fields.items()]
    listed = [entry for entry in entries if entry[0] not in {tag for tag, *_ in more}] + list(more)
    directory = (
        struct.pack("<H", len(listed))
        + b"".join(struct.pack("<HHII", *entry) for entry in listed)
        + bytes(4)
    )
    return b"II*\0" + struct.pack("<I", 8 + len(block)) + block + directory


def shared_exif(entries: int, size: int) -> bytes:
    """An EXIF block whose entries share one block of data."""
    start = 8 + 2 + 12 * entries + 4
    listed = b"".join(
        struct.pack("<HHII", 0x0200 + place, 7, size, start) for place in range(entries)
    )
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + listed + bytes(4) + b"\1" * size


def shared_exif_jpeg() -> bytes:
    block = shared_exif(4000, 1_000_000)
    parts = (block[place : place + 65_000] for place in range(0, len(block), 65_000))
    return after_start(b"".join(segment(0xE1, b"Exif\0\0" + part) for part in parts))


COSTLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "segments": (lambda: after_start(b"\xff\xe5\0\2" * (N // 4)), "more than 4096 JPEG segments"),
    "exif segments": (
        lambda: after_start(segment(0xE1, b"Exif\0\0a") * (N // 11)),
        "more than 4096 JPEG segments",
    ),
    "full exif segments": (
        lambda: after_start(segment(0xE1, b"Exif\0\0" + bytes(65_000)) * (N // 65_000)),
        "",
    ),
    "exif that shares, jpeg": (shared_exif_jpeg, ""),
    "exif that shares, png": (lambda: png(png_chunk(b"eXIf", shared_exif(4000, 1_000_000))), ""),
    "exif that shares, webp": (
        lambda: encode(photo(), "WEBP", exif=b"Exif\0\0" + shared_exif(4000, 1_000_000)),
        "",
    ),
    "junk before the frame": (lambda: before_frame(bytes(N)), "no JPEG marker"),
    "fill before the frame": (lambda: before_frame(b"\xff" * N), "no JPEG marker"),
    "fill and junk in turn": (
        lambda: before_frame((b"\xff" * 4000 + b"\0") * 99),
        "no JPEG marker",
    ),
    "quantisation tables": (
        lambda: after_start(segment(0xDB, (b"\0" + b"\1" * 64) * 999) * 9),
        "bytes of JPEG tables",
    ),
    "Huffman tables": (
        lambda: before_frame(segment(0xC4, bytes(17)) * 5000),
        "more than 4096 JPEG segments",
    ),
    "fill after the scan": (lambda: before_end(b"\xff" * N), ""),
    "fill after the scans": (lambda: before_end(b"\xff" * N, progressive=True), ""),
    "fill in the scan": (lambda: (lambda d: d[:-99] + b"\xff" * N + d[-99:])(jpeg()), None),
    "fill in runs": (
        lambda: before_end((b"\xff" * 4095 + b"\0") * (N // 4096), progressive=True),
        "",
    ),
    "segments after the scans": (
        lambda: before_end(b"\xff\xe5\0\2" * (N // 4), progressive=True),
        "4096 JPEG segments",
    ),
    "tables after the scans": (
        lambda: before_end(segment(0xC4, bytes(17)) * (N // 21), progressive=True),
        "4096 JPEG segments",
    ),
    "scans": (lambda: many_scans(2000, 3000), "more than 250 scans of 4 million pixels"),
    "scans of a small picture": (lambda: many_scans(64, 501), "more than 500 scans"),
    "sequential scans": (lambda: many_scans(2000, 3000, 0xC0, components=3), "more than 250 scans"),
    "arithmetic scans": (lambda: many_scans(64, 9, 0xCA), "arithmetic-coded"),
    "scans behind an end that is none": (
        lambda: (lambda d: d.replace(b"\xff\xda", segment(0xE5, b"\xff\xd9") + b"\xff\xda"))(
            many_scans(2000, 1000)
        ),
        "more than 250 scans",
    ),
    "scans behind a marker without length": (
        lambda: b"\xff\x01\xff\xda".join(many_scans(64, 9000).rsplit(b"\xff\xda", 8990)),
        "marker 01",
    ),
    "as many scans as are allowed": (lambda: many_scans(1700, 340), ""),
    "chunks": (lambda: png(png_chunk(b"abCd", b"") * (N // 12)), "more than 65536 PNG chunks"),
    "chunks behind": (
        lambda: png(after=png_chunk(b"abCd", b"") * (N // 12)),
        "more than 65536 PNG chunks",
    ),
    "empty data chunks": (
        lambda: png(png_chunk(b"IDAT", b"") * 70_000),
        "more than 65536 PNG chunks",
    ),
    "headers": (lambda: png(png()[8:33] * 65_000), ""),
    "palette": (lambda: png_of_palette(png_chunk(b"PLTE", bytes(N))), ""),
    "transparency": (lambda: png_of_palette(png_chunk(b"tRNS", b"\xff" * N)), "palette index"),
    "compressed text": (
        lambda: png(png_chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(N), 9)) * 60),
        "",
    ),
    "compressed profile": (
        lambda: png(png_chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(N), 9))),
        "",
    ),
    "more pixels than the size": (lambda: grey_png(8, 8, bits=8, rows=bytes(N * 20)), ""),
    "comment": (lambda: gif(b"!\xfe" + (b"\xff" + b"a" * 255) * (N // 256) + b"\0"), ""),
    "comment of single bytes": (
        lambda: gif(b"!\xfe" + b"\1a" * (N // 2) + b"\0"),
        "more than 250000 GIF blocks",
    ),
    "comments": (lambda: gif(b"!\xfe\1a\0" * (N // 5)), "more than 250000 GIF blocks"),
    "applications": (
        lambda: gif(b"!\xff\x0bNETSCAPE2.0\0" * (N // 15)),
        "more than 250000 GIF blocks",
    ),
    "junk in a gif": (lambda: gif(b"a" * N), "more than 250000 GIF blocks"),
    "disposal of a large frame": (
        lambda: gif(b"!\xf9\4\x08\0\0\0\0", size=(13_000, 13_000)),
        "too large",
    ),
    "clear codes": (
        lambda: gif(b"", size=(7000, 7000), data=(b"\xff" + b"\x24" * 255) * (N // 256)),
        "truncated",
    ),
    "gif without a picture": (
        lambda: gif(b"!\xfe" + b"\xff" * N)[:1000],
        "ends before its first picture",
    ),
    "webp frames": (lambda: webp_frames(64, count=N // 70), "more than 65536 WebP chunks"),
    "webp chunks in a frame": (
        lambda: webp_frames(64, within=webp_chunk(b"abcd", b"") * (N // 8)),
        "",
    ),
    "webp canvas": (lambda: webp_frames(16_383), "too large"),
    "run-length codes": (lambda: run_length(1900, b"\1\1" * 400_000), "not enough image data"),
    "run-length line ends": (lambda: run_length(1900, b"\1\1\0\0" * 1000), None),
    "run-length of 4 bits": (
        lambda: run_length(1900, (b"\xff\x12" * 8 + b"\0\0") * 1900, bits=4),
        None,
    ),
    "run-length bytes": (
        lambda: run_length(100, b"\1\1" * 500_000),
        "too costly to decode: a run-length coded BMP",
    ),
    "run-length pixels": (
        lambda: run_length(2001, b""),
        "too costly to decode: a run-length coded BMP of 2001 x 2001",
    ),
    "entries that share": (
        lambda: tiff(bytes(10**6), *[(40_000 + place, 7, 10**6, 8) for place in range(4000)]),
        "",
    ),
    "known entries that share": (
        lambda: tiff(bytes(10**6), *[(tag, 7, 999_000, 8) for tag in (292, 293, 317, 320, 347)]),
        "more than the file",
    ),
    "too many entries": (lambda: tiff(bytes(4096), *[(40_000, 3, 1, 1)] * 5000), "5009 entries"),
    "directories within": (
        lambda: tiff(
            b"\xff\xff" + bytes(10**6), (34665, 4, 1, 8), (34853, 4, 1, 8), (330, 4, 1, 8)
        ),
        "",
    ),
    "strips one over the other": (
        lambda: tiff(struct.pack("<I", 8) * 20_000, (273, 4, 9000, 8), (279, 4, 9000, 8), rows=63),
        "9000 TIFF strips",
    ),
    "strips beside a tile size": (
        lambda: tiff(
            struct.pack("<I", 8) * 20_000,
            (273, 4, 9000, 8),
            (322, 4, 1, 1),
            (323, 4, 1, 1),
            rows=63,
        ),
        "9000 TIFF strips",
    ),
    "a tile that is larger": (
        lambda: tiff(
            zlib.compress(bytes(10**7)),
            (322, 4, 1, 30_000),
            (323, 4, 1, 30_000),
            (324, 4, 1, 8),
            (325, 4, 1, 10**4),
            compression=8,
        ),
        "tiles of 30000 x 30000",
    ),
    "a size of many numbers": (
        lambda: tiff(bytes(10**6), (256, 4, 10**5, 8)),
        "not one whole number",
    ),
    "bits of many samples": (lambda: tiff(bytes(10**6), (258, 3, 490_000, 8)), None),
}
"""What attacks it -> (its file, why it is refused). "" decodes; None: either, as long as it is
cheap."""


@pytest.mark.parametrize("name", COSTLY)
def test_no_structure_costs_more_than_its_pixels(name: str) -> None:
    make, reason = COSTLY[name]
    data = make()
    seen = []

    def attempt() -> None:
        try:
            seen.append(decode(data, name=name).size)
        except BadImage as error:
            seen.append(error.reason)

    limit = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (8_000_000_000, limit[1]))
    try:
        seconds, taken = peak_of(attempt)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limit)
    assert seconds < 2, seen
    assert taken < LIMIT_BYTES, seen
    if reason == "":
        assert isinstance(seen[0], tuple), seen
    elif reason is not None:
        assert reason in str(seen[0])


def plain(data: bytes, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The pixels as Pillow gives them for the whole file; orientation as Pillow reads it."""
    with monkeypatch.context() as patched:
        held = 1
        with Image.open(io.BytesIO(data)) as picture:
            if picture.format != "TIFF":
                held = picture.getexif().get(0x0112, 1)
        patched.setattr(
            decoding.picture_file,
            "reduced_picture",
            lambda whole, _formats: exif.Reduced(whole, held),
        )
        return np.asarray(decode(data))


def test_pixels_are_those_of_the_whole_file(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, (make, _) in ODD.items():
        # Pillow cannot open these
        if name in ("huge-text.png", "exif-rubbish.jpg", "exif-offset.jpg", "exif-cut.jpg"):
            continue
        data = make()
        assert np.array_equal(decode(data), plain(data, monkeypatch)), name


def test_pixels_of_random_encodes_are_those_of_the_whole_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random, checked = np.random.default_rng(0), 0
    for turn in range(10):
        width, height = (int(side) for side in random.integers(8, 70, 2))
        picture = Image.fromarray(random.integers(0, 256, (height, width, 4), np.uint8))
        second = picture.convert("RGB").transpose(Image.Transpose.ROTATE_180)
        frames: dict[str, object] = {"save_all": True, "append_images": [second]}
        held = Image.Exif()
        held[0x0112], held[0x010F] = turn, "maker"
        meta: dict[str, object] = {"exif": held.tobytes(), "icc_profile": bytes(200)}
        cases: list[tuple[str, str, dict[str, object]]] = [
            *[
                ("JPEG", mode, {**meta, "comment": b"c", "progressive": turn % 2 == 0})
                for mode in ("L", "RGB", "CMYK")
            ],
            ("JPEG", "RGB", {"restart_marker_blocks": 2, "quality": 30}),
            ("MPO", "RGB", {**frames, **meta}),
            *[("PNG", mode, meta) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")],
            *[
                ("PNG", "RGB", {**frames, **meta, "default_image": default})
                for default in (False, True)
            ],
            *[
                ("GIF", mode, {**frames, "comment": b"c" * 600, "disposal": turn % 4})
                for mode in ("L", "P", "RGBA")
            ],
            *[("WEBP", "RGBA", {**more, **meta}) for more in (frames, {}, {"lossless": True})],
            ("WEBP", "RGB", {}),
            *[("BMP", mode, {}) for mode in ("1", "L", "P", "RGB", "RGBA")],
            *[
                ("TIFF", mode, {**meta, "tiffinfo": {274: turn % 8 + 1, 278: 8}})
                for mode in ("L", "P", "RGB", "CMYK")
            ],
            # Saving as JPEG leaves its settings on a picture, hence the copy.
            *[
                ("TIFF", "RGB", frames | {"compression": packed, "append_images": [second.copy()]})
                for packed in PACKED
            ],
            ("TIFF", "1", {"compression": "group4"}),
            ("TIFF", "RGB", {"big_tiff": True}),
        ]
        for kind, mode, options in cases:
            data = encode(picture.convert(mode), kind, **options)
            assert np.array_equal(decode(data), plain(data, monkeypatch)), (kind, mode, options)
            checked += 1
    assert checked > 300


PACKED = ("tiff_lzw", "tiff_adobe_deflate", "jpeg")
HELD = {
    "jpeg": lambda block: after_start(segment(0xE1, b"Exif\0\0" + block)),
    "png": lambda block: png(png_chunk(b"eXIf", block)),
    "png behind": lambda block: png(after=png_chunk(b"eXIf", block)),
    "webp": lambda block: encode(photo(), "WEBP", exif=block),
    "webp with a prefix": lambda block: encode(photo(), "WEBP", exif=b"Exif\0\0" + block),
}


@pytest.mark.parametrize("container", HELD)
def test_orientation_of_every_container(container: str) -> None:
    for endian, start in (("<", b"II*\0"), (">", b"MM\0*")):
        for held in range(10):
            entries = struct.pack(f"{endian}HHHIIHHIHH", 2, 0x010F, 2, 9, 8, 0x0112, 3, 1, held, 0)
            block = start + struct.pack(f"{endian}I", 8) + entries + bytes(4)
            assert reduced_picture(HELD[container](block)).orientation == (
                held if 1 <= held <= 8 else 1
            )


@pytest.mark.parametrize(
    "block",
    [
        b"",
        b"II",
        b"II*\0",
        b"II*\0\x08\0\0\0",
        b"XX*\0\x08\0\0\0\1\0",
        b"II*\0\xff\xff\xff\xff",
        b"MM\0*\0\0\0\x08\xff\xff",
        exif.block_of(6) + bytes(exif.MAX_BLOCK),
        exif.block_of(6)[:-6],
        exif.block_of(6).replace(b"\1\x12\0\3\0\0\0\1", b"\1\x12\0\3\0\0\0\x09"),
    ],
)
def test_damaged_or_huge_exif_is_upright(block: bytes) -> None:
    assert exif.orientation(block) == 1


def test_own_exif_block_is_read_by_pillow() -> None:
    for held in range(1, 9):
        assert exif.orientation(exif.block_of(held)) == held
        read = Image.Exif()
        read.load(exif.block_of(held))
        assert dict(read) == {0x0112: held}


def test_formats_that_are_not_accepted_are_left_to_the_reason() -> None:
    with pytest.raises(BadImage, match="TIFF; expected a JPEG"):
        decode(tiff(bytes(4096), *[(40_000, 3, 1, 1)] * 5000), formats=FORMATS)


def test_every_truncation_is_bad_or_a_picture() -> None:
    refused = 0
    for make, _ in ODD.values():
        data = make()
        places = range(0, len(data), max(1, len(data) // 40))
        for end in places:
            try:
                decode(data[:end])
            except BadImage:
                refused += 1
    assert refused > 1500  # what is left out at the end can be metadata, or the mark of the end


def test_without_metadata_keeps_the_pixels_and_nothing_else(tmp_path: Path) -> None:
    held = Image.Exif()
    held[0x0112], held[0x010F] = 6, "SECRET maker"
    held.get_ifd(0x8825)[1] = "SECRET place"
    photographed = jpeg(
        exif=held.tobytes(), comment=b"SECRET comment", icc_profile=b"SECRET icc", xmp=b"SECRET xmp"
    )
    thumbnail = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\2\2" + b"SECRETSECRET")
    text = partial(png_chunk, b"tEXt")
    cases = {
        "a.jpg": photographed + b"SECRET behind",
        "b.jpeg": before_end(
            segment(0xE1, b"Exif\0\0SECRET") + segment(0xFE, b"SECRET"), progressive=True
        ),
        "c.jpg": jpeg()[:2] + thumbnail + jpeg()[20:],
        "d.jpg": encode(
            photo(),
            "MPO",
            save_all=True,
            append_images=[photo()],
            comment=b"SECRET",
            exif=held.tobytes(),
        ),
        "e.jpg": encode(photo().convert("CMYK"), "JPEG", comment=b"SECRET", exif=held.tobytes()),
        "f.png": png(text(b"k\0SECRET"), text(b"k\0SECRET")) + b"SECRET",
        "g.webp": encode(photo(), "WEBP", exif=held.tobytes(), xmp=b"SECRET"),
        "h.gif": encode(photo(), "GIF", comment=b"SECRET"),
        "i.jpg": before_end(segment(0xFE, b"c") + b"SECRET junk"),
    }
    for name, data in cases.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert b"SECRET" in data
        suffix, clean = without_metadata(path)
        assert b"SECRET" not in clean, name
        assert suffix == (".jpg" if name[0] in "abcde" else ".png"), name
        assert np.array_equal(decode(clean), decode(path)), name
        assert without_metadata(data) == (suffix, clean)
        with Image.open(io.BytesIO(clean)) as picture:
            assert picture.format == ("JPEG" if suffix == ".jpg" else "PNG")
            assert set(picture.getexif()) <= {0x0112}


def test_only_bad_image_escapes_from_mutants_and_all_are_cheap() -> None:
    found = fuzz_pictures(1000, seed=7)
    assert found.wrong == []
    assert found.decoded > 50
    assert found.refused > 50
