"""Grey of more than 8 bits: how it becomes 8, and what is said where its values use a small part of
the range.

Microscopes, X-ray and depth cameras often write 10, 12 or 14 bits into samples of 16. No file says
so: decoded as what they are called, such pictures are nearly black. They are decoded so all the
same, because one picture alone may just be dark; `finding` tells it where most pictures of a data
set are like that.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image, TiffImagePlugin

from zoo.picture.exif import Refused

MOST_DARK_BITS = 14
"""Pictures whose values all fit into so many bits of 16 are at most a quarter as bright as
white."""
LEAST_SHARE = 0.5
"""Of the 16-bit pictures that must be so dark before it is a finding."""


def as_grey(picture: Image.Image) -> tuple[Image.Image, int]:
    """Grey of 12, 16 or 32 bits as mode L: 16 bits divided by 257, float times 255, both rounded to
    nearest.

    The second value is how many bits the largest sample takes, 0 to 16, of samples of 16 bits; -1
    of all others. Raises `Refused` for values outside the range.
    """
    tags: Mapping[int, Any] = getattr(picture, "tag_v2", {})
    bits = tags.get(TiffImagePlugin.BITSPERSAMPLE, (16,))[0]
    values = np.array(picture)
    low, high = values.min(), values.max()
    used = -1
    if picture.mode == "F":
        # floats have no agreed white: scaled by its own extremes, the same object would differ from
        # picture to picture
        if not (low >= 0 and high <= 1):  # also refuses NaN
            raise Refused(
                f"float values from {low:g} to {high:g}; float pictures must lie between 0 and 1"
            )
        grey = np.rint(values * 255).astype(np.uint8)
    elif bits > 16 or low < 0:
        raise Refused(
            f"integers of {bits} bits from {low} to {high}; save it with 8 or 16 bits, or as float "
            "0 to 1"
        )
    else:
        if bits != 12:
            used = int(high).bit_length()
        grey = _divided_by_257(values, bits)
    # white is zero; Pillow inverts 8 bits only
    if tags.get(TiffImagePlugin.PHOTOMETRIC_INTERPRETATION) == 0:
        grey = 255 - grey
    if "transparency" in picture.info:
        grey[values == picture.info["transparency"]] = 255
    return Image.fromarray(grey), used


def _divided_by_257(values: np.ndarray, bits: int) -> np.ndarray:
    """Samples of 12 or 16 bits -> uint8, rounded to nearest, exactly, without a division."""
    wide = values.astype(np.uint32)
    if bits == 12:
        # the upper bits repeated below, so that 4095 becomes 65535
        wide = np.bitwise_or(wide << 4, wide >> 8, dtype=np.uint32)
    # (255 v + 32895) >> 16 is v / 257 rounded to nearest, for every v of 16 bits
    wide *= 255
    wide += 32895
    wide >>= 16
    return wide.astype(np.uint8)


def finding(bits_used: Sequence[int]) -> str | None:
    """A sentence if most 16-bit pictures of a data set are nearly black, with what to do; else
    None.

    `bits_used`: of each picture of the data, as `zoo.picture.decoding.Decoded` has it.
    """
    deep = [bits for bits in bits_used if bits > 0]  # 0: all black
    dark = [bits for bits in deep if bits <= MOST_DARK_BITS]
    if not dark or len(dark) < LEAST_SHARE * len(deep):
        return None
    most = max(dark)
    brightest = round((2**most - 1) / 257)
    return (
        f"{len(dark)} of {len(deep)} pictures of 16 bits are nearly black as decoded: their values "
        f"end at {2**most - 1:,} ({most} bits), which is {brightest} of 255. If that is the range "
        f"of the device, multiply all values by {2 ** (16 - most)}, here and in every picture that "
        "the model is asked about."
    )
