"""The example pictures of a bundle: what its export answered to them, and which of them may leave
this machine (pictures by name and by content, and nothing else)."""

import re
from dataclasses import dataclass
from typing import Any

from zoo.contract import rundir
from zoo.contract.bundle import EXAMPLES, EXPECTED, Bundle, export_it
from zoo.files import checks
from zoo.files.folders import is_plain
from zoo.host.errors import BadImage
from zoo.host.text import one_line
from zoo.picture.decoding import without_metadata

NAME = re.compile(r"[\w-]{1,100}\.(?:png|jpe?g|webp|bmp|gif|tiff?)", re.ASCII)
"""A file name that an example may have."""


@dataclass(frozen=True)
class Leaving:
    """What of a bundle's `examples/` may be sent or packed."""

    pictures: dict[str, bytes]
    """Name -> the encoded picture without its metadata."""
    expected: dict[str, Any]
    """The rows of expected.json for these."""
    staying: tuple[str, ...]
    """Of each file that stays here, its name and why."""


def leaving(bundle: Bundle) -> Leaving:
    """The pictures that expected.json and FINISHED.json list, that have a picture's name, and that
    can be decoded."""
    pictures: dict[str, bytes] = {}
    staying = []
    listed = bundle.file(f"{EXAMPLES}/{EXPECTED}")
    rows: dict[str, Any] = {}
    if listed is not None:
        with checks.of(listed, export_it(bundle.folder)):
            rows = rundir.read_json(listed, kind=dict)
    for path in sorted(bundle.files):
        folder, _, name = path.rpartition("/")
        if folder != EXAMPLES or name == EXPECTED:
            continue
        if name not in rows:
            staying.append(f"{one_line(name)} ({EXPECTED} does not list it)")
        elif not NAME.fullmatch(name):
            staying.append(f"{one_line(name)} (not the name of a picture)")
        else:
            try:
                file = bundle.file(path)
                assert file is not None, "the bundle lists it"
                # a photograph says in its EXIF where and when it was taken
                pictures[name] = without_metadata(file)[1]
            except BadImage as error:
                staying.append(f"{one_line(name)} ({error.reason})")
    return Leaving(pictures, {name: rows[name] for name in pictures}, tuple(staying))


def expected(bundle: Bundle) -> dict[str, tuple[str, tuple[float, ...]]]:
    """Picture in `examples/` -> (label, probabilities or none) where it was exported; empty without
    examples.

    Every picture is one that the finished bundle lists; `UserError` for any other name.
    """
    name = f"{EXAMPLES}/{EXPECTED}"
    file = bundle.file(name)
    if file is None:
        return {}
    found = {}
    with checks.of(file, export_it(bundle.folder)):
        for picture, row in rundir.read_json(file, kind=dict).items():
            # the name becomes a path beside expected.json
            plain = is_plain(picture) and "/" not in picture
            if not plain or f"{EXAMPLES}/{picture}" not in bundle.files:
                raise ValueError(
                    f"expected names of pictures beside it, seen {checks.seen(picture)}"
                )
            probabilities = tuple(map(checks.number, row.get("probabilities", ())))
            if probabilities and len(probabilities) != len(bundle.labels):
                raise ValueError(
                    f"expected {len(bundle.labels)} probabilities, seen {len(probabilities)}"
                )
            found[picture] = checks.text(row["label"], most=checks.LONGEST_NAME), probabilities
    return found
