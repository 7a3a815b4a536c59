"""A table with a row for each picture: CSV, TSV, JSON Lines or Parquet.

The columns for path and label are found by their names. A path is relative to the folder of the
table, or to --root. Labels are text: `01` is another class than `1`. Files that the table does not
name are not looked at.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune.recipe.source_options import SourceOptions
from finetune.sources.folder_names import SPLIT_FOLDERS, by_bare_name
from finetune.sources.label_columns import OPTIONAL, find_columns, some_names
from finetune.sources.listed_pictures import Listing
from zoo.files import foreign_tables
from zoo.files.entries import level
from zoo.files.folders import LONGEST_PART, is_picture_path
from zoo.files.passed_over import Unused
from zoo.host.errors import UserError
from zoo.host.home import cache_home
from zoo.host.text import one_line

LOOKED_FOR = 20
"""Pictures that are looked for before a table is believed to lie where its pictures are."""


@dataclass
class TableRows:
    """Collects what the rows say."""

    labels_needed: bool = True
    """A row without a label is not used."""
    label_of: dict[str, str] = field(default_factory=dict)
    """Relative path -> label."""
    split_of: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    unused: list[Unused] = field(default_factory=list)


def is_label_table(path: Path) -> bool:
    """Tell whether this is a file that is read as a table of labels, by its suffix."""
    return path.suffix.lower() in foreign_tables.SUFFIXES and path.is_file()


def table_in(folder: Path) -> Path | None:
    """Find the table of a folder that holds one, and no folders of splits or of several classes:
    pictures beside their labels, as archives have them."""
    if not folder.is_dir():
        return None
    found = level(folder, folder)
    paths = [folder / entry.path for entry in found.unused if not entry.path.startswith(".")]
    tables = list(filter(is_label_table, paths))
    folders = found.folders
    if len(tables) != 1 or len(folders) > 1 or set(map(str.lower, folders)) & set(SPLIT_FOLDERS):
        return None
    return tables[0]


def read_label_table(table: Path, options: SourceOptions, *, least_classes: int = 2) -> Listing:
    """List the pictures of a table.

    Raises `UserError` for a table that cannot be read, columns that are not found or can be meant
    in two ways, a split that is none, a picture under two labels or in two splits, and class names
    that look the same.
    """
    root, rows = table_root(table, options), TableRows()
    column_of = _read_rows(table, root, options, rows)
    classes = _class_names(table, column_of["label"], set(rows.label_of.values()), least_classes)
    _check_found(table, root, list(rows.label_of))
    number_of = {name: number for number, name in enumerate(classes)}
    files: dict[str, list[tuple[str, int]]] = {}
    for path, label in sorted(rows.label_of.items()):
        files.setdefault(rows.split_of.get(path, "train"), []).append((path, number_of[label]))
    _check_splits(table, files, classes)
    return Listing(
        root,
        classes,
        files,
        tuple(rows.unused),
        findings=tuple(_findings(rows.unused)),
        groups=rows.groups,
    )


def pictures_of_table(table: Path, options: SourceOptions) -> TableRows:
    """Read a table whose pictures need no label, nor the table a column with labels; the label of
    such a picture is empty.

    Raises `UserError` as `read_label_table`, but for what concerns classes, and for a table
    without pictures.
    """
    root, rows = table_root(table, options), TableRows(labels_needed=False)
    _read_rows(table, root, options, rows)
    if not rows.label_of:
        raise UserError(f"{table}: expected a row for each picture, seen none with a path.")
    _check_found(table, root, list(rows.label_of))
    return rows


def table_root(table: Path, options: SourceOptions) -> Path:
    """Give the folder that the paths of a table are relative to, without links: `..` leads from
    the folder itself, not from a link to it."""
    return Path(os.path.realpath(options.root or table.parent))


def _check_inside(table: Path, paths: Iterable[str]) -> None:
    """Raise `UserError` if a table that was unpacked from an archive names pictures elsewhere: it
    may come from a stranger, and the pictures of this machine are not meant for it."""
    if cache_home().resolve() not in table.resolve().parents:
        return
    if outside := next((path for path in paths if path.startswith("../")), None):
        raise UserError(
            f"{table} came in an archive, and names {one_line(outside)[:100]}: expected only "
            "pictures in the archive. If you trust it, unpack it by hand and use the folder."
        )


def _read_rows(table: Path, root: Path, options: SourceOptions, rows: TableRows) -> dict[str, str]:
    """Add all rows of a table; gives the column of each role."""
    named = foreign_tables.read(table)
    optional = OPTIONAL if rows.labels_needed else (*OPTIONAL, "label")
    column_of = find_columns(table, named.columns, options, optional)
    for role, column in column_of.items():
        if column in named.unread:
            raise UserError(
                f"{table}: the column {column!r}, which is the {role}, holds "
                f"{one_line(named.unread[column])[:100]}: expected texts or numbers. Write it as "
                "text, or name another column with --columns."
            )
    for number, row in enumerate(named.rows, 1):
        _add(rows, {role: row[column] for role, column in column_of.items()}, number, table, root)
    _check_inside(table, rows.label_of)
    if options.group_by and "group" in column_of and not rows.groups:
        raise UserError(
            f"--group-by {options.group_by}: this column of {table} is empty: expected a group, "
            "such as a patient, in some of its rows."
        )
    return column_of


def _add(rows: TableRows, row: Mapping[str, str], number: int, table: Path, root: Path) -> None:
    """Take one row, or set it aside with the reason."""
    written, label = row["path"].strip(), row.get("label", "").strip()
    if not written:
        rows.unused.append(Unused(f"row {number}", "unlabelled", "a row without a path"))
        return
    path = _relative(written, number, table, root)
    if not label and rows.labels_needed:
        rows.unused.append(Unused(path, "unlabelled", "a row without a label"))
        return
    split, group = _split_of(row.get("split", ""), number, table), row.get("group", "").strip()
    before = rows.label_of.get(path), rows.split_of.get(path)
    if before[0] is not None and before != (label, split):
        raise UserError(
            f"{table}, row {number}: {one_line(path)} is {label[:100]!r} in {split or 'train'}, "
            f"and {before[0][:100]!r} in {before[1] or 'train'} in an earlier row. A picture has "
            "one label and one split: remove one of the rows."
        )
    if before[0] is not None and rows.groups.get(path, "") != group:
        raise UserError(
            f"{table}, row {number}: {one_line(path)} has the group {group[:100]!r}, and "
            f"{rows.groups.get(path, '')[:100]!r} in an earlier row. A picture has one group: "
            "remove one of the rows."
        )
    if before[0] is not None:
        rows.unused.append(Unused(path, "repeated", "a row like an earlier one"))
        return
    rows.label_of[path] = label
    # an empty cell is a picture for training, and only --val decides what is held out
    if split is not None:
        rows.split_of[path] = split
    if group:
        rows.groups[path] = group


def _split_of(cell: str, number: int, table: Path) -> str | None:
    """Read a cell of the column with splits; None for an empty one."""
    word = cell.strip().lower()
    if not word:
        return None
    if word not in SPLIT_FOLDERS:
        raise UserError(
            f"{table}, row {number}: expected the split train, val (valid, validation) or test, or "
            f"an empty cell, seen {cell.strip()!r}. If this column is no split, name another with "
            "--columns split=COLUMN, or rename it."
        )
    return SPLIT_FOLDERS[word]


def _relative(written: str, number: int, table: Path, root: Path) -> str:
    """Give a path of the table relative to `root`, with `/`."""
    if "://" in written:
        raise UserError(
            f"{table}, row {number}: {one_line(written)[:100]} is an address: expected the path of "
            "a file. Download the pictures first."
        )
    path = written
    # tables made on Windows; a file whose name has a backslash is meant first
    if "\\" in path and os.sep == "/" and not os.path.lexists(root / path):
        path = path.replace("\\", "/")
    plain = is_picture_path(path) and path[0] not in "./" and "//" not in path
    if not plain or os.path.isabs(path):
        path = Path(os.path.relpath(root / path, root)).as_posix()
    if not is_picture_path(path):
        raise UserError(
            f"{table}, row {number}: expected the path of a picture, seen {one_line(written)[:100]}"
        )
    return path


def _class_names(table: Path, column: str, labels: Iterable[str], least: int) -> tuple[str, ...]:
    """Sort the class names; `UserError` for fewer than `least`, and for names that look the same,
    cannot be shown or are longer than a folder's."""
    classes = tuple(sorted(labels))
    if len(classes) < least:
        only = f"only {classes[0]!r}" if classes else "none"
        wanted = "two classes" if least == 2 else "one class"
        raise UserError(
            f"{table}: expected at least {wanted} in the column {column!r}, seen {only}. "
            "If another column has the labels, name it with --columns label=COLUMN."
        )
    for name in classes:
        if not name.isprintable():
            raise UserError(
                f"{table}: expected class names that can be shown, seen {name[:100]!a}: rename it."
            )
        if len(name.encode()) > LONGEST_PART:
            raise UserError(
                f"{table}: expected class names of at most {LONGEST_PART} bytes, as folders have, "
                f"seen {name[:100]!r} and more. Is {column!r} the column of the labels?"
            )
    # for what it refuses
    by_bare_name(table, classes)
    return classes


def _check_splits(
    table: Path, files: Mapping[str, Sequence[tuple[str, int]]], classes: Sequence[str]
) -> None:
    """Raise `UserError` if a class has no training picture."""
    trained = {label for _, label in files.get("train", ())}
    missing = [name for label, name in enumerate(classes) if label not in trained]
    if missing:
        raise UserError(
            f"{table}: no training picture of {some_names(missing)}: expected each class in train, "
            "whose pictures are those with the split train or with an empty cell."
        )


def _check_found(table: Path, root: Path, paths: Sequence[str]) -> None:
    """Raise `UserError` if none of the first pictures is there: the paths then begin at another
    folder."""
    first = paths[:LOOKED_FOR]
    if any(os.path.lexists(root / path) for path in first):
        return
    hint = "Name the folder that the paths are relative to with --root."
    for folder in _folders_in(root):
        if any(os.path.lexists(folder / path) for path in first):
            hint = f"They stand in {folder}: add --root {folder}"
            break
    suffixed = [s for s in (".jpg", ".png", ".jpeg") if os.path.lexists(root / f"{first[0]}{s}")]
    if suffixed:
        hint = f"The table omits the suffix ({suffixed[0]}): write whole names of files into it."
    raise UserError(
        f"{table}: none of its first {len(first)} pictures is in {root}, for example "
        f"{one_line(first[0])}. {hint}"
    )


def _folders_in(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())[:100]
    except OSError:
        return []


def _findings(unused: Iterable[Unused]) -> Iterator[str]:
    counts = Counter(entry.kind for entry in unused)
    if counts["unlabelled"]:
        yield f"{counts['unlabelled']:,} rows without a path or a label are not used"
    if counts["repeated"]:
        yield f"{counts['repeated']:,} rows repeat an earlier one"
