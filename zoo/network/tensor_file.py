"""The header of a safetensors file, checked before the library or anything else reads it. Needs no
torch.

The library bounds sizes and offsets. Checked here as well: how much a header may hold, names that
stand twice (the last one would count), shapes without numbers but with lengths that overflow later,
and types that no model here has.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.host.errors import UserError

MOST_HEADER_BYTES = 16 << 20
"""timm's largest headers have about 300 kB."""
MOST_TENSORS = 50_000
MOST_NAME = 512
"""Characters of a tensor's name."""
MOST_DIMENSIONS = 8
MOST_NUMBERS = 1 << 36
"""Of a tensor's dimensions multiplied, zeros apart."""
ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Types of tensors -> bytes of a number."""


def check_header(path: Path) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of a safetensors file; `UserError` if its header is not one of
    weights."""
    try:
        return _shapes(path)
    except (ValueError, RecursionError, OSError, MemoryError) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise UserError(
            f"{path}: expected a safetensors file, seen one that cannot be read ({reason}): delete "
            "it and get it again."
        ) from None


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        # 2: `{}` is the shortest header
        if not 2 <= length <= min(MOST_HEADER_BYTES, size - 8):
            raise ValueError(f"a header of {length:,} bytes in a file of {size:,}")
        header = json.loads(file.read(length), object_pairs_hook=_once)
    if not isinstance(header, dict):
        raise ValueError("a header that is no object")
    described = {name: row for name, row in header.items() if name != "__metadata__"}
    if len(described) > MOST_TENSORS:
        raise ValueError(f"{len(described):,} tensors, expected at most {MOST_TENSORS:,}")
    return {name: _shape(name, row, size - 8 - length) for name, row in described.items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in its header")
    return found


def _shape(name: str, row: Any, data_bytes: int) -> tuple[int, ...]:
    if not isinstance(row, Mapping) or len(name) > MOST_NAME:
        raise ValueError("a name that is too long, or without a description")
    kind: Any = row.get("dtype")
    shape: Any = row.get("shape")
    place: Any = row.get("data_offsets")
    if not isinstance(kind, str) or kind not in ITEM_BYTES:
        raise ValueError(
            f"{name[:60]!r} has the type {str(kind)[:20]!r}, expected one of "
            f"{', '.join(ITEM_BYTES)}"
        )
    if (
        not _are_lengths(shape)
        or not _are_lengths(place)
        or len(place) != 2
        or len(shape) > MOST_DIMENSIONS
    ):
        raise ValueError(f"{name[:60]!r} has no proper shape or place")
    count, whole = 1, 1
    for length in shape:
        # with a length of 0 the product is 0, however large the others are
        count, whole = count * length, whole * max(1, length)
    if whole > MOST_NUMBERS:
        raise ValueError(f"{name[:60]!r} has a length that no tensor has")
    if place[1] > data_bytes or place[1] - place[0] != count * ITEM_BYTES[kind]:
        raise ValueError(f"{name[:60]!r} does not lie in the file as its shape says")
    return tuple(shape)


def _are_lengths(value: Any) -> bool:
    return isinstance(value, list) and all(
        # type, not isinstance: True is an int
        type(part) is int and 0 <= part < 1 << 62
        for part in value
    )
