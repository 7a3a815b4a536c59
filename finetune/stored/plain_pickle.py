"""Pickles of arrays, lists and texts, as Python 2 wrote them, without running what they name.

A pickle names functions, which Python's own reader calls. This one carries out the few operations
that arrays need, knows five names, has a stand-in for each, and refuses any other.
"""

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from finetune.sources.plain_tar import shown_member as shown
from zoo.host.errors import UserError, first_line

MOST_BYTES = 1 << 28
"""CIFAR-100's training pictures have 155 MB."""
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = frozenset({"INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "FLOAT", "BINFLOAT"})
VALUES |= {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
VALUES |= {"BINBYTES", "SHORT_BINBYTES", "BINBYTES8"}
"""Operations that push what stands behind them."""
BYTE_TEXTS = frozenset({"STRING", "BINSTRING", "SHORT_BINSTRING"})
"""Texts of Python 2, which are bytes."""
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
PUTS = frozenset({"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"})
GETS = frozenset({"GET", "BINGET", "LONG_BINGET"})
NOTHING = frozenset({"PROTO", "FRAME", "STOP"})


class _Array:
    """Stands for an array of bytes."""

    def take(self, state: Any) -> None:
        """Take shape, type of the values, order and content."""
        self.shape, kind, self.by_column, self.content = state[1:5]
        if not kind.is_bytes:
            raise ValueError("an array of other values than bytes")


class _Type:
    """Stands for the type of an array's values."""

    def __init__(self, code: Any, *_: Any):
        self.is_bytes = code in ("u1", b"u1")

    def take(self, state: Any) -> None:
        """Ignore the order of its bytes, which a type of one byte does not have."""


def _encode(text: str, encoding: str) -> bytes:
    """Stands for `codecs.encode`: Python 3 writes bytes as a text for Python 2."""
    if encoding not in ("latin1", b"latin1"):
        raise ValueError(f"the encoding {encoding!r}")
    return text.encode("latin1")


COLLECTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "LIST": list,
    "TUPLE": tuple,
    "DICT": lambda values: _pairs(values),
}
STAND_INS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy.core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy._core.multiarray", "_reconstruct"): lambda *_: _Array(),
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}
"""The five names, of which the first has two homes, by the version of NumPy."""


class _Reader:
    """Carries out the operations of one pickle: a stack, marks in it, and values that are kept
    under numbers."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def since_mark(self) -> list[Any]:
        """Take what was pushed since the last mark."""
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def step(self, name: str, argument: Any) -> None:
        """Carry out one operation; `ValueError` for one that such a file does not need."""
        if name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in VALUES:
            self.stack.append(argument)
        elif name in BYTE_TEXTS:
            self.stack.append(argument.encode("latin1"))
        elif name in COLLECTIONS:
            self.stack.append(COLLECTIONS[name](self.since_mark()))
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name in TUPLES:
            count = TUPLES[name]
            self.stack[-count:] = [tuple(self.stack[-count:])]
        elif name in PUTS:
            # MEMOIZE has no number of its own
            self.memo[len(self.memo) if argument is None else argument] = self.stack[-1]
        elif name in GETS:
            self.stack.append(self.memo[argument])
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name not in NOTHING:
            self.change(name, argument)

    def change(self, name: str, argument: Any) -> None:
        """Carry out an operation that changes a value, or names or calls a stand-in."""
        if name == "GLOBAL":
            home, _, function = argument.partition(" ")
            if (home, function) not in STAND_INS:
                raise ValueError(f"it names {home}.{function}")
            self.stack.append(STAND_INS[home, function])
        elif name == "REDUCE":
            function, values = self.stack[-2:]
            if not any(function is known for known in STAND_INS.values()):
                raise ValueError("it calls a value")
            self.stack[-2:] = [function(*values)]
        elif name == "BUILD":
            state = self.stack.pop()
            self.stack[-1].take(state)
        elif name in ("APPEND", "APPENDS"):
            values = [self.stack.pop()] if name == "APPEND" else self.since_mark()
            list.extend(self.stack[-1], values)
        elif name in ("SETITEM", "SETITEMS"):
            values = self.since_mark() if name == "SETITEMS" else self.pair()
            dict.update(self.stack[-1], _pairs(values))
        else:
            raise ValueError(f"the operation {name}")

    def pair(self) -> list[Any]:
        """Take the two values on top."""
        values = self.stack[-2:]
        del self.stack[-2:]
        return values


def _pairs(values: list[Any]) -> dict[Any, Any]:
    return dict(zip(values[::2], values[1::2], strict=True))


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
        return {_text(key): _plain(value) for key, value in _content(path).items()}
    except (
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


def _content(path: Path) -> dict[Any, Any]:
    reader = _Reader()
    with open(path, "rb") as file:
        for operation, argument, _ in pickletools.genops(file):
            reader.step(operation.name, argument)
    content = reader.stack.pop()
    if not isinstance(content, dict):
        raise ValueError(f"a {type(content).__name__} instead of a dictionary")
    return content


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
