"""Large JPEGs are decoded at a part of their size that follows from the picture alone; what they
cost is bounded."""

import io
import struct
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, JpegImagePlugin

from serve.engine.decoder import FORMATS, decode_upload
from tests.bad_pictures import encode
from tests.zoo.costs import peak_of
from tests.zoo.jpeg_scans import many_scans
from zoo.host.errors import BadImage
from zoo.picture import jpeg_file
from zoo.picture.decoding import decode, without_metadata


@cache
def grey(width: int, height: int) -> bytes:
    return encode(Image.new("L", (width, height), 90), "JPEG")


@cache
def blurred(
    width: int, height: int, *, kind: str = "JPEG", held: int = 1, progressive: bool = False
) -> bytes:
    """Blurred noise in colour."""
    tile = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 30, 3), np.uint8)).resize(
        (480, 480)
    )
    row = np.tile(np.asarray(tile), (1, -(-width // 480), 1))[:, :width]
    picture = Image.fromarray(np.tile(row, (-(-height // 480), 1, 1))[:height])
    exif = Image.Exif()
    exif[0x0112] = held
    frames: dict[str, object] = (
        {"save_all": True, "append_images": [Image.new("RGB", (9, 9))]} if kind == "MPO" else {}
    )
    return encode(picture, kind, exif=exif.tobytes(), quality=60, progressive=progressive, **frames)


def claims(width: int, height: int, data: bytes) -> bytes:
    """A JPEG whose header gives another size."""
    place = data.index(b"\xff\xc0") if b"\xff\xc0" in data else data.index(b"\xff\xc2")
    return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]


@pytest.mark.parametrize(("stored", "decoded"), [
    ((6250, 4000), (6250, 4000)), ((6252, 4000), (3126, 2000)), ((4000, 6253), (2000, 3127)),
    ((8064, 6048), (4032, 3024)), ((8160, 6144), (4080, 3072)), ((12000, 9000), (3000, 2250)),
    ((16382, 3628), (8191, 1814)),  # a panorama of a phone
    ((22000, 1500), (22000, 1500)),  # 33 million pixels, whose short side would fall to 750
    # too many pixels to be decoded in full
    ((26000, 2000), (13000, 1000)), ((24600, 4090), (6150, 1023)),
])  # fmt: skip
def test_a_large_jpeg_is_decoded_at_a_part_of_its_size(
    stored: tuple[int, int], decoded: tuple[int, int]
) -> None:
    picture = decode(grey(*stored))
    assert (picture.size, picture.mode, picture.getpixel((5, 5))) == (decoded, "RGB", (90, 90, 90))


@given(st.integers(1, 65535), st.integers(1, 65535))
def test_the_part_follows_from_the_picture_alone(width: int, height: int) -> None:
    part = jpeg_file.scale(width, height)
    sides = jpeg_file.scaled(width, part), jpeg_file.scaled(height, part)
    assert part == jpeg_file.scale(height, width)
    if width * height <= jpeg_file.FULL_PIXELS:
        assert part == 1
    elif part > 1:
        assert 6_250_000 < sides[0] * sides[1] <= jpeg_file.FULL_PIXELS
        assert min(sides) >= jpeg_file.LEAST_SIDE or width * height > jpeg_file.MOST_IN_FULL
        assert (
            jpeg_file.scaled(width, part // 2) * jpeg_file.scaled(height, part // 2)
            > jpeg_file.FULL_PIXELS
        )
        if max(width, height) * 3 <= 4 * min(width, height):
            assert min(sides) >= 2165


@pytest.mark.parametrize(("kind", "progressive"), [("JPEG", True), ("MPO", False)])
def test_pixels_are_libjpegs_and_the_same_everywhere(
    kind: str, progressive: bool, tmp_path: Path
) -> None:
    """Training reads the path, a service the bytes, a bundle's examples lack metadata."""
    data = blurred(5800, 4400, kind=kind, held=6, progressive=progressive)
    expected = JpegImagePlugin.JpegImageFile(io.BytesIO(data))
    expected.draft(None, (2900, 2200))
    pixels = np.rot90(np.asarray(expected), -1)
    (tmp_path / "a.jpg").write_bytes(data)
    assert np.array_equal(np.asarray(decode(tmp_path / "a.jpg")), pixels)
    assert np.array_equal(np.asarray(decode_upload(data, 6_380_000)), pixels)
    suffix, clean = without_metadata(data)
    assert suffix == ".jpg"
    assert np.array_equal(np.asarray(decode(clean)), pixels)


@pytest.mark.parametrize(("progressive", "at_most"), [(False, 130_000_000), (True, 300_000_000)])
def test_fifty_million_pixels_take_little(progressive: bool, at_most: int) -> None:
    data = blurred(8160, 6144, progressive=progressive)
    seconds, taken = peak_of(lambda: decode(data))
    assert taken < at_most
    assert seconds < 4


@pytest.mark.parametrize(("data", "outcome"), [
    (claims(16400, 12300, grey(64, 48)), "too large: 16400 x 12300, at most 200 million pixels of "
                                         "a JPEG are decoded"),
    (claims(45000, 2100, grey(64, 48)), "too elongated: 45000 x 2100"),
    (claims(30000, 2000, grey(64, 48)), "15000 x 1000"),
    (many_scans(14000, 3, components=3), "too costly to decode: a progressive JPEG of 14000 x "
                                         "14000 takes 1176 MB, at"),
    (claims(16320, 12240, grey(64, 48)), "4080 x 3060"),
    (claims(16320, 12240, grey(64, 48)[:-9]), "damaged: image file is truncated"),
], ids=["pixels", "shape", "long", "coefficients", "largest", "truncated"])  # fmt: skip
def test_what_a_header_claims_is_cheap(data: bytes, outcome: str) -> None:
    seen = []

    def attempt() -> None:
        try:
            seen.append("{} x {}".format(*decode(data).size))
        except BadImage as error:
            seen.append(error.reason)

    seconds, taken = peak_of(attempt)
    assert seen[0].startswith(outcome)
    assert seconds < 2
    assert taken < 300_000_000


def test_the_limit_of_a_service_is_on_what_is_decoded() -> None:
    reason = (
        "too large: 8160 x 6144, at 1/2 4080 x 3072, at most 5 million pixels are decoded; "
        "make it smaller"
    )
    with pytest.raises(BadImage, match=reason):
        decode(grey(8160, 6144), max_pixels=5_000_000)
    with pytest.raises(
        BadImage, match=r"progressive JPEG .* at most 224 MB .*save it as a baseline JPEG"
    ):
        decode(many_scans(10_400, 3, components=3), max_pixels=14_000_000, formats=FORMATS)
    other = encode(Image.new("1", (8160, 6144)), "PNG")
    with pytest.raises(
        BadImage,
        match=r"8160 x 6144, at most 50 million pixels .*make it smaller, or save",
    ):
        decode(other)


def test_the_usual_scans_of_a_large_picture_are_not_too_many() -> None:
    data = blurred(1200, 900, progressive=True)
    scans = data.count(b"\xff\xda")
    assert scans == 10
    header = claims(12000, 9000, data)
    assert jpeg_file.reduced_jpeg(header).coefficient_bytes == 2 * 12000 * 9008 * 3 // 2
    with pytest.raises(Exception, match="scans of 192 million pixels; save it as a baseline JPEG"):
        jpeg_file.reduced_jpeg(claims(16000, 12000, data))
