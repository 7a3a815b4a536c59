"""How the pictures of a source are to be read, where looking at the source cannot tell."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import Any

from zoo.files import checks
from zoo.host.errors import UserError

ROLES = ("path", "label", "split", "group")
"""What a column of a table of labels can be."""


@dataclass(frozen=True)
class SourceOptions:
    """Holds the flags that say how pictures are found; empty where the source itself decides."""

    columns: str = ""
    """`path=file,label=species`: which column of a table has which role."""
    root: str = ""
    """Absolute path of the folder that a table's paths are relative to."""
    group_by: str = ""
    """A column of the table, or a regular expression on the relative path."""
    labels: str = ""
    """`coarse`: the superclasses of CIFAR-100."""
    fix: str = ""
    """Absolute path of a table with labels that were put right."""

    def __post_init__(self) -> None:
        if self.group_by and "group" in self.column_of:
            raise UserError("--group-by and group= of --columns: expected one of them.")

    @property
    def coarse(self) -> bool:
        """Whether the coarser of two sets of labels is asked for."""
        return self.labels == "coarse"

    @cached_property
    def column_of(self) -> dict[str, str]:
        """Role -> name of its column, as --columns has it; `UserError` for any other text."""
        found: dict[str, str] = {}
        for part in filter(None, self.columns.split(",")):
            role, sign, column = part.partition("=")
            role, column = role.strip(), column.strip()
            if role not in ROLES or not sign or not column or role in found:
                raise UserError(
                    f"--columns {self.columns}: expected ROLE=COLUMN with commas between, each "
                    f"role of {', '.join(ROLES)} at most once, such as path=file,label=species; "
                    f"seen {part!r}."
                )
            if column in found.values():
                raise UserError(
                    f"--columns {self.columns}: expected a column of its own for each role, seen "
                    f"{column!r} twice."
                )
            found[role] = column
        return found

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """--group-by as a regular expression; `UserError` if it is none."""
        try:
            return re.compile(self.group_by)
        except re.error as error:
            raise UserError(
                f"--group-by {self.group_by}: expected a column of the table, or a regular "
                f"expression on a picture's path ({error})."
            ) from None

    def to_json(self) -> dict[str, str]:
        """The options that are given."""
        return {name: value for name, value in asdict(self).items() if value}

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> "SourceOptions":
        """What `to_json` gave; `ValueError` for anything else."""
        names = {field.name for field in fields(SourceOptions)}
        if unknown := set(content) - names:
            raise ValueError(f"expected {', '.join(sorted(names))}, seen {sorted(unknown)[0]}")
        return SourceOptions(**{name: checks.text(value) for name, value in content.items()})


AS_IT_LOOKS = SourceOptions()
"""No option: the source itself tells how it is read."""
