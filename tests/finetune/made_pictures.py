"""Small class folders of PNGs for tests of the data side."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from zoo.files import tables


def png(number: int, *, size: tuple[int, int] = (8, 6)) -> bytes:
    """A PNG of one colour, RGB = the three bytes of `number`: below 16 million no two numbers give
    the same bytes."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (number >> 16 & 255, number >> 8 & 255, number & 255)).save(
        buffer, "PNG", compress_level=1
    )
    return buffer.getvalue()


def write_classes(
    root: Path, counts: Mapping[str, int], *, size: tuple[int, int] = (8, 6), first: int = 0
) -> Path:
    """Write `root/FOLDER/000.png`, ... for each folder -> number of pictures; no two have the same
    bytes. Gives `root`.

    `first`: the number of the first picture, so that a second call writes other bytes.
    """
    number = first
    for folder, pictures in counts.items():
        (root / folder).mkdir(parents=True, exist_ok=True)
        for i in range(pictures):
            (root / folder / f"{i:03}.png").write_bytes(png(number, size=size))
            number += 1
    return root


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> bytes of every file; folders are listed with empty bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def rows(path: Path) -> list[dict[str, Any]]:
    """A CSV file that may hold names which are not UTF-8."""
    return list(tables.rows(path, ()))
