"""Which column of a table of labels has which role."""

from collections.abc import Sequence
from pathlib import Path

from finetune.recipe.source_options import SourceOptions
from zoo.host.errors import UserError
from zoo.host.text import one_line

SHOWN = 5
"""Names in an error."""
USUAL_COLUMNS = {
    "path": (
        "path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "image",
        "image_path",
        "img",
        "picture",
    ),
    "label": ("label", "class", "target", "category", "class_name", "label_name"),
    "split": ("split", "subset", "partition", "fold"),
    "group": ("group", "group_id"),
}
"""Role -> names of columns that have it, in lower case."""
OPTIONAL = ("split", "group")
"""Roles that a table may lack."""


def find_columns(
    table: Path,
    columns: Sequence[str],
    options: SourceOptions,
    optional: Sequence[str] = OPTIONAL,
) -> dict[str, str]:
    """Find the column of each role: role -> column; those of `optional` only where there are some.

    Raises `UserError` if any other is not found, and if one could be one of two.
    """
    given = dict(options.column_of)
    if options.group_by in columns:
        given["group"] = options.group_by
    for role, column in given.items():
        if column not in columns:
            raise UserError(
                f"{table} has no column {column!r}, which is to be the {role}: it has "
                f"{some_names(columns)}."
            )
    found = dict(given)
    for role, names in USUAL_COLUMNS.items():
        like = [column for column in columns if column.strip().lower() in names]
        free = [column for column in like if column not in given.values()]
        # --group-by as a pattern takes the place of a column that is called group
        if role == "group" and options.group_by:
            free = []
        if role in given or (not free and role in optional):
            continue
        # a column that may be anything must not decide what is measured on what
        if len(free) != 1:
            seen = (
                f"{some_names(free)} could each be it" if free else f"it has {some_names(columns)}"
            )
            raise UserError(
                f"{table}: expected one column with the {role} of each picture "
                f"({', '.join(names[:5])}), but {seen}. Name it with --columns {role}=COLUMN."
            )
        found[role] = free[0]
    return found


def some_names(names: Sequence[str]) -> str:
    """Show the first few names."""
    shown = ", ".join(map(one_line, names[:SHOWN]))
    return shown + (" ..." if len(names) > SHOWN else "")
