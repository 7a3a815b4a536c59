"""Tables that people bring: CSV, TSV, JSON Lines and Parquet, every cell as text.

`01` stays `01`: nothing guesses that a cell is a number. A missing value (null, NaN) is an empty
text.
"""

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from zoo.files.folders import open_regular
from zoo.files.tables import LONGEST_LINE, MOST_COLUMNS, MOST_ROWS
from zoo.host.errors import UserError, first_line

Row = dict[str, str]
PARQUET_ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class ForeignTable:
    """Holds the names of a table's columns, and its rows, which are read as they are asked for."""

    columns: tuple[str, ...]
    rows: Iterator[Row]
    """Column -> cell."""
    unread: Row
    """Column -> its type, of those that hold no texts, numbers or truth values: their cells are
    empty."""


def read(path: Path) -> ForeignTable:
    """Open a table by its suffix, one of `SUFFIXES`.

    Raises `UserError`, also from the rows, for what cannot be read as such a table, with the number
    of the row.
    """
    rows = SUFFIXES[path.suffix.lower()](path)
    # the first row that a reader yields is the head
    head = next(rows, {})
    if not head:
        raise UserError(f"{path}: expected a table with a head line that names its columns.")
    unread = {column: kind for column, kind in head.items() if kind}
    return ForeignTable(tuple(head), rows, unread)


def _csv(path: Path) -> Iterator[Row]:
    with _text(path) as file:
        head = next(_lines(path, file), "")
        file.seek(0)
        # Excel writes semicolons where the comma is the decimal point
        delimiter = max(",;\t", key=head.count)
        yield from _separated(path, file, delimiter)


def _tsv(path: Path) -> Iterator[Row]:
    with _text(path) as file:
        yield from _separated(path, file, "\t")


def _text(path: Path) -> TextIOWrapper:
    """Open a text in UTF-8, with or without a byte order mark."""
    try:
        return TextIOWrapper(open_regular(path), "utf-8-sig", newline="")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): expected a table.") from None


def _separated(path: Path, file: TextIOWrapper, delimiter: str) -> Iterator[Row]:
    reader = csv.reader(_lines(path, file), delimiter=delimiter, strict=True)
    head: list[str] | None = None
    try:
        for cells in reader:
            if not any(cells):
                continue
            if head is None:
                head = [cell.strip() for cell in cells]
                _check_head(path, head)
                yield dict.fromkeys(head, "")
                continue
            # a cell too few would shift all that follow it
            if len(cells) != len(head):
                raise UserError(
                    f"{path}, line {reader.line_num}: expected {len(head)} cells ({delimiter!r} "
                    f"between them), seen {len(cells)}. Put cells that hold {delimiter!r} in "
                    "quotes."
                )
            yield dict(zip(head, cells, strict=True))
    except csv.Error as error:
        raise UserError(
            f"{path}, line {reader.line_num}: expected a table ({error}). Save it as CSV again."
        ) from None


def _lines(path: Path, file: TextIOWrapper) -> Iterator[str]:
    """Yield the lines of a text; `UserError` for one that is too long, for too many, and for what
    is not UTF-8."""
    number = 0
    try:
        while line := file.readline(LONGEST_LINE):
            number += 1
            if number > MOST_ROWS or len(line) == LONGEST_LINE:
                raise UserError(
                    f"{path}, line {number}: expected at most {MOST_ROWS:,} lines of at most "
                    f"{LONGEST_LINE:,} characters."
                )
            if "\0" in line:
                raise UserError(f"{path}, line {number}: expected text, seen a zero byte.")
            yield line
    except UnicodeDecodeError:
        raise UserError(
            f"{path}, after line {number}: expected text in UTF-8. Save the table again as UTF-8."
        ) from None


def _check_head(path: Path, head: list[str]) -> None:
    if len(head) > MOST_COLUMNS or len(set(head)) != len(head) or "" in head:
        raise UserError(
            f"{path}: expected a head line with at most {MOST_COLUMNS} different names of columns, "
            f"seen {', '.join(head[:10])}."
        )


def _json_lines(path: Path) -> Iterator[Row]:
    columns: dict[str, str] | None = None
    with _text(path) as file:
        for number, line in enumerate(_lines(path, file), 1):
            if not line.strip():
                continue
            try:
                # numbers as they are written: 1.0 and 01 are not 1
                row = json.loads(line, parse_int=str, parse_float=str, parse_constant=_constant)
            except (ValueError, RecursionError) as error:
                raise UserError(
                    f"{path}, line {number}: expected a JSON object ({first_line(error)})."
                ) from None
            if not isinstance(row, dict):
                raise UserError(f"{path}, line {number}: expected a JSON object, such as {{...}}.")
            if columns is None:
                _check_head(path, list(row))
                columns = dict.fromkeys(row, "")
                yield columns
            # a key that only later lines have would otherwise be lost unseen
            if unknown := set(row) - set(columns):
                raise UserError(
                    f"{path}, line {number}: expected the keys of the first line "
                    f"({', '.join(columns)}), seen {sorted(unknown)[0]!r}."
                )
            yield columns | {name: _cell(path, number, value) for name, value in row.items()}


def _constant(name: str) -> str | None:
    """Read NaN, which pandas writes for a missing value, or an infinite number."""
    return None if name == "NaN" else name


def _cell(path: Path, number: int, value: Any) -> str:
    # only NaN differs from itself
    if value is None or value != value:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        text = str(value)
        try:
            # names of files may hold bytes that are not UTF-8; JSON can write half a character
            text.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise UserError(
                f"{path}, row {number}: expected text, seen half a character ({text[:40]!a})."
            ) from None
        return text
    raise UserError(
        f"{path}, row {number}: expected texts and numbers, seen {type(value).__name__} "
        f"({str(value)[:40]}). One picture has one label."
    )


def _parquet(path: Path) -> Iterator[Row]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            f'{path}: reading Parquet needs pyarrow: pip install "zootune[sources]".'
        ) from None
    try:
        file = pyarrow.parquet.ParquetFile(path)
        head = list(file.schema_arrow.names)
        _check_head(path, head)
        simple = [name for name in head if _is_simple(file.schema_arrow.field(name).type)]
        kinds = {name: str(file.schema_arrow.field(name).type) for name in head}
        yield kinds | dict.fromkeys(simple, "")
        number = 0
        for batch in file.iter_batches(PARQUET_ROWS_AT_ONCE, columns=simple):
            for row in batch.to_pylist():
                number += 1
                yield dict.fromkeys(head, "") | {
                    name: _cell(path, number, value) for name, value in row.items()
                }
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(
            f"{path} cannot be read as Parquet ({first_line(error)}): write it again."
        ) from None


def _is_simple(kind: Any) -> bool:
    """Tell whether a column of this type of Arrow's has texts, numbers or truth values."""
    import pyarrow

    types = pyarrow.types
    if types.is_dictionary(kind):
        return _is_simple(kind.value_type)
    tests = (types.is_string, types.is_large_string, types.is_integer, types.is_floating)
    return types.is_boolean(kind) or types.is_null(kind) or any(test(kind) for test in tests)


SUFFIXES: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".csv": _csv,
    ".tsv": _tsv,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".parquet": _parquet,
}
"""Suffix, in lower case -> what yields the head of such a file, as a row of empty cells (or of the
type of a column that is not read), and then its rows."""
