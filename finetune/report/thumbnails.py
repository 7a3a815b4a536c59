"""Pictures within the page: small, embedded, and with the heat map of an answer laid over what the
network saw."""

import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from finetune.report.page import bdi, fill, join
from zoo.files.folders import picture_bytes
from zoo.host.errors import BadImage
from zoo.picture import heat as heat_maps
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing, resize_crop

THUMBNAIL = 192
"""Longest side of an embedded picture in pixels, twice what is shown (for dense screens)."""
SMALL = 96
"""The same where many stand in a row."""


def thumbnail(path: Path, sha256: str, size: int = THUMBNAIL) -> Markup:
    """Embed a picture as a WebP of at most `size` pixels; its file name if its bytes have changed
    or cannot be read."""
    try:
        picture = decode(picture_bytes(path, sha256), name=str(path))
    except BadImage:
        return fill('<span class="gone">{}<br>cannot be read any more</span>', bdi(path.name))
    return _embedded(picture, size)


def with_heat(
    path: Path, sha256: str, heat: Sequence[Sequence[float]], pre: Preprocessing
) -> Markup:
    """Embed a picture, and beside it what the network saw of it with its heat map (rows from the
    top, values 0 to 1)."""
    try:
        picture = decode(picture_bytes(path, sha256), name=str(path))
    except BadImage:
        return thumbnail(path, sha256)
    # cut as for the network, though in the size that is shown
    input_SS3 = resize_crop(picture, replace(pre, size=THUMBNAIL))
    heated = Image.fromarray(heat_maps.overlay(input_SS3, np.array(heat, np.float32)))
    return join((_embedded(picture, THUMBNAIL), _webp(heated, "heat", lossless=False)))


def _embedded(picture: Image.Image, size: int) -> Markup:
    # a picture of few pixels is shown enlarged, where a lossy one would be a blur
    tiny = max(picture.size) < size // 2
    # `thumbnail` changes the picture that it is called on
    small = picture.copy()
    small.thumbnail((size, size))
    return _webp(small, "tiny" if tiny else "", lossless=tiny)


def _webp(picture: Image.Image, css: str, *, lossless: bool) -> Markup:
    buffer = io.BytesIO()
    # WebP, because two dozen pictures and more are embedded in one page
    picture.save(buffer, "WEBP", quality=80, lossless=lossless)
    return fill(
        '<img class="{}" src="data:image/webp;base64,{}" alt="">',
        css,
        base64.b64encode(buffer.getvalue()).decode(),
    )
