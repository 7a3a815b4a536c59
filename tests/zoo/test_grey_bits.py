"""Pictures of 16 bits that use few of them decode as before, and are a finding where most of a data
set are so."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.bad_pictures import encode, jpeg, png_chunk, ramp, tiff
from zoo.picture.decoding import decode, decode_and_measure
from zoo.picture.grey_bits import finding


def png_of_16_bits(kind: int, *samples: int) -> bytes:
    """Eight times eight pixels alike; `kind`: 2 is RGB, 4 grey with transparency, 6 RGB with it."""
    row = b"\0" + struct.pack(f">{len(samples)}H", *samples) * 8
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(row * 8))
        + png_chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits", [10, 12, 14, 15, 16])
def test_the_bits_that_are_used_are_measured_and_pixels_stay(bits: int) -> None:
    levels = ramp(np.uint16, 2**bits - 1)
    for content in (encode(Image.fromarray(levels), "PNG"), tiff(levels)):
        decoded = decode_and_measure(content)
        assert decoded.bits_used == bits
        assert np.array_equal(np.asarray(decoded.picture)[..., 0], np.rint(levels / 257))
        assert decoded.picture.tobytes() == decode(content).tobytes()
    top, opaque = 2**bits - 1, 65535
    for content in (
        png_of_16_bits(2, top, 0, top // 2),
        png_of_16_bits(6, top, 0, top // 2, opaque),
        png_of_16_bits(4, top, opaque),
    ):
        assert decode_and_measure(content).bits_used == bits


def test_other_pictures_have_no_such_measure() -> None:
    packed = tiff(np.tile(np.array([0x80, 0x08, 0x00], np.uint8), (48, 32)), width=64, bits=12)
    for content in (
        jpeg(),
        packed,
        tiff(ramp(np.float32, 1), sample_format=3),
        tiff(ramp(np.uint8, 200)),
    ):
        assert decode_and_measure(content).bits_used == -1


def test_the_finding_says_how_dark_and_what_to_do() -> None:
    assert finding([12, 12, 11, -1, -1]) == (
        "3 of 3 pictures of 16 bits are nearly black as decoded: their values end at 4,095 (12 "
        "bits), which is 16 of 255. If that is the range of the device, multiply all values by 16, "
        "here and in every picture that the model is asked about."
    )
    assert "multiply all values by 4," in str(finding([14, 13]))


@pytest.mark.parametrize("bits_used", [[], [-1] * 9, [16, 15], [16, 16, 12], [0, 0]])
def test_no_finding(bits_used: list[int]) -> None:
    assert finding(bits_used) is None
