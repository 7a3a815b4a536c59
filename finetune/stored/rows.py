"""The table of sources that are written as class folders once; a new one gets its module and its
row here.

    is_stored(name)    whether `--data` names such a source
    stored_in(name)    the folder that it is, or will be, written into
    prepare(name)      the same folder, written if it is not there yet
"""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.stored import archives, cifar, downloads, hub_dataset, kept_folder, shards
from zoo.files import file_kinds
from zoo.host import console
from zoo.host.errors import UserError


@dataclass(frozen=True)
class Stored:
    """One kind of source."""

    is_source: Callable[[str], bool]
    """Tells by looking whether a path or address is such a source."""
    write: Callable[[str, Path, bool], Path]
    """Writes the source into a folder that does not exist, by the coarser of two sets of labels if
    so asked; returns what is to be read on: this folder, or a file in it."""
    facts: Callable[[str], Any] = lambda name: kept_folder.file_facts(Path(name))
    """What tells this source from any other, for the name of its folder."""
    inside: bool = False
    """Whether it is also looked for in what another source was unpacked to."""
    goes_on: bool = False
    """Whether it is a download: it goes on with what a killed process left in the folder, and gives
    another source."""
    two_labels: bool = False
    """Whether it may have a coarser set of labels."""


STORED: tuple[Stored, ...] = (
    # first, because an address is no path
    Stored(downloads.is_remote, downloads.write_source, downloads.source_facts, goes_on=True),
    # before archives, because a shard is a tar
    Stored(shards.is_shards, shards.write_source, shards.source_facts),
    Stored(archives.is_archive, archives.write_source),
    Stored(cifar.is_cifar, cifar.write_source, cifar.source_facts, inside=True, two_labels=True),
    Stored(
        hub_dataset.is_hub_dataset,
        hub_dataset.write_source,
        hub_dataset.source_facts,
        inside=True,
        two_labels=True,
    ),
)
"""In the order in which they are asked."""
MOST_STEPS = 3
"""A download, the archive that it is, and the data set that this has in it."""


def is_stored(name: str) -> bool:
    """Tell whether this path or address is a source that is written as class folders first."""
    return _row(name, STORED) is not None


def stored_in(name: str, *, coarse: bool = False) -> Path:
    """Name the folder in the user's cache; nothing is written. A source that changed has another
    one."""
    row = _row(name, STORED)
    assert row is not None, "is_stored"
    title = name.partition("?")[0].rstrip("/").rpartition("/")[2]
    return kept_folder.place(title, [row.facts(name), coarse])


def prepare(name: str, *, coarse: bool = False) -> Path:
    """Return the folder of a source, written if it is not there yet; it then has class folders, or
    whatever else an archive had in it.

    It appears whole. `UserError` if the source cannot be read, is not what it should be, or does
    not fit on the disk. `coarse`: CIFAR-100 by its 20 superclasses.
    """
    folder = stored_in(name, coarse=coarse)

    def fill(scratch: Path) -> Path:
        console.say(f"writing {kept_folder.public(name)} to {folder}")
        return _written(name, scratch, coarse)

    return kept_folder.kept(folder, fill)


def _row(name: str, rows: tuple[Stored, ...]) -> Stored | None:
    return next((row for row in rows if row.is_source(name)), None)


def _written(name: str, scratch: Path, coarse: bool) -> Path:
    """Write a source into `scratch`, then what that holds, until it is no source any more: a
    download is an archive, and an archive may hold CIFAR-100. Returns the last folder."""
    rows, two_labels, downloading = STORED, False, False
    try:
        for step in range(MOST_STEPS):
            row = _row(name, rows)
            if row is None:
                break
            downloading = row.goes_on
            name = str(_step(row, name, scratch / str(step), coarse))
            two_labels = two_labels or row.two_labels
            if not downloading:
                # an archive in an archive stays packed
                rows = tuple(inner for inner in STORED if inner.inside)
            downloading = False
        _check_result(name, coarse and not two_labels)
    except (UserError, OSError):
        # a download goes on, but one that turned out to be of no use must not be taken again
        if not downloading:
            shutil.rmtree(scratch, ignore_errors=True)
        raise
    return Path(name)


def _check_result(name: str, no_coarse_labels: bool) -> None:
    if no_coarse_labels:
        raise UserError(
            "--labels coarse: expected CIFAR-100, which has 20 superclasses; seen another source. "
            "Remove the flag."
        )
    if not os.path.isdir(name):
        with open(name, "rb") as file:
            start = file.read(file_kinds.SCANNED_BYTES)
        raise UserError(
            "expected the address of an archive (.zip, .tar, .tar.gz), seen "
            f"{file_kinds.seen(start)[0] or 'another file'}: correct it, or download the "
            "pictures and use their folder."
        )


def _step(row: Stored, name: str, folder: Path, coarse: bool) -> Path:
    if not row.goes_on:
        # left by a process that was killed
        shutil.rmtree(folder, ignore_errors=True)
    return row.write(name, folder, coarse)
