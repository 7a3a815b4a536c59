"""Room on the disk of a run: asked for before it is needed, and named where it ends."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from zoo.host import disk
from zoo.host.errors import UserError


def size_bytes(value: Any) -> int:
    """Bytes of all tensors in nested dicts and lists."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Mapping):
        return sum(map(size_bytes, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(size_bytes, value))
    return 0


def check_space(folder: Path, needed_bytes: int) -> None:
    """`UserError` if the disk of `folder` has less than this free."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise UserError(
            f"{folder}: expected {_mb(needed_bytes)} free for checkpoints and the finished run, "
            f"seen {_mb(free)}: free some, or choose another --out."
        )


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """`disk.write_whole`, with a `UserError` where there is no room."""
    with room_needed(path):
        disk.write_whole(path, write)


@contextmanager
def room_needed(path: Path, *, needed_bytes: int = 0) -> Iterator[None]:
    """Turn a full disk or quota, or a limit on the size of files, as Python, torch or safetensors
    raise it, into a `UserError`; nothing else.

    `needed_bytes`: named in the message, with what is free; 0: not known.
    """
    try:
        yield
    # torch raises a failed write as RuntimeError, safetensors as an error of its own
    except (OSError, RuntimeError, SafetensorError) as error:
        lack = disk.no_room(error)
        if lack is None:
            raise
        needed = ""
        if needed_bytes:
            free = shutil.disk_usage(path.parent).free
            needed = f" ({needed_bytes:,} bytes needed, {free:,} free)"
        raise UserError(
            f"{path}: {lack.cause}{needed}: {lack.advice} (the last checkpoint is still there), "
            "then run the same command again and it goes on."
        ) from None
