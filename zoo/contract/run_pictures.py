"""The pictures that a run was made from: the rows of its `files.csv`, and where they lay."""

from collections.abc import Collection, Iterator
from pathlib import Path

from zoo.contract import rundir
from zoo.files import folders, tables
from zoo.files.folders import SHA256, shown
from zoo.host.errors import UserError

ROOT = "root"
"""Key of local.json with the folder that paths are relative to, where data names a table."""


def read_files(run: Path) -> list[dict[str, str]]:
    """The rows of `files.csv`: path, label (class name), split, sha256, width, height of each
    picture.

    `path` is relative to the data folder; only pictures of a validation folder elsewhere begin with
    `../`. Raises `UserError` if the file is missing or anything else.
    """
    return list(files_rows(run))


def files_rows(run: Path) -> Iterator[dict[str, str]]:
    """The same, row by row, for runs of millions of pictures."""
    for row in tables.rows(
        run / rundir.FILES, ("path", "label", "split", "sha256", "width", "height")
    ):
        sides = row["width"], row["height"]
        if not folders.is_picture_path(row["path"]) or not SHA256.fullmatch(row["sha256"]):
            raise UserError(
                f"{run / rundir.FILES}: expected paths relative to the data folder and their "
                f"sha256, seen {shown(row['path'])!r} and {shown(row['sha256'])!r}: copy the run "
                "folder again."
            )
        # isascii: int() takes digits of every script, and of very many it takes its time
        if not all(side.isascii() and side.isdigit() and len(side) <= 9 for side in sides):
            raise UserError(
                f"{run / rundir.FILES}: expected width and height in pixels, seen {shown(sides)}: "
                "copy the run folder again."
            )
        yield row


def recorded(run: Path, paths: Collection[str]) -> dict[str, str]:
    """Path -> sha256 of these pictures, as far as files.csv lists them."""
    wanted = set(paths)
    return {row["path"]: row["sha256"] for row in files_rows(run) if row["path"] in wanted}


def data_root(run: Path) -> Path:
    """Where the run's pictures lay when it was trained, as local.json says; `UserError` if that is
    no absolute path."""
    local = rundir.read_json(run / rundir.LOCAL, kind=dict)
    root = local.get(ROOT, local.get("data"))
    if not isinstance(root, str) or "\0" in root or not Path(root).is_absolute():
        raise UserError(
            f"{run / rundir.LOCAL}: expected the folder of the pictures under data, seen "
            f"{shown(root)!r}: name it with --data."
        )
    return Path(root)
