"""Pictures that were answered wrong, kept with their correction as a folder that `finetune --data` takes."""

import hashlib
import json
import threading
import time
from pathlib import Path

from serve.answers import to_json
from serve.engine import Engine
from zoo.errors import UserError

MAX_BYTES = 1_000_000_000
"""The folder may hold so much: strangers write to it."""
LOG = ".corrections.jsonl"
"""One line for each: time, file, right class, what was answered, by which model. Hidden, so that finetune leaves it."""
_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"BM": ".bmp", b"GIF8": ".gif"}


class Feedback:
    """`FOLDER/train/CLASS/SHA256.jpg`; final. Threads may share it. `UserError` if it cannot be written."""

    def __init__(self, folder: Path):
        self._folder, self._lock = folder, threading.Lock()
        try:
            (folder / "train").mkdir(parents=True, exist_ok=True)
            self._size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        except OSError as error:
            raise UserError(f"--feedback {folder}: expected a folder that can be written, seen {error.strerror}."
                            ) from None

    def store(self, engine: Engine, picture: bytes, label: str) -> str:
        """Keep a picture that can be decoded under its right class; gives a sentence about what was done."""
        answered = engine.answer(picture, lambda answered: to_json(answered) | {"model": answered.model.digest})
        if label not in engine.model.predictor.bundle.labels or Path(label).name != label or label.startswith("."):
            return "This class cannot be kept."
        digest = hashlib.sha256(picture).hexdigest()
        suffix = next((suffix for start, suffix in _SUFFIXES.items() if picture.startswith(start)), "")
        path = self._folder / "train" / label / f"{digest[:32]}{suffix}"
        line = json.dumps({"time": time.time(), "file": path.relative_to(self._folder).as_posix(), "right": label,
                           "answered": answered}, ensure_ascii=False)
        with self._lock:
            if self._size + len(picture) > MAX_BYTES:
                return "The folder for corrections is full; tell the owner of this page."
            for other in (self._folder / "train").glob(f"*/{digest[:32]}*"):  # corrected again: the last one holds
                other.unlink()
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(picture)
            with open(self._folder / LOG, "a", encoding="utf-8") as file:
                file.write(line + "\n")
            self._size += len(picture) + len(line)
        return f"Thank you: kept as {label}."
