"""The folder with the answers: claimed, filled row by row, and finished.

A process may be killed at any moment. `resume/progress.json` names the rows that are safely there;
whoever goes on cuts the table off behind them. `summary.json` is written last, so a folder that has
it is complete.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import IO, Any

from filelock import FileLock

from finetune.prediction.answering import HEADER, Row
from zoo.contract import rundir
from zoo.files import checks, tables
from zoo.host import disk, locks
from zoo.host.errors import UserError

SUMMARY = "summary.json"
SUBMISSION = "submission.txt"
PROGRESS = "progress.json"
ASKED = "asked"
"""Key of both with the digest of what was asked (`Asked.digest`)."""
SAVED_EACH_S = 2.0
"""Seconds of answers that a killed process loses at most, beside the batch that it was at."""


@dataclass
class AnswerFolder:
    """Holds a folder that only this process writes."""

    folder: Path
    digest: str
    threads: int
    """That the answers are computed with, the same however often the command is started: the last
    bits of a number may depend on it."""
    done: int = 0
    """Pictures whose rows are safely in the table."""
    size: int = 0
    """Bytes of these rows, with the head line."""
    saved_s: float = 0.0

    @property
    def table(self) -> Path:
        """The table of answers."""
        return self.folder / rundir.PREDICTIONS

    @property
    def complete(self) -> bool:
        """Tell whether every picture has been answered, and the summary written."""
        return (self.folder / SUMMARY).is_file()

    @contextmanager
    def rows_file(self) -> Iterator[IO[bytes]]:
        """Open the table to append rows behind those that are safely there."""
        with open(self.table, "ab+") as file:
            if file.seek(0, os.SEEK_END) < self.size:
                raise UserError(
                    f"{self.table} is shorter than {self.folder / rundir.RESUME / PROGRESS} says: "
                    f"it was changed. Remove {self.folder} and start again."
                )
            file.truncate(self.size)
            if not self.size:
                file.write(_encoded([HEADER]))
                self.save(file, 0)
            yield file

    def append(self, file: IO[bytes], rows: Sequence[Row]) -> None:
        """Write the rows of one batch."""
        file.write(_encoded(rows))
        self.done += len(rows)
        if monotonic() - self.saved_s > SAVED_EACH_S:
            self.save(file, self.done)

    def save(self, file: IO[bytes], done: int) -> None:
        """Flush the rows to disk, and then say how many they are."""
        file.flush()
        os.fsync(file.fileno())
        self.done, self.size, self.saved_s = done, file.tell(), monotonic()
        progress = {
            ASKED: self.digest,
            "threads": self.threads,
            "pictures": self.done,
            "bytes": self.size,
        }
        rundir.write_json(self.folder / rundir.RESUME / PROGRESS, progress)

    def finish(self, summary: dict[str, Any]) -> None:
        """Write the summary, which says that all is there, and remove what only going on needs."""
        rundir.write_json(self.folder / SUMMARY, {ASKED: self.digest, **summary})
        shutil.rmtree(self.folder / rundir.RESUME, ignore_errors=True)

    def read_summary(self) -> dict[str, Any]:
        """Read the summary of a complete folder."""
        content: dict[str, Any] = rundir.read_json(self.folder / SUMMARY, kind=dict)
        return content


def _encoded(rows: Sequence[Sequence[str]]) -> bytes:
    """Encode rows; names of files that are no text keep their bytes."""
    return tables.lines(rows).encode("utf-8", "surrogateescape")


@contextmanager
def claimed(folder: Path, digest: str, *, threads: int) -> Iterator[AnswerFolder]:
    """Hold the folder for the answers to what `digest` names, new or begun.

    Raises `UserError` for a folder that holds anything else, and where another process writes it.
    """
    _check_foreign(folder)
    lock_folder = folder / rundir.RESUME
    with disk.right_needed(folder):
        lock_folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(lock_folder / "lock"))
    locks.take(lock, in_use=f"{folder} is being written by another process: wait for it.")
    try:
        yield _begun(folder, digest, threads)
    finally:
        lock.release()
        if (folder / SUMMARY).is_file():
            shutil.rmtree(lock_folder, ignore_errors=True)


def _check_foreign(folder: Path) -> None:
    """`UserError` unless the folder is new, empty, or one with answers."""
    if not os.path.lexists(folder):
        return
    own = {rundir.RESUME, rundir.PREDICTIONS, rundir.LEFT_OUT, SUMMARY, SUBMISSION}
    names = set(os.listdir(folder)) if folder.is_dir() else {folder.name}
    begun = (folder / rundir.RESUME).is_dir() or (folder / SUMMARY).is_file()
    if names and (not begun or names - own):
        other = sorted(names - own) or sorted(names)
        raise UserError(
            f"--out {folder}: expected a new or empty folder, or one that this command began, seen "
            f"{other[0]} in it. Choose another --out."
        )


def _begun(folder: Path, digest: str, threads: int) -> AnswerFolder:
    answers = AnswerFolder(folder, digest, threads)
    record = folder / SUMMARY
    if not record.is_file():
        record = folder / rundir.RESUME / PROGRESS
    if not record.is_file():
        return answers
    with checks.of(record, f"Remove {folder} and start again."):
        content = rundir.read_json(record, kind=dict)
        if content[ASKED] != digest:
            raise UserError(
                f"{folder} has answers to other pictures, of another run, or from before some of "
                "them changed. Choose another --out, or remove it."
            )
        if record.name == PROGRESS:
            answers.threads = checks.whole(content["threads"], 1, 1024)
            answers.done = checks.whole(content["pictures"], 0, tables.MOST_ROWS)
            answers.size = checks.whole(content["bytes"], 0, 10**15)
    return answers
