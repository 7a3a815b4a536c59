"""MATLAB files of version 5 from strangers: sizes are looked at before scipy takes memory for them.

scipy unpacks compressed variables whole, and makes arrays as large as their headers say before it
reads what is there. The format: https://www.mathworks.com/help/pdf_doc/matlab/matfile_format.pdf
"""

import math
import zlib

HEADER = 128
COMPRESSED, MATRIX = 15, 14
CELL, STRUCT = 1, 2
PLAIN = range(4, 16)
"""Classes of arrays of characters and numbers; sparse ones (5) are refused with all the others."""
SPARSE = 5
MOST_DEPTH = 8
"""Structures within structures."""


def check_unpacked_size(content: bytes, *, most: int) -> None:
    """Raise `ValueError` unless this is a MATLAB file whose variables unpack to at most `most`
    bytes, and are as large as their headers say."""
    if len(content) < HEADER or content[124:128] != b"\0\1IM":
        raise ValueError("no MATLAB file of version 5")
    at, left = HEADER, most
    while at < len(content):
        kind, start, end = _element(content, at, len(content))
        variable = content[start:end]
        if kind == COMPRESSED:
            # a byte more than is allowed is enough to refuse it
            variable = zlib.decompressobj().decompress(variable, left + 1)
            left -= len(variable)
        if left < 0:
            raise ValueError(f"variables that unpack to more than {most:,} bytes")
        if kind == COMPRESSED:
            kind, inner, inner_end = _element(variable, 0, len(variable))
            variable = variable[inner:inner_end]
        if kind != MATRIX:
            raise ValueError(f"a variable of type {kind}")
        _check_matrix(variable, 0, len(variable), MOST_DEPTH)
        at = end


def _element(data: bytes, at: int, stop: int) -> tuple[int, int, int]:
    """Return the type of the element at this place, and where its bytes begin and end. Types and
    lengths have four bytes each, or two each where there are at most four bytes of data."""
    if at + 8 > stop:
        raise ValueError("an element that is cut off")
    kind, length = (int.from_bytes(data[place : place + 4], "little") for place in (at, at + 4))
    if kind >> 16:
        return kind & 0xFFFF, at + 4, at + 4 + min(4, kind >> 16)
    if length > stop - at - 8:
        raise ValueError("an element that is longer than the file")
    return kind, at + 8, at + 8 + length


def _next(end: int) -> int:
    """Round up to where the next part begins: parts of an array begin at multiples of 8."""
    return -(-end // 8) * 8


def _check_matrix(data: bytes, at: int, stop: int, depth: int) -> None:
    """Check an array: flags, dimensions, name, then the content: numbers, or one array for each
    cell or for each field of each row."""
    if at == stop:
        return  # an empty array
    if depth == 0:
        raise ValueError("structures that are nested too deep")
    _, start, end = _element(data, at, stop)
    kind = data[start]
    _, start, end = _element(data, _next(end), stop)
    lengths = [
        int.from_bytes(data[place : place + 4], "little", signed=True)
        for place in range(start, end, 4)
    ]
    count = math.prod(lengths)
    if (
        not 2 <= len(lengths) <= 8
        or min(lengths) < 0
        # lengths of 0 apart, which would hide how large the others are
        or math.prod(map(max, lengths, [1] * len(lengths))) > stop - at
    ):
        raise ValueError("an array that is larger than its bytes")
    _, _, end = _element(data, _next(end), stop)  # its name
    if kind == STRUCT:
        _, width, end = _element(data, _next(end), stop)
        each = int.from_bytes(data[width : width + 4], "little")
        _, names, end = _element(data, _next(end), stop)
        if each < 1:
            raise ValueError("a structure without names")
        count *= (end - names) // each
    if kind not in (CELL, STRUCT) and (kind not in PLAIN or kind == SPARSE):
        raise ValueError(f"an array of class {kind}")
    if kind in (CELL, STRUCT):
        _check_cells(data, _next(end), stop, (count, depth))


def _check_cells(data: bytes, at: int, stop: int, expected: tuple[int, int]) -> None:
    count, depth = expected
    # the shortest array has eight bytes
    if count > (stop - at) // 8:
        raise ValueError("a structure that is larger than its bytes")
    for _ in range(count):
        kind, start, end = _element(data, at, stop)
        if kind != MATRIX:
            raise ValueError(f"a part of type {kind} in a structure")
        _check_matrix(data, start, end, depth - 1)
        at = _next(end)
