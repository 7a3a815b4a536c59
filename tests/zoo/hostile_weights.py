"""Weight files as strangers may write them: each lies about something, or asks for more than it
holds."""

import io
import json
import pickle
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001
STORAGE = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpu%stQ"
"""A storage "0" of floats in a pickle; %s is the number of them, an instruction that pushes it."""
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n(%sK\0%s%s\x89ccollections\nOrderedDict\n)RtR"
"""A tensor in a pickle: its storage, size and stride."""


def number(value: int) -> bytes:
    """The instruction that pushes a number."""
    return b"\x8a\x08" + struct.pack("<q", value)


def shape(*lengths: int) -> bytes:
    """The instructions that push a tuple of numbers."""
    return b"(" + b"".join(map(number, lengths)) + b"t"


def state(value: bytes) -> bytes:
    """A pickle of {"w": value}."""
    return b"\x80\x02}X\x01\0\0\0w" + value + b"s."


def tensor(count: int, size: tuple[int, ...], stride: tuple[int, ...]) -> bytes:
    """A pickle of one tensor named w, over a storage of `count` floats."""
    return state(TENSOR % (STORAGE % number(count), shape(*size), shape(*stride)))


def zipped(
    content: bytes,
    storages: Mapping[str, bytes] | None = None,
    *,
    method: int = zipfile.ZIP_STORED,
    more: Mapping[str, bytes] | None = None,
) -> bytes:
    """A checkpoint in torch's present form."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        archive.writestr("archive/data.pkl", content)
        for name, value in (storages or {"0": b"\0" * 4}).items():
            archive.writestr(f"archive/data/{name}", value)
        for name, value in (more or {}).items():
            archive.writestr(name, value)
    return buffer.getvalue()


def legacy(content: bytes, keys: list[Any], storages: bytes) -> bytes:
    """A checkpoint in the form before torch 1.6."""
    machine = {
        "protocol_version": 1001,
        "little_endian": True,
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    head = b"".join(pickle.dumps(part, protocol=2) for part in (MAGIC, PROTOCOL, machine))
    return head + content + pickle.dumps(keys, protocol=2) + storages


def saved(value: Any) -> bytes:
    """What torch.save writes; `value`: what to save, or what makes it (with torch's warnings about
    such tensors)."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(value() if callable(value) else value, buffer)
    return buffer.getvalue()


def nested(times: int) -> bytes:
    """Lists that hold the list before twice: 2 to the power of `times` parts from a few hundred
    bytes."""
    return b"\x80\x02]q\0" + b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(times)) + b"."


def hashed(times: int) -> bytes:
    """A dict whose key is a tuple nested as in `nested`: its hash takes 2 to the power of `times`
    steps."""
    return (
        b"\x80\x02})q\0" + b"".join(b"h%ch%c\x86q%c" % (i, i, i + 1) for i in range(times)) + b"Ns."
    )


def sparse() -> bytes:
    """A sparse tensor with an index far outside."""
    with zipfile.ZipFile(
        io.BytesIO(saved({"w": torch.sparse_coo_tensor([[0]], [1.0], (2,), check_invariants=True)}))
    ) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = next(
        name for name, content in members.items() if name.endswith("data/0") and len(content) == 8
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for other, content in (members | {name: struct.pack("<q", 10**9)}).items():
            archive.writestr(other, content)
    return buffer.getvalue()


def larger_directory(content: bytes) -> bytes:
    """A zip whose end says that the list of members has 2 GB."""
    return content[:-10] + struct.pack("<I", 2**31) + content[-6:]


FLOATS = tensor(1, (1,), (1,))
PICKLES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "junk": lambda: bytes(range(256)) * 10,
    "zip without content": lambda: zipped(FLOATS).replace(b"data.pkl", b"data.txt"),
    "cut": lambda: zipped(FLOATS)[:-30],
    "comment": lambda: zipped(FLOATS)[:-2] + b"\x05\0hello",
    "large directory": lambda: larger_directory(zipped(FLOATS)),
    "deflated bomb": lambda: zipped(
        tensor(10**8, (10**8,), (1,)), {"0": bytes(10**8)}, method=zipfile.ZIP_DEFLATED
    ),
    "short storage": lambda: zipped(tensor(10**11, (10**11,), (1,))),
    "huge storage": lambda: zipped(tensor(2**62, (2**61,), (1,))),
    "no storage": lambda: zipped(FLOATS, {"7": b"\0" * 4}),
    "two of one name": lambda: zipped(
        FLOATS, more={"archive/data/1": b"", "archive/data/2": b""}
    ).replace(b"archive/data/2", b"archive/data/1"),
    "many members": lambda: zipped(FLOATS, more={f"m{i}": b"" for i in range(50_030)}),
    "big-endian": lambda: zipped(FLOATS, more={"archive/byteorder": b"big"}),
    "expanded": lambda: zipped(tensor(1, (10**6, 10**6), (0, 0))),
    "overlapping": lambda: zipped(tensor(4, (2, 2), (1, 1)), {"0": b"\0" * 16}),
    "outside": lambda: zipped(tensor(1, (2,), (1,))),
    "negative": lambda: zipped(tensor(1, (-1,), (1,))),
    "zeros times much": lambda: zipped(tensor(1, (0, 2**40), (1, 1))),
    "many dimensions": lambda: zipped(tensor(1, (1,) * 200, (1,) * 200)),
    "stride without end": lambda: zipped(
        state(TENSOR % (STORAGE % number(1), shape(1), shape(1, 1)))
    ),
    "tensor of text": lambda: zipped(state(TENSOR % (b"X\x01\0\0\x000", shape(1), shape(1)))),
    "sparse": sparse,
    "quantized": lambda: saved(
        lambda: {"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}
    ),
    "meta": lambda: saved({"w": torch.ones(2, device="meta")}),
    "nested tensors": lambda: saved(
        lambda: {"w": torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])}
    ),
    "complex": lambda: saved({"w": torch.ones(2, dtype=torch.complex64)}),
    "float8": lambda: saved({"w": torch.ones(2).to(torch.float8_e4m3fn)}),
    "storage called": lambda: zipped(
        b"\x80\x02ctorch\nFloatStorage\n" + number(10**12) + b"\x85R."
    ),
    "bytearray called": lambda: zipped(
        b"\x80\x02cbuiltins\nbytearray\n" + number(10**12) + b"\x85R."
    ),
    "tensor called": lambda: zipped(b"\x80\x02ctorch\nTensor\n" + number(10**12) + b"\x85\x81."),
    "codec called": lambda: zipped(b"\x80\x02c_codecs\nencode\nX\x01\0\0\0aX\x04\0\0\0zlib\x86R."),
    "name with escapes": lambda: zipped(b"\x80\x02cos\nsy\x1b]0;stem\n)R."),
    "one tensor named often": lambda: zipped(
        b"\x80\x02}"
        + TENSOR % (STORAGE % number(1), shape(1), shape(1))
        + b"q\x010("
        + b"".join(b"X\x05\0\0\0%05dh\x01" % i for i in range(60_000))
        + b"u."
    ),
    "lists in lists": lambda: b"\x80\x02" + b"]" * 100_000 + b".",
    "depth": lambda: zipped(b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."),
    "doubled lists": lambda: zipped(nested(60)),
    "doubled keys": lambda: zipped(hashed(60)),
    "list in itself": lambda: zipped(b"\x80\x02]q\0h\0a."),
    "many instructions": lambda: zipped(b"\x80\x02(" + b"}" * 2_000_000 + b"t."),
    "huge memo": lambda: b"\x80\x02r\xff\xff\xff\x7f.",
    "huge number": lambda: b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1),
    "long text": lambda: zipped(b"\x80\x02X\xff\xff\xff\xff."),
    "long name": lambda: zipped(b"\x80\x02}X" + struct.pack("<I", 5000) + b"n" * 5000 + b"Ns."),
    "numbers as keys that collide": lambda: zipped(
        b"\x80\x02}(" + b"".join(number(i * (2**61 - 1)) + b"N" for i in range(4)) + b"u."
    ),
    "number as a name": lambda: saved({0: torch.ones(1)}),
    "protocol 4": lambda: zipped(pickle.dumps({"w": 1}, protocol=4)),
    "legacy that claims": lambda: legacy(
        tensor(10**11, (10**11,), (1,)), ["0"], struct.pack("<q", 10**11)
    ),
    "legacy of another size": lambda: legacy(FLOATS, ["0"], struct.pack("<q", 2**40) + b"\0" * 4),
    "legacy without storages": lambda: legacy(FLOATS, [], b""),
    "legacy named twice": lambda: legacy(
        FLOATS, ["0", "0"], (struct.pack("<q", 1) + b"\0" * 4) * 2
    ),
    "legacy alone": lambda: pickle.dumps(MAGIC, protocol=2) + pickle.dumps(PROTOCOL, protocol=2),
    "tar of long ago": lambda: (
        b"storages".ljust(100, b"\0") + b"0000644\0" + bytes(404) + b"x" * 1024
    ),
}
"""Name -> a file that must be refused."""


def tensors_file(header: Any, content: bytes = b"", *, length: int | None = None) -> bytes:
    """A safetensors file of this header, as JSON unless it is text."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def row(kind: str = "F32", size: Any = (1,), place: Any = (0, 4)) -> dict[str, Any]:
    """One tensor of a header."""
    return {"dtype": kind, "shape": size, "data_offsets": place}


FOUR = b"\0" * 4
SAFETENSORS: dict[str, bytes | Callable[[], bytes]] = {
    "nothing": b"",
    "length": tensors_file({}, length=2**60),
    "length beyond the file": tensors_file({}, length=1000),
    "shape": tensors_file({"w": row(size=[2**40])}, FOUR),
    "overlap": tensors_file({"w": row(), "v": row()}, FOUR),
    "overflow": tensors_file({"w": row(size=[2**32, 2**32], place=[0, 0])}),
    "zeros times much": tensors_file({"w": row(size=[0, 2**40], place=[0, 0])}),
    "name twice": tensors_file(b'{"w":%s,"w":%s}' % ((json.dumps(row()).encode(),) * 2), FOUR),
    "type": tensors_file({"w": row("F8_E4M3", [4])}, FOUR),
    "type as a list": tensors_file({"w": row() | {"dtype": ["F32"]}}, FOUR),
    "place as text": tensors_file({"w": row(place=["0", "4"])}, FOUR),
    "fractions": tensors_file({"w": row(size=[1.0])}, FOUR),
    "number without end": tensors_file(b'{"w":{"dtype":"F32","shape":[%s]}}' % (b"9" * 9000), FOUR),
    "list": tensors_file([1]),
    "depth": tensors_file(b"[" * 100_000),
    "long name": tensors_file({"n" * 5000: row()}, FOUR),
    "many": lambda: tensors_file({f"t{i}": row(size=[0], place=[0, 0]) for i in range(50_001)}),
    "many dimensions": tensors_file({"w": row(size=[1] * 100)}, FOUR),
}
"""Name -> a file that must be refused."""


def write(folder: Path, name: str, content: bytes) -> Path:
    """The content as a file of that name."""
    path = folder / name
    path.write_bytes(content)
    return path
