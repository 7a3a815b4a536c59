"""What a user asks of a finished run: answers to which pictures, and where they go. Loads nothing
heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from finetune.recipe.source_options import SourceOptions
from zoo.host.errors import UserError

SEVERAL = "pictures"
"""What several picture files are called in the name of the folder with their answers."""


@dataclass(frozen=True)
class Request:
    """Which pictures a run answers."""

    run: Annotated[Path, tyro.conf.Positional]
    """A finished run folder, also a pulled one."""
    data: tuple[Path, ...]
    """A folder (class folders with or without splits, or any other), a table (.csv, .tsv, .jsonl,
    .parquet) with or without labels, or picture files."""
    out: Path | None = None
    """Folder for the answers; RUN-predictions-DATA by default."""
    split: Literal["", "train", "val", "test"] = ""
    """Answer only the pictures of this split; all of them by default."""
    labels: bool = True
    """Measure the answers where folders or a column name classes of the run (--no-labels: only
    answer)."""
    columns: str = ""
    """Columns of the table, as for python -m finetune: path=file,label=species."""
    root: str = ""
    """Folder that the table's paths are relative to; the table's own by default."""
    to_folders: Path | None = None
    """Also copy each picture into a folder of this one, named after its answer, or into unknown."""
    link: bool = False
    """With --to-folders: make links instead of copies."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
    workers: int = -1
    """Processes that decode pictures; -1: chosen by the device."""

    def __post_init__(self) -> None:
        if not self.data:
            raise UserError("--data: expected a folder, a table or picture files, seen nothing.")
        if self.link and self.to_folders is None:
            raise UserError("--link has no effect without --to-folders: add that, or remove it.")

    @property
    def options(self) -> SourceOptions:
        """How a table is to be read."""
        return SourceOptions(columns=self.columns, root=self.root)

    @property
    def place(self) -> Path:
        """The folder for the answers."""
        if self.out is not None:
            return self.out
        # resolved, because `.` has no name
        run = self.run.resolve() if self.run.name in ("", "..") else self.run
        return run.with_name(f"{run.name}-predictions-{self._data_name}")

    @property
    def _data_name(self) -> str:
        if len(self.data) > 1:
            return SEVERAL
        data = self.data[0].resolve()
        return data.stem if data.is_file() else data.name
