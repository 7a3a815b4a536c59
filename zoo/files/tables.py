"""Tables of a run (CSV): written so that no spreadsheet runs a cell, read row by row within bounds.

write_table(path, header, rows)     the file, row by row
as_text(header, rows)               the same as text
lines(rows)                         rows to be appended to such a file, as text
rows(path, needed)                  each row as column -> text, as it was given to `write_table`
"""

import csv
from collections.abc import Iterable, Iterator, Sequence
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import IO, Any

from zoo.files.folders import open_regular
from zoo.host.errors import UserError
from zoo.host.text import csv_cell, plain_cell

MOST_ROWS = 20_000_000
"""Pictures of a run at most; ImageNet-21k has 14 million."""
MOST_COLUMNS = 100
LONGEST_LINE = 1_000_000
"""Characters; Python's own limit of one cell is 131,072."""


def as_text(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table as CSV that no spreadsheet runs."""
    return lines([header]) + lines(rows)


def lines(rows: Iterable[Iterable[Any]]) -> str:
    """Rows of such a table, without a head line."""
    text = StringIO()
    csv.writer(text).writerows([csv_cell(cell) for cell in row] for row in rows)
    return text.getvalue()


def write_table(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Write the same, row by row; names of files that are no text keep their bytes."""
    # no translation of line ends: csv writes its own, and a cell may hold one
    with open(path, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        csv.writer(file).writerows(_cells(header, rows))


def _cells(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> Iterator[list[Any]]:
    yield [csv_cell(cell) for cell in header]
    for row in rows:
        yield [csv_cell(cell) for cell in row]


def rows(path: Path, needed: Sequence[str]) -> Iterator[dict[str, str]]:
    """The rows of a CSV file with a head line, each as column -> text; a file name's bytes come
    back as they were.

    Tables of earlier versions are read right too, but for texts that began with an apostrophe and
    then with what a spreadsheet runs: they lose that apostrophe. Raises `UserError` if the file is
    missing, lacks a column of `needed`, or is not a table.
    """
    try:
        # read as it was written: line ends inside a cell stay, bytes that are no text come back
        with TextIOWrapper(open_regular(path), "utf-8", "surrogateescape", newline="") as file:
            yield from _rows(file, needed)
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{path} is missing: copy the run folder again, or train it again."
        ) from None
    except (OSError, csv.Error, _NotATable) as error:
        raise UserError(
            f"{path} is not as this version writes it ({error}): copy the run folder again, or "
            "train it again."
        ) from None


class _NotATable(Exception):
    """What is wrong with the text; final."""


def _rows(file: IO[str], needed: Sequence[str]) -> Iterator[dict[str, str]]:
    reader = csv.reader(_lines(file))
    # an empty file has an empty head, and then lacks the first needed column
    head = [plain_cell(cell) for cell in next(reader, [])]
    if len(head) > MOST_COLUMNS or len(set(head)) != len(head):
        raise _NotATable(f"expected at most {MOST_COLUMNS} different columns")
    if lacking := [name for name in needed if name not in head]:
        raise _NotATable(f"expected the column {lacking[0]}")
    for place, row in enumerate(reader, 1):
        if place > MOST_ROWS:
            raise _NotATable(f"more than {MOST_ROWS:,} rows")
        # a cell too few would shift all that follow it
        if len(row) != len(head):
            raise _NotATable(f"row {place} has {len(row)} cells, expected {len(head)}")
        yield dict(zip(head, map(plain_cell, row), strict=True))


def _lines(file: IO[str]) -> Iterator[str]:
    while line := file.readline(LONGEST_LINE):
        if len(line) == LONGEST_LINE:
            raise _NotATable(f"a line is longer than {LONGEST_LINE:,} characters")
        yield line
