"""What a PyTorch pickle describes, found without running it: an interpreter of the instructions that torch.save writes.

Tensors and storages are descriptions here (which storage, where in it); no name is ever looked up or called.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

MOST_STEPS = 1_500_000
"""Instructions; 50,000 tensors need 30 each."""
MOST_TEXT = 1 << 16
"""Bytes of one piece of text."""
MOST_KEY = 512
"""Characters of a key, such as a tensor's name."""
DEFINITELY_INT = 1 << 31
"""Keys that are numbers lie below it: larger ones can be chosen so that all of them hash alike."""
LARGEST = 1 << 62
"""Of a length, an offset or a stride: they are 64-bit numbers in torch."""
NEW_DICT = "collections.OrderedDict"
NAMES = frozenset({NEW_DICT, "torch.Size", "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2",
                   "torch._utils._rebuild_parameter"})
"""The names that a pickle may use, besides those of storages: none of them is called."""


class Broken(Exception):
    """A file that is not what torch writes. `code`: the name that it wanted to be called, if that is the reason."""

    def __init__(self, reason: str, code: str | None = None):
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True)
class Name:
    """A function or class, by its text."""

    text: str


@dataclass(frozen=True)
class Storage:
    """A run of numbers in the file."""

    key: str
    kind: str
    """torch's name of its class without "Storage": Float, Long, ..."""
    count: int
    """Numbers in it."""


@dataclass(frozen=True, eq=False)
class Described:
    """What one pickle says."""

    value: Any
    """Numbers, text, None, `DescribedTensor`, and dicts, lists and tuples of them."""
    storages: dict[str, Storage] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class DescribedTensor:
    """A dense tensor: a part of a storage."""

    storage: Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


MARK = object()
"""Where the parts of a collection begin on the stack."""


def describe(data: bytes, at: int = 0) -> tuple[Described, int]:
    """What the pickle at this place says, and where it ends. Raises `Broken`."""
    machine = _Machine(data, at)
    try:
        value = machine.run()
    except (IndexError, struct.error, UnicodeDecodeError, TypeError, ValueError, KeyError) as error:
        raise Broken(f"its description is damaged: {type(error).__name__}") from None
    return Described(value, machine.storages), machine.at


class _Machine:
    """A stack and a memory; each instruction takes from the stack and puts something on it."""

    def __init__(self, data: bytes, at: int):
        self.data, self.at = data, at
        self.stack: list[Any] = []
        self.memory: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def run(self) -> Any:
        for _ in range(MOST_STEPS):
            code = self.take(1)
            if code == b".":
                if len(self.stack) != 1 or self.stack[0] is MARK:
                    raise Broken("its description does not end in one value")
                return self.stack[0]
            step = STEPS.get(code)
            if step is None:
                raise Broken(f"its description uses the instruction {code!r}, which torch does not write")
            step(self)
        raise Broken(f"its description has more than {MOST_STEPS:,} instructions")

    def take(self, count: int) -> bytes:
        part = self.data[self.at:self.at + count]
        if len(part) < count:
            raise Broken("its description is cut off")
        self.at += count
        return part

    def number(self, count: int, *, signed: bool = False) -> int:
        return int.from_bytes(self.take(count), "little", signed=signed)

    def line(self) -> str:
        end = self.data.find(b"\n", self.at, self.at + MOST_KEY)
        if end < 0:
            raise Broken("a name in its description has no end")
        return self.take(end + 1 - self.at)[:-1].decode("ascii")

    def text(self, length: int) -> str:
        if length > MOST_TEXT:
            raise Broken(f"a text of {length:,} bytes")
        return self.take(length).decode("utf-8")

    def since_mark(self) -> list[Any]:
        """The values above the last mark, taken off with it."""
        for place in range(len(self.stack) - 1, -1, -1):
            if self.stack[place] is MARK:
                values = self.stack[place + 1:]
                del self.stack[place:]
                return values
        raise Broken("its description has no beginning of a collection")

    def pop(self) -> Any:
        value = self.stack.pop()
        if value is MARK:
            raise Broken("its description ends a collection that it did not fill")
        return value


def _push(make: Callable[[_Machine], Any]) -> Callable[[_Machine], None]:
    def step(machine: _Machine) -> None:
        machine.stack.append(make(machine))

    return step


def _last(machine: _Machine, count: int) -> tuple[Any, ...]:
    values = [machine.pop() for _ in range(count)]
    return tuple(reversed(values))


def _long(machine: _Machine) -> int:
    length = machine.number(1)
    if length > 10:  # torch's magic number has as many bytes
        raise Broken(f"a number of {length} bytes")
    return machine.number(length, signed=True)


def _name(machine: _Machine) -> Name:
    module, name = machine.line(), machine.line()
    full = f"{module}.{name}"
    is_storage = module in ("torch", "torch.storage") and name.endswith("Storage") and name.isalnum()
    if full not in NAMES and not is_storage:
        shown = full if full.isprintable() else ascii(full)
        raise Broken("code", code=shown[:100])
    return Name(full)


def _remember(machine: _Machine, place: int) -> None:
    machine.memory[place] = machine.stack[-1]


def _set_items(machine: _Machine, pairs: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, dict) or len(pairs) % 2:
        raise Broken("it adds a pair to something that is not a dict")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        text = isinstance(key, str) and len(key) <= MOST_KEY
        count = isinstance(key, int) and abs(key) < DEFINITELY_INT
        if not text and not count:
            raise Broken(f"a key is neither text of at most {MOST_KEY} characters nor a small number")
        target[key] = value


def _extend(machine: _Machine, values: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, list):
        raise Broken("it adds a value to something that is not a list")
    target.extend(values)


def _build(machine: _Machine) -> None:
    """A state dict's `_metadata`: versions of layers, which nothing here reads."""
    state = machine.pop()
    if not isinstance(state, dict) or not isinstance(machine.stack[-1], dict):
        raise Broken("it sets attributes of something that is not a dict")


def _call(machine: _Machine) -> Any:
    """What the named function would make, described."""
    arguments, called = machine.pop(), machine.pop()
    if not isinstance(called, Name) or not isinstance(arguments, tuple):
        raise Broken("it calls something that is not a function")
    if called.text == NEW_DICT:
        return _dict(machine, arguments)
    if called.text == "torch.Size":
        return _lengths(*arguments)
    if called.text == "torch._utils._rebuild_parameter":
        return _checked_tensor(arguments[0])
    if called.text.startswith("torch._utils._rebuild_tensor"):
        storage, offset, size, stride = arguments[:4]
        if not isinstance(storage, Storage) or not _is_length(offset) or len(size) != len(stride):
            raise Broken("a tensor without a storage, or with a wrong place in it")
        return DescribedTensor(storage, offset, _lengths(size), _lengths(stride))
    raise Broken("code", code=f"{called.text}()")  # a storage of any size, for example


def _dict(machine: _Machine, arguments: tuple[Any, ...]) -> dict[Any, Any]:
    """An OrderedDict: empty, or of a list of pairs as Python 2 wrote it."""
    machine.stack.append({})
    if arguments:
        _set_items(machine, [part for key, value in arguments[0] for part in (key, value)])
    return machine.pop()


def _checked_tensor(value: Any) -> DescribedTensor:
    if not isinstance(value, DescribedTensor):
        raise Broken("a parameter without a tensor")
    return value


def _is_length(value: Any) -> bool:
    return type(value) is int and 0 <= value < LARGEST


def _lengths(values: Any) -> tuple[int, ...]:
    if not isinstance(values, tuple) or not all(_is_length(value) for value in values):
        raise Broken("a tensor's shape is not made of numbers from 0 on")
    return values


def _storage(machine: _Machine) -> Storage:
    """('storage', class, key, device, count), and for files before torch 1.6 the part of it that is meant (None)."""
    word, kind, key, _, count, *view = machine.pop()
    if word != "storage" or not isinstance(kind, Name) or not _is_length(count) or view not in ([], [None]):
        raise Broken("it names a storage in another form than torch does")
    if not isinstance(key, str) or not key.isalnum() or len(key) > 40:
        raise Broken("the name of a storage is not a number")
    storage = Storage(key, kind.text.rpartition(".")[2].removesuffix("Storage"), count)
    if machine.storages.setdefault(key, storage) != storage:
        raise Broken("one storage has two sizes or types")
    return machine.storages[key]


def _protocol(machine: _Machine) -> None:
    if machine.number(1) != 2:
        raise Broken("its description is not of pickle protocol 2, which torch writes")


STEPS: dict[bytes, Callable[[_Machine], None]] = {
    b"\x80": _protocol,
    b"(": _push(lambda machine: MARK),
    b"}": _push(lambda machine: {}),
    b"]": _push(lambda machine: []),
    b")": _push(lambda machine: ()),
    b"N": _push(lambda machine: None),
    b"\x88": _push(lambda machine: True),
    b"\x89": _push(lambda machine: False),
    b"J": _push(lambda machine: machine.number(4, signed=True)),
    b"K": _push(lambda machine: machine.number(1)),
    b"M": _push(lambda machine: machine.number(2)),
    b"\x8a": _push(_long),
    b"G": _push(lambda machine: struct.unpack(">d", machine.take(8))[0]),
    b"X": _push(lambda machine: machine.text(machine.number(4))),
    b"U": _push(lambda machine: machine.text(machine.number(1))),
    b"c": _push(_name),
    b"Q": _push(_storage),
    b"h": _push(lambda machine: machine.memory[machine.number(1)]),
    b"j": _push(lambda machine: machine.memory[machine.number(4)]),
    b"q": lambda machine: _remember(machine, machine.number(1)),
    b"r": lambda machine: _remember(machine, machine.number(4)),
    b"t": _push(lambda machine: tuple(machine.since_mark())),
    b"\x85": _push(lambda machine: _last(machine, 1)),
    b"\x86": _push(lambda machine: _last(machine, 2)),
    b"\x87": _push(lambda machine: _last(machine, 3)),
    b"s": lambda machine: _set_items(machine, list(_last(machine, 2))),
    b"u": lambda machine: _set_items(machine, machine.since_mark()),
    b"a": lambda machine: _extend(machine, [machine.pop()]),
    b"e": lambda machine: _extend(machine, machine.since_mark()),
    b"b": _build,
    b"R": _push(_call),
}
"""Instruction -> what it does; their names are in Python's `pickletools`."""
