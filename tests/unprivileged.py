"""What a user without rights meets, also where the tests run as root, whom permissions do not
stop."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def without_rights() -> Iterator[None]:
    """This process as a user who owns nothing, if it is root's."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def read_only(folder: Path, inside: str = "") -> Iterator[Path]:
    """A copy of a folder in which only what stands below `inside` may not be changed, except by
    root.

    It stands in a place of its own, because pytest's are closed to other users.
    """
    with tempfile.TemporaryDirectory() as place:
        os.chmod(place, 0o755)
        copy = Path(shutil.copytree(folder, Path(place) / folder.name))
        folders = [copy, *(path for path in copy.rglob("*") if path.is_dir())]
        for path in folders:
            path.chmod(0o555 if path.is_relative_to(copy / inside) else 0o777)
        with without_rights():
            yield copy
        for path in folders:
            path.chmod(0o755)
