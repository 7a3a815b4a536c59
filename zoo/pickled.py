"""PyTorch's checkpoint files (`.pt`, `.pth`, `.bin`), read without `torch.load`: tensors, numbers, text, collections.

`torch.load` takes what such a file claims at its word: it allocates a storage before it looks whether the file holds
one, unpacks compressed members, builds sparse tensors whose indices lie outside, and hashes keys of any depth. Here a
file is described first, within bounds, and only what lies in the file takes memory. No code is ever called: the few
names that tensors need are known by their text, and every other name is refused.

    read(path)       the content, tensors on the CPU
    extent(path)     how many tensors and numbers its storages hold; no storage is read

Both forms are read: the zip that torch writes since 1.6 (its members are stored, never compressed) and the one before.
"""

import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from zoo.errors import UserError
from zoo.pickle_machine import Broken, Described, Storage, describe

if TYPE_CHECKING:
    from torch import Tensor

MOST_PICKLE_BYTES = 16 << 20
"""Of the part that names the tensors; timm's largest model with Adam's state and an average needs 2 MB."""
MOST_TENSORS = 50_000
"""timm's largest models have about 2,500; five of each in a checkpoint."""
MOST_DEPTH = 32
"""Collections within collections."""
MOST_DIMENSIONS = 8
MOST_NUMBERS = 1 << 36
"""Of a tensor's dimensions multiplied, zeros apart."""
MOST_NAME = 512
"""Characters of a name."""
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
CHUNK = 8 << 20
UNREADABLE = (zipfile.BadZipFile, EOFError, OSError, RuntimeError, ValueError, OverflowError, MemoryError, struct.error)
"""What zipfile and torch raise for damaged files, and for those that do not fit into memory."""
DTYPES = {"Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Double": "float64", "Long": "int64",
          "Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool"}
"""torch's name of a storage's class, without "Storage" -> dtype."""


def read(path: Path) -> Any:
    """The content of a PyTorch file; `UserError` for one that is damaged, lies about sizes or holds anything else."""
    with _opened(path) as file:
        form = _Zip(file) if _is_zip(file) else _Legacy(file)
        storages = {key: form.filled(storage) for key, storage in form.described.storages.items()}
        return _Builder(storages, os.fstat(file.fileno()).st_size).build(form.described)


def extent(path: Path) -> tuple[int, int]:
    """Storages of a PyTorch file, and the numbers in them; `UserError` as `read`."""
    with _opened(path) as file:
        storages = (_Zip(file) if _is_zip(file) else _Legacy(file)).described.storages
        return len(storages), sum(storage.count for storage in storages.values())


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    try:
        with open(path, "rb") as file:
            yield file
    except (Broken, *UNREADABLE) as error:
        if isinstance(error, Broken) and error.code:
            raise UserError(f"{path} is refused: expected a PyTorch file with tensors only, seen the code "
                            f"{error.code}. It was not run. Use a safetensors file, or another base.") from None
        reason = " ".join(str(error).split())[:200] or "no details"
        raise UserError(f"{path}: expected a PyTorch file, seen one that cannot be read ({reason}): delete it and get "
                        "it again.") from None


def _is_zip(file: IO[bytes]) -> bool:
    return file.read(4) == b"PK\x03\x04"


class _Zip:
    """The form since torch 1.6: a member describes the tensors, and each storage is a member."""

    def __init__(self, file: IO[bytes]):
        size = os.fstat(file.fileno()).st_size
        _check_directory(file, size)
        self._archive = zipfile.ZipFile(file)
        self._members = _checked_members(self._archive, size)
        content = [name for name in self._members if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(content) != 1:
            raise Broken("it has no data.pkl")
        self._root = content[0].removesuffix("data.pkl")
        order = self._members.get(f"{self._root}byteorder")
        if order and (order.file_size > 10 or self._archive.read(order) != b"little"):
            raise Broken("it is not from a little-endian machine")
        if self._members[content[0]].file_size > MOST_PICKLE_BYTES:
            raise Broken(f"its description has {self._members[content[0]].file_size:,} bytes")
        self.described, _ = describe(self._archive.read(self._members[content[0]]))
        for storage in self.described.storages.values():
            member = self._members.get(self._name(storage))
            if member is None or member.file_size != _size_bytes(storage):
                raise Broken(f"storage {storage.key!r} should have {_size_bytes(storage):,} bytes")

    def _name(self, storage: Storage) -> str:
        return f"{self._root}data/{storage.key}"

    def filled(self, storage: Storage) -> "Tensor":
        with self._archive.open(self._members[self._name(storage)]) as part:
            return _filled(part, storage)


def _check_directory(file: IO[bytes], size: int) -> None:
    """Bound the list of members before it is read: torch writes no comment, so the end record is last."""
    file.seek(max(0, size - 98))  # the end record has 22 bytes; before it zip64's locator (20) and end record (56)
    tail = file.read()
    if tail[-22:-18] != b"PK\x05\x06" or tail[-2:] != b"\0\0":
        raise Broken("its end is missing")
    listed = int.from_bytes(tail[-10:-6], "little")
    large = tail[-42:-38] == b"PK\x06\x07"
    if large:
        if tail[-98:-94] != b"PK\x06\x06":
            raise Broken("its end is damaged")
        listed = int.from_bytes(tail[-58:-50], "little")
    if listed > MOST_PICKLE_BYTES:
        raise Broken(f"its list of members has {listed:,} bytes")


def _checked_members(archive: zipfile.ZipFile, size: int) -> Mapping[str, zipfile.ZipInfo]:
    members = archive.infolist()
    if len(members) > MOST_TENSORS + 20:
        raise Broken(f"it has {len(members):,} members")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.flag_bits & 1:
            raise Broken("a member is compressed, which torch never writes")
        if member.compress_size != member.file_size or len(member.filename) > MOST_NAME:
            raise Broken("the sizes of a member contradict each other")
    if sum(member.file_size for member in members) > size:
        raise Broken("its members claim more bytes than it has")
    named = {member.filename: member for member in members}
    if len(named) != len(members):
        raise Broken("two members have one name")
    return named


class _Legacy:
    """The form before: five pickles (magic number, protocol, machine, content, order of the storages), then storages,
    each after the count of its numbers."""

    def __init__(self, file: IO[bytes]):
        self._file = file
        file.seek(0)
        head, at = file.read(MOST_PICKLE_BYTES), 0
        parts: list[Described] = []
        for number in range(5):
            described, at = describe(head, at)
            if number < 2 and described.value != (LEGACY_MAGIC, LEGACY_PROTOCOL)[number]:
                raise Broken("it does not begin like one")
            parts.append(described)
        machine, self.described, order = parts[2].value, parts[3], parts[4].value
        if not isinstance(machine, dict) or machine.get("little_endian") is not True:
            raise Broken("it is not from a little-endian machine")
        texts = isinstance(order, list) and all(isinstance(key, str) for key in order)
        if not texts or sorted(order) != sorted(self.described.storages):
            raise Broken("its list of storages is not that of its tensors")
        self._places: dict[str, int] = {}
        for key in order:
            self._places[key] = at
            at += 8 + _size_bytes(self.described.storages[key])
        if at > os.fstat(file.fileno()).st_size:
            raise Broken(f"its storages end at byte {at:,}, after the end of the file")

    def filled(self, storage: Storage) -> "Tensor":
        self._file.seek(self._places[storage.key])
        if int.from_bytes(self._file.read(8), "little") != storage.count:
            raise Broken(f"storage {storage.key!r} has another size than its tensors say")
        return _filled(self._file, storage)


def _dtype(storage: Storage) -> Any:
    import torch

    if storage.kind not in DTYPES:
        raise Broken(f"a tensor of type {storage.kind[:40]}: expected {', '.join(DTYPES.values())}")
    return getattr(torch, DTYPES[storage.kind])


def _size_bytes(storage: Storage) -> int:
    return storage.count * _dtype(storage).itemsize


def _filled(part: IO[bytes], storage: Storage) -> "Tensor":
    """The numbers of a storage, [count], read from the file; as much memory is taken as the file was seen to hold."""
    import torch

    flat = torch.empty(storage.count, dtype=_dtype(storage))
    if storage.count:
        numbers: Any = flat.view(torch.uint8).numpy()
        view = memoryview(numbers)
        done = 0
        while done < len(view) and (chunk := part.read(min(CHUNK, len(view) - done))):
            view[done:done + len(chunk)] = chunk
            done += len(chunk)
        if done < len(view):
            raise Broken("it is cut off")
    return flat


@dataclass(frozen=True)
class _Place:
    """Where a tensor lies in its storage, in numbers."""

    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    @property
    def count(self) -> int:
        """Numbers in the tensor."""
        count = 1
        for length in self.size:
            count *= length
        return count


class _Builder:
    """Makes the content from its description; counts what it makes, as one part can be named many times."""

    def __init__(self, storages: Mapping[str, "Tensor"], file_bytes: int):
        self._storages = storages
        self._tensors: dict[int, Tensor] = {}
        self._bytes_left = 2 * file_bytes  # tied weights are two tensors of one storage
        self._tensors_left, self._parts_left = MOST_TENSORS, 20 * MOST_TENSORS

    def build(self, described: Described) -> Any:
        return self._made(described.value, 0)

    def _made(self, value: Any, depth: int) -> Any:
        self._parts_left -= 1
        if depth > MOST_DEPTH or self._parts_left < 0:
            raise Broken("its collections are nested too deep, or name each other too often")
        if isinstance(value, dict):
            return {key: self._made(part, depth + 1) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(self._made(part, depth + 1) for part in value)
        if value is None or isinstance(value, str | int | float):
            return value
        return self._tensor(value)

    def _tensor(self, described: Any) -> "Tensor":
        if id(described) not in self._tensors:
            self._tensors[id(described)] = self._checked_view(described)
        tensor = self._tensors[id(described)]
        self._tensors_left -= 1
        self._bytes_left -= tensor.numel() * tensor.element_size()
        if self._tensors_left < 0 or self._bytes_left < 0:
            raise Broken("its tensors name the same numbers too often, or there are too many")
        return tensor

    def _checked_view(self, described: Any) -> "Tensor":
        storage: Any = getattr(described, "storage", None)
        if not isinstance(storage, Storage):
            raise Broken("it holds something that is neither a tensor, a number, text nor a collection of them")
        place = _Place(described.offset, described.size, described.stride)
        _check_place(place, storage)
        flat = self._storages[storage.key]
        return flat.as_strided(place.size, place.stride, place.offset)


def _check_place(place: _Place, storage: Storage) -> None:
    """Only dense tensors inside their storage, in which no number stands twice (an expanded one would)."""
    lengths = [max(1, length) for length in place.size]
    whole = 1
    for length in lengths:
        whole *= length
    if len(lengths) > MOST_DIMENSIONS or whole > MOST_NUMBERS:
        raise Broken("a tensor has too many dimensions, or too long ones")
    if not place.count:
        return
    end, fits = place.offset, 1
    for stride, length in _by_stride(place):
        if stride < fits:
            raise Broken("a tensor names the same numbers more than once (it is expanded)")
        fits = stride * length
        end += stride * (length - 1)
    if end >= storage.count:
        raise Broken(f"a tensor reaches to number {end:,} of a storage of {storage.count:,}")


def _by_stride(place: _Place) -> Iterator[tuple[int, int]]:
    """(stride, length) of the dimensions that have more than one place, the fastest first."""
    yield from sorted((stride, length) for stride, length in zip(place.stride, place.size, strict=True) if length > 1)
