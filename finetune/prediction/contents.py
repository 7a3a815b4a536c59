"""The bytes of the pictures that are asked for: each a file below a folder, or a part of a tar."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from finetune.sources.imagenet_test_tar import Member
from zoo.files.folders import read_regular
from zoo.files.same_paths import located
from zoo.host.errors import BadImage
from zoo.picture.opened import MAX_BYTES


@dataclass(frozen=True)
class Contents:
    """Reads pictures by their relative paths."""

    root: Path
    tar: Path | None = None
    """The tar that holds them, if they are not files."""
    members: Mapping[str, Member] = field(default_factory=dict)
    """Name -> where it is in the tar."""

    def read(self, path: str) -> bytes:
        """Read the bytes of a picture; `BadImage` for what is no regular file of a decoder's
        size."""
        if self.tar is None:
            return read_regular(located(self.root, path), MAX_BYTES)
        member = self.members[path]
        if member.size > MAX_BYTES:
            raise BadImage(path, f"larger than {MAX_BYTES / 1e6:g} MB")
        # opened for each: processes that decode must not share a place in the file
        with open(self.tar, "rb") as file:
            file.seek(member.offset)
            return file.read(member.size)

    def state(self, path: str) -> str:
        """Give what changes when the picture does: size and time of its file."""
        if self.tar is not None:
            return f"{self._state_of_tar} {self.members[path]}"
        return _state(located(self.root, path))

    @cached_property
    def _state_of_tar(self) -> str:
        assert self.tar is not None
        return _state(self.tar)


def _state(path: Path) -> str:
    try:
        found = os.stat(path)
    except OSError:
        return "missing"
    return f"{found.st_size} {found.st_mtime_ns}"
