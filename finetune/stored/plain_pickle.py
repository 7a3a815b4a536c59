"""Pickles of arrays, lists and texts, as Python 2 wrote them, without running what they name.

A pickle names functions, which unpickling calls. This reader knows five names, has a stand-in of
its own for each, and refuses any other; the operations are looked at first, so that no number in
the file asks for memory.
"""

import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from finetune.sources.plain_tar import shown
from zoo.host.errors import UserError, first_line

MOST_BYTES = 1 << 28
"""CIFAR-100's training pictures have 155 MB."""
MOST_MEMO = 1_000_000
"""Highest number under which a pickle may keep a value; CIFAR-100 needs 50,000."""
_NAMES = """
PROTO STOP MARK POP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG1 FLOAT BINFLOAT
STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8
BINBYTES SHORT_BINBYTES BINBYTES8 EMPTY_DICT DICT EMPTY_LIST LIST
EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS
PUT BINPUT LONG_BINPUT MEMOIZE GET BINGET LONG_BINGET GLOBAL REDUCE BUILD FRAME
"""
OPERATIONS = frozenset(_NAMES.split())
"""Operations of a pickle that make values; the others name code or persistent objects."""
MEMO = ("PUT", "BINPUT", "LONG_BINPUT")


class _Array:
    """Stands for an array of bytes."""

    def __setstate__(self, state: Any) -> None:
        self.shape, kind, self.by_column, self.content = state[1:5]
        if not kind.is_bytes:
            raise pickle.UnpicklingError("an array of other values than bytes")


class _Type:
    """Stands for the type of an array's values."""

    def __init__(self, code: Any, *_: Any):
        self.is_bytes = code in ("u1", b"u1")

    def __setstate__(self, state: Any) -> None:
        """Take the order of its bytes, which a type of one byte does not have."""


def _encode(text: str, encoding: str) -> bytes:
    """Stands for `codecs.encode`: Python 3 writes bytes as a text for Python 2."""
    if encoding not in ("latin1", b"latin1"):
        raise pickle.UnpicklingError(f"the encoding {encoding!r}")
    return text.encode("latin1")


STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}
"""The five names, of which the first has two homes, by the version of NumPy."""


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in STAND_INS:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return STAND_INS[module, name]


def read(path: Path) -> dict[str, Any]:
    """Read a dictionary with texts as keys; arrays are uint8.

    `UserError` for a file that is damaged, too large, or names anything but arrays of bytes.
    """
    if path.stat().st_size > MOST_BYTES:
        raise UserError(
            f"{path} has more than {MOST_BYTES:,} bytes: expected a file of CIFAR. Download it "
            "again."
        )
    try:
        _check_operations(path)
        with open(path, "rb") as file:
            content = _Reader(file, encoding="bytes").load()
        return {_text(key): _plain(value) for key, value in content.items()}
    except (
        pickle.UnpicklingError,
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        EOFError,
        OverflowError,
        MemoryError,
    ) as error:
        raise UserError(
            f"{path}: expected a pickle of arrays and texts, as CIFAR is published, seen another "
            f"file ({shown(first_line(error))}). Nothing in it was run; download it again."
        ) from None


def _check_operations(path: Path) -> None:
    """Raise `ValueError` for an operation that such a file does not need."""
    with open(path, "rb") as file:
        argument: Any
        for operation, argument, _ in pickletools.genops(file):
            if operation.name not in OPERATIONS:
                raise ValueError(f"the operation {operation.name}")
            if operation.name in MEMO and int(argument) > MOST_MEMO:
                raise ValueError(f"a value under the number {argument}")
            if operation.name == "GLOBAL" and tuple(argument.split(" ", 1)) not in STAND_INS:
                raise ValueError(f"it names {argument}")


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(entry) for entry in value]
    if not isinstance(value, _Array):
        return _text(value)
    content = value.content
    # Python 2 wrote bytes as its text
    if isinstance(content, str):
        content = content.encode("latin1")
    order = {True: "F", False: "C"}[bool(value.by_column)]
    return np.frombuffer(content, np.uint8).reshape(value.shape, order=order)  # type: ignore[call-overload]
