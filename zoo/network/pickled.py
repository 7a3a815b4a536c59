"""PyTorch's checkpoint files (`.pt`, `.pth`, `.bin`) from strangers: tensors, numbers, text and
their collections.

`torch.load(weights_only=True)` runs no code, but takes what a file says of sizes at its word. So
the zip's list of members is looked at before it unpacks anything, and each tensor after it.
"""

import os
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.host.errors import UserError, first_line

if TYPE_CHECKING:
    from torch import Tensor

MOST_DESCRIBED_BYTES = 8 << 20
"""Of the part that names the tensors; timm's largest model with Adam's state and an average needs 2
MB."""
MOST_TENSORS = 50_000
"""timm's largest models have about 2,500; five of each in a checkpoint."""
MOST_VALUES = 20 * MOST_TENSORS
MOST_DEPTH = 32
"""Collections within collections."""
MOST_NAME = 512
"""Characters of a name."""
DTYPES = (
    "torch.float32",
    "torch.float16",
    "torch.bfloat16",
    "torch.float64",
    "torch.int64",
    "torch.int32",
    "torch.int16",
    "torch.int8",
    "torch.uint8",
    "torch.bool",
)
END_RECORD = 22
"""Bytes of a zip's last record, without a comment, which torch does not write."""
_DAMAGED = (
    zipfile.BadZipFile,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
    MemoryError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    struct.error,
)
"""What zipfile and torch raise for damaged files, and for those that do not fit into memory."""


def read_pickled(path: Path) -> Any:
    """The content of a PyTorch file, on the CPU.

    Raises `UserError` for a file that is damaged, lies about its sizes, or names code.
    """
    import torch

    with _explained(path):
        _check_members(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about kinds of tensors that are refused below
            # map_location: a file may ask for a GPU that is not there
            content = torch.load(path, map_location="cpu", weights_only=True)
        _check_content(content, os.path.getsize(path))
    return content


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL (\S{1,200})", str(error))
        raise UserError(
            f"{path} is refused: expected a PyTorch file with tensors only, seen "
            f"{f'the code {found[1]}' if found else first_line(error)}. It was not run. Use a "
            "safetensors file, or another base."
        ) from None
    except _DAMAGED as error:
        raise UserError(
            f"{path}: expected a PyTorch file, seen one that cannot be read "
            f"({first_line(error)[:200]}): delete it and get it again."
        ) from None


def _check_members(path: Path) -> None:
    """`ValueError` for a zip that unpacks to more than its own size: torch stores its members, and
    never compresses.

    Files of before torch 1.6 are no zips: of those, torch reads no more than they hold.
    """
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        if file.read(4) != b"PK\x03\x04":
            return
        file.seek(max(0, size - END_RECORD))
        # torch's reader takes the last such record; with a comment behind it, Python's could take
        # another
        if file.read(4) != b"PK\x05\x06":
            raise ValueError("its end is missing, or something was added to it")
        members = zipfile.ZipFile(file).infolist()
    # of two members with one name, Python's reader and torch's could take different ones
    if len(members) > MOST_TENSORS or len({member.filename for member in members}) != len(members):
        raise ValueError("it has too many members, or two of one name")
    for member in members:
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size != member.file_size:
            raise ValueError("a member is compressed, which torch never writes")
        if member.filename.endswith("data.pkl") and member.file_size > MOST_DESCRIBED_BYTES:
            raise ValueError(f"the list of its tensors has {member.file_size:,} bytes")
    # members may overlap in a zip: each would be read anew from the same bytes
    if sum(member.file_size for member in members) > size:
        raise ValueError("its members claim more bytes than it has")


def _check_content(content: Any, file_bytes: int) -> None:
    """`ValueError` for collections without end, and for tensors that are more than numbers lying in
    the file."""
    import torch

    level, values, tensors, tensor_bytes = [content], 0, 0, 0
    # level by level: collections within collections must not exhaust the stack
    for _ in range(MOST_DEPTH):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, torch.Tensor):
                tensors += 1
                tensor_bytes += _checked_bytes(value)
            elif isinstance(value, Mapping):
                if any(isinstance(key, str) and len(key) > MOST_NAME for key in value):
                    raise ValueError("a name is too long")
                inner += value.values()
            elif isinstance(value, list | tuple | set):
                inner += value
        values += len(inner)
        # weights that two layers share are two tensors over the same numbers
        if values > MOST_VALUES or tensors > MOST_TENSORS or tensor_bytes > 2 * file_bytes:
            raise ValueError("it names more values or numbers than it holds")
        if not inner:
            return
        level = inner
    raise ValueError("its collections are nested too deep")


def _checked_bytes(tensor: "Tensor") -> int:
    """Bytes of a dense tensor whose numbers all lie in its storage."""
    import torch

    if tensor.layout != torch.strided or tensor.is_nested or tensor.device.type != "cpu":
        raise ValueError("a tensor is sparse or nested: expected dense ones")
    if str(tensor.dtype) not in DTYPES:
        raise ValueError(f"a tensor of {tensor.dtype}: expected one of {', '.join(DTYPES)}")
    needed = tensor.numel() * tensor.element_size()
    # strides of 0 make a tensor of any size from one number
    if needed > tensor.untyped_storage().nbytes():
        raise ValueError("a tensor is larger than the numbers it is made of")
    return needed
