"""What every check needs of each picture, from one decode of it: perceptual hashes, colours,
sharpness, and what its file says besides its pixels."""

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from finetune.checks import packages
from finetune.checks.camera import camera
from finetune.data.dataset import Data
from finetune.data.picture_columns import Picture
from zoo.files.folders import picture_bytes
from zoo.files.same_paths import located
from zoo.host import console
from zoo.host.errors import BadImage, UserError
from zoo.picture.decoding import decode

PROCESSES_FROM = 5_000
"""Pictures from which several processes measure faster than one."""
SIDE = 128
"""Longest side, in pixels, of the copy that is measured."""
COARSE = 6
"""Pixels of a side of the smallest copies, which tell only which pictures are worth comparing."""
PARTS = 10
BORDER = 0.04
"""Width of the border, as a share of the side."""
_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG": "PNG", b"BM": "BMP", b"GIF8": "GIF", b"II*\0": "TIFF",
    b"MM\0*": "TIFF", b"RIFF": "WebP",
}  # fmt: skip


class PictureMeasures(NamedTuple):
    """Holds the measures of one picture."""

    hash: int
    """Perceptual hash (`imagehash.phash`), 64 bits."""
    mirrored_hash: int
    """The same of the picture flipped from left to right."""
    mean: tuple[float, float, float]
    """Mean colour without the border, RGB from 0 to 255."""
    border: tuple[float, float, float]
    """The same of the outermost pixels."""
    border_spread: float
    """Standard deviation of the grey values of the outermost pixels."""
    contrast: float
    """Standard deviation of the grey values."""
    detail: float
    """Variance of the Laplacian over that of the grey values: low where a picture is blurred."""
    format: str
    camera: str
    """Maker and model in EXIF; empty where there are none."""
    parts: np.ndarray
    """uint8 [PARTS, COARSE * COARSE * 3]: the whole picture, then parts of 80 % of its sides, at a
    few pixels' size."""


@dataclass(frozen=True)
class Measures:
    """The same of all pictures, as arrays in their order."""

    hash_N: np.ndarray
    """uint64 [N]."""
    mirrored_hash_N: np.ndarray
    """uint64 [N]."""
    mean_N3: np.ndarray
    border_N3: np.ndarray
    border_spread_N: np.ndarray
    contrast_N: np.ndarray
    detail_N: np.ndarray
    formats: tuple[str, ...]
    cameras: tuple[str, ...]
    parts_NPD: np.ndarray
    """uint8 [N, PARTS, COARSE * COARSE * 3]."""


def open_picture(data: Data, picture: Picture) -> tuple[bytes, Image.Image]:
    """Read a picture of the data: (its bytes, decoded); `UserError` if it changed since the
    scan."""
    return _opened(located(data.root, picture.path), picture.sha256)


def _opened(path: Path, sha256: str) -> tuple[bytes, Image.Image]:
    try:
        content = picture_bytes(path, sha256)
        return content, decode(content, name=str(path))
    except BadImage as error:
        raise UserError(
            f"a picture changed while it was checked: {error}. Start the check again."
        ) from None


def measure_all(data: Data, processes: int) -> Measures:
    """Measure each picture of the data, in several processes where starting them pays."""
    packages.require("imagehash")
    jobs = [(located(data.root, picture.path), picture.sha256) for picture in data.pictures]
    rows = []
    with console.bar("measuring pictures", len(jobs)) as advance:
        for row in _measured(jobs, processes):
            rows.append(row)
            advance(1)
    columns = PictureMeasures(*zip(*rows, strict=True))  # type: ignore[arg-type]
    return Measures(
        np.array(columns.hash, np.uint64),
        np.array(columns.mirrored_hash, np.uint64),
        np.array(columns.mean, np.float32),
        np.array(columns.border, np.float32),
        np.array(columns.border_spread, np.float32),
        np.array(columns.contrast, np.float32),
        np.array(columns.detail, np.float32),
        tuple(columns.format),
        tuple(columns.camera),
        np.stack([row.parts for row in rows]),
    )


def _measured(jobs: Sequence[tuple[Path, str]], processes: int) -> Iterator[PictureMeasures]:
    if processes == 1 or len(jobs) < PROCESSES_FROM:
        yield from map(measure_picture, jobs)
        return
    # not threads, because decoding holds the GIL
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(measure_picture, jobs, chunksize=250)


def measure_picture(job: tuple[Path, str]) -> PictureMeasures:
    """Measure the picture at a path with this sha256."""
    content, picture = _opened(*job)
    small = reduced(picture, SIDE)
    pixels_HW3 = np.asarray(small, np.float32)
    grey_HW = pixels_HW3.mean(2)
    outer_HW = border_mask(grey_HW.shape)
    inner_HW = ~outer_HW
    if not inner_HW.any():
        inner_HW = outer_HW
    return PictureMeasures(
        perceptual_hash(small),
        perceptual_hash(small.transpose(Image.Transpose.FLIP_LEFT_RIGHT)),
        tuple(pixels_HW3[inner_HW].mean(0).tolist()),
        tuple(pixels_HW3[outer_HW].mean(0).tolist()),
        float(grey_HW[outer_HW].std()),
        float(grey_HW.std()),
        detail(grey_HW),
        _SIGNATURES.get(content[:3]) or _SIGNATURES.get(content[:4]) or _other(content),
        camera(content),
        coarse_parts(small),
    )


def _other(content: bytes) -> str:
    return _SIGNATURES.get(content[:2], "other")


def reduced(picture: Image.Image, side: int) -> Image.Image:
    """Copy a picture to at most `side` pixels; a smaller one keeps its size."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.BOX, reducing_gap=2.0)
    return small


def perceptual_hash(picture: Image.Image) -> int:
    """Compute the 64 bits of `imagehash.phash`."""
    import imagehash

    bits = imagehash.phash(picture).hash
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def coarse_parts(picture: Image.Image) -> np.ndarray:
    """Make the smallest copies, of the picture and of nine parts of 80 % of its sides: uint8
    [PARTS, COARSE * COARSE * 3]."""
    width, height = picture.size
    boxes = [(0.0, 0.0, float(width), float(height))]
    for down in (0.0, 0.1, 0.2):
        for right in (0.0, 0.1, 0.2):
            begin = (right * width, down * height)
            boxes.append((*begin, begin[0] + 0.8 * width, begin[1] + 0.8 * height))
    copies = []
    for box in boxes:
        copy = picture.resize((COARSE, COARSE), Image.Resampling.BILINEAR, box=box)
        copies.append(np.asarray(copy))
    return np.stack(copies).reshape(PARTS, -1)


def border_mask(shape: tuple[int, ...]) -> np.ndarray:
    """Mark the outermost pixels of a picture: bool [H, W]."""
    height, width = shape
    wide = max(1, round(BORDER * min(height, width)))
    mask = np.ones((height, width), bool)
    mask[wide : height - wide, wide : width - wide] = False
    return mask


def detail(grey_HW: np.ndarray) -> float:
    """Divide the variance of the Laplacian by that of the grey values, 0 where these are all the
    same."""
    spread = float(grey_HW.var())
    if min(grey_HW.shape) < 3 or spread < 1e-6:
        return 0.0
    middle = grey_HW[1:-1, 1:-1]
    laplacian = grey_HW[:-2, 1:-1] + grey_HW[2:, 1:-1] + grey_HW[1:-1, :-2] + grey_HW[1:-1, 2:]
    return float((laplacian - 4 * middle).var()) / spread
