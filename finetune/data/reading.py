"""One reading of a picture of the data; without torch, which each of the processes that read would
load for it."""

import hashlib
from pathlib import Path
from typing import NamedTuple

from zoo.files.folders import read_regular
from zoo.host.errors import BadImage
from zoo.picture.decoding import decode_and_measure
from zoo.picture.opened import MAX_BYTES


class MeasuredPicture(NamedTuple):
    """Holds what one reading of a picture tells."""

    sha256: str
    width: int
    height: int
    bits_used: int
    """As `zoo.picture.decoding.Decoded` has it."""


def read_picture(path: Path) -> MeasuredPicture | str:
    """Say what a picture is, or the reason why it cannot be read. Only regular files are opened,
    and none that is larger than the decoder's limit."""
    try:
        content = read_regular(path, MAX_BYTES)
        decoded = decode_and_measure(content, name=str(path))
    except BadImage as error:
        return error.reason
    picture = decoded.picture
    return MeasuredPicture(
        hashlib.sha256(content).hexdigest(), picture.width, picture.height, decoded.bits_used
    )
