"""What happens to files that cannot be used: when a run stops, what it says, and where every name
is written.

Unreadable files and the same bytes under two classes are different faults and are counted apart. A
few unreadable files are usual; many mean that a copy was cut off. Bytes under two classes are a
question of labels, which training survives as long as most pictures have one.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo.files import tables
from zoo.files.passed_over import KINDS, Unused
from zoo.host import disk
from zoo.host.errors import UserError
from zoo.host.text import one_line

MOST_CONFLICTS = 0.2
"""Share of the pictures that may stand under two classes. Beyond it the folders are no classes
(tags, or copies of each other), and what is left would be another data set."""
SHOWN = 10
"""Names in an error; all of them are in the file."""
SHOWN_IN_FINDING = 5
RECORDED = 1000
"""Names in data.json, which is read whole."""


def check_unreadable(
    unreadable: Sequence[Unused], total: int, limit: float, names_in: Path | None
) -> None:
    """Raise `UserError` if more than `limit` of the `total` files in class folders are no picture
    that can be read."""
    count = len(unreadable)
    # more by a hair, because 0.29 * 100 is a little less than 29
    if count <= limit * total + 1e-9:
        return
    # rounded up, so that the limit that the message proposes is enough
    enough = min(1.0, math.ceil(100 * count / total) / 100)
    lines = [f"  {one_line(entry.path)}: {entry.reason}" for entry in unreadable[:SHOWN]]
    if count > SHOWN:
        lines.append(f"  ... and {count - SHOWN:,} more")
    shown = "\n".join(lines)
    raise UserError(
        f"{count:,} of {total:,} pictures cannot be used, expected at most {100 * limit:g}%. "
        "Repair or remove them, or go on without them by --bad-limit "
        f"{enough:g}{_where(names_in)}:\n{shown}"
    )


def check_conflicts(
    conflicts: Sequence[Unused], pairs: str, total: int, names_in: Path | None
) -> None:
    """Raise `UserError` if more than `MOST_CONFLICTS` of the pictures stand under two classes.
    `pairs`: `by_pair`."""
    if len(conflicts) > MOST_CONFLICTS * total:
        raise UserError(
            f"{len(conflicts):,} of {total:,} pictures stand under two classes, byte for byte, "
            f"expected at most {MOST_CONFLICTS:.0%}: {pairs}{_where(names_in)}. A picture "
            "can be of one class only: keep each in one folder, or merge the classes."
        )


def by_pair(groups: Iterable[tuple[str, ...]]) -> str:
    """Name the classes that share pictures, most first; `groups`: for each such picture the names
    of its classes."""
    counts = Counter(groups).most_common()
    shown = "; ".join(
        f"{' and '.join(names)} {count:,}" for names, count in counts[:SHOWN_IN_FINDING]
    )
    if len(counts) > SHOWN_IN_FINDING:
        shown += f"; and {len(counts) - SHOWN_IN_FINDING:,} more pairs"
    return shown


def unreadable_finding(unreadable: Sequence[Unused], total: int) -> str:
    """Write a finding about the files that cannot be read, with the first names."""
    shown = "; ".join(f"{entry.path} ({entry.reason})" for entry in unreadable[:SHOWN_IN_FINDING])
    if len(unreadable) > SHOWN_IN_FINDING:
        shown += " ..."
    return f"{len(unreadable)} of {total} pictures left out: {shown}"


def summary(unused: Sequence[Unused], names_in: Path) -> str:
    """Say how many entries are not used, by kind, and where their names are."""
    counts = Counter(entry.kind for entry in unused)
    kinds = ", ".join(f"{counts[kind]:,} {words}" for kind, words in KINDS.items() if counts[kind])
    return f"not used: {kinds}; {_all_names(names_in)}"


def _where(names_in: Path | None) -> str:
    """Say where every name is, in parentheses; empty where no file was written."""
    if names_in is None:
        return ""
    return f" ({_all_names(names_in)})"


def _all_names(path: Path) -> str:
    return f"every name with its reason: {path}"


def write_left_out(path: Path, unused: Sequence[Unused]) -> None:
    """Write `left_out.csv`: relative path, kind and reason of each entry that is not used; no file
    if there is none."""
    if unused:
        disk.write_whole(
            path, lambda temporary: tables.write_table(temporary, Unused._fields, unused)
        )
    else:
        # that of an earlier start would name what is used now
        path.unlink(missing_ok=True)
