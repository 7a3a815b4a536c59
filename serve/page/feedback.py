"""Pictures that were answered wrong, kept with their correction as a folder that `finetune --data`
takes."""

import errno
import hashlib
import json
import os
import re
import tempfile
import threading
import time
import unicodedata
from collections.abc import Iterable
from pathlib import Path

from serve.engine.answer_queue import AnswerQueue
from serve.engine.render import answer_json
from serve.limits.uploads import on_disk
from zoo.host.errors import UserError

MAX_BYTES = 1_000_000_000
"""Bytes on disk that the folder may hold, its log included: strangers write to it."""
MAX_FILES = 100_000
"""Pictures that the folder may hold."""
LOG = ".corrections.jsonl"
"""One line for each: time, file, right class, what was answered, by which model. Hidden, so that
finetune leaves it."""
LONGEST_LABEL = 200
"""Bytes of a class's name at most: file systems take 255."""
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names that Windows keeps for devices."""
FULL = "The folder for corrections is full; tell the owner of this page."
UNWRITTEN = "The correction could not be written; tell the owner of this page."
UNFINISHED = ".part"
"""Suffix of a picture that is being written."""
NO_CLASS = "This class cannot be kept."
_SUFFIXES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG": ".png",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"GIF8": ".gif",
}


class Feedback:
    """`FOLDER/train/CLASS/SHA256.jpg`; final. Threads may share it. `UserError` if it cannot be
    written."""

    def __init__(self, folder: Path):
        self._folder, self._lock = folder, threading.Lock()
        self._sizes: dict[Path, int] = {}
        """Bytes on disk of every picture."""
        self._log_size = 0
        try:
            (folder / "train").mkdir(parents=True, exist_ok=True)
            for path in folder.rglob("*"):
                if path.suffix == UNFINISHED:  # of a process that was killed while it wrote
                    path.unlink()
                elif path.is_file() and path != folder / LOG:
                    self._sizes[path] = on_disk(path.stat().st_size)
            if (folder / LOG).exists():
                self._log_size = (folder / LOG).stat().st_size
        except OSError as error:
            raise UserError(
                f"--feedback {folder}: expected a folder that can be written, seen "
                f"{error.strerror}."
            ) from None

    @property
    def size(self) -> int:
        """Bytes on disk of the whole folder."""
        return sum(self._sizes.values()) + on_disk(self._log_size)

    def store(self, queue: AnswerQueue, picture: bytes, label: str, *, owner: str = "") -> str:
        """Keep a picture that can be decoded under its right class; gives a sentence about what was
        done."""
        if label not in queue.model.predictor.bundle.labels or not _is_folder_name(label):
            return NO_CLASS
        answered = queue.answer(
            picture,
            # decoded and answered first: what is no picture is not kept
            lambda answered: answer_json(answered) | {"model": answered.model.digest},
            owner=owner,
        )
        path = self._folder / "train" / label / _file_name(picture)
        correction = {
            "time": time.time(),
            "file": path.relative_to(self._folder).as_posix(),
            "right": label,
            "answered": answered,
        }
        line = json.dumps(correction) + "\n"
        with self._lock:
            try:
                if not self._put(path, picture, line):
                    return FULL
            except OSError:
                return UNWRITTEN
        return f"Thank you: kept as {label}."

    def _put(self, path: Path, picture: bytes, line: str) -> bool:
        """Keep a picture in place of the same one under other classes; False if the folder is full.

        Raises OSError for a folder that cannot be read or written now.
        """
        if not (self._folder / "train").exists():  # its owner took it away: a new one begins
            self._sizes, self._log_size = {}, 0
        # as they lie there: another service may keep corrections in the same folder
        same = self._folder.glob(f"train/*/{path.name}")
        replaced = [other for other in same if other != path]
        size = self._size_with(path, picture, line, replaced)
        if size > MAX_BYTES or len(self._sizes) >= MAX_FILES:
            return False
        # the new one first: a picture may lie in two classes for a moment, but is never lost
        self._write(path, picture, line)
        for other in replaced:  # corrected again: the last one holds
            other.unlink(missing_ok=True)
            self._sizes.pop(other, None)
        return True

    def _size_with(self, path: Path, picture: bytes, line: str, replaced: Iterable[Path]) -> int:
        """Return the bytes on disk of the whole folder with this picture and line, without
        `replaced`."""
        sizes = dict(self._sizes)
        sizes.setdefault(path, on_disk(len(picture)))
        for other in replaced:
            sizes.pop(other, None)
        return sum(sizes.values()) + on_disk(self._log_size + len(line))

    def _write(self, path: Path, picture: bytes, line: str) -> None:
        """The picture, unless it is there, and its line: both or neither. A reader sees a whole
        picture or none."""
        is_new = not path.exists()
        if is_new:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(suffix=UNFINISHED, dir=path.parent)
            try:
                with open(descriptor, "wb") as file:
                    file.write(picture)
                    file.flush()
                    os.fsync(descriptor)
                os.chmod(temporary, 0o644)  # mkstemp's own is for nobody else
                os.replace(temporary, path)
            finally:
                Path(temporary).unlink(missing_ok=True)
        try:
            self._append(line.encode())
        except OSError:
            if is_new:
                path.unlink(missing_ok=True)
            raise
        self._log_size += len(line)
        if is_new:
            self._sizes[path] = on_disk(len(picture))

    def _append(self, line: bytes) -> None:
        """Add a line to the log, whole or not at all: the next one would be joined to a part."""
        with open(self._folder / LOG, "ab", buffering=0) as log:
            end = log.tell()
            if log.write(line) < len(line):  # as on a disk that is full after some bytes
                log.truncate(end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _file_name(picture: bytes) -> str:
    """Return the name that a picture is kept by: its digest, so that the same one comes once, with
    the suffix of its kind."""
    # 128 bits tell any two pictures apart, and leave room in a path
    digest = hashlib.sha256(picture).hexdigest()[:32]
    for start, suffix in _SUFFIXES.items():
        if picture.startswith(start):
            return f"{digest}{suffix}"
    return digest


def _is_folder_name(label: str) -> bool:
    """Tell whether a class's name can be that of a folder, here and where the folder is copied
    to."""
    # Windows drops dots and blanks at the end; finetune passes over what begins with a dot
    if not label or label != label.strip() or label.startswith(".") or label.endswith("."):
        return False
    forbidden = "/\\"
    if os.name == "nt":
        forbidden = '/\\:*?"<>|'
    if any(sign in forbidden or unicodedata.category(sign) in ("Cc", "Cs") for sign in label):
        return False
    if _RESERVED.fullmatch(label):
        return False
    return len(label.encode("utf-8", "replace")) <= LONGEST_LABEL
