"""The run folder (contract, version 1): names, and how it is written, finished and opened.

A run folder is finished when `FINISHED.json` exists; it is written last and holds the digest of every file that
`finetune` wrote. Nothing rewrites those files later; `export` adds `onnx/` and `bundles/` beside them.

A published copy (on the Hub, or pulled from it) is a run folder with fewer files: pictures, their names and paths stay
at home. Its `FINISHED.json` lists what it has, and names under `run` the run that it is a copy of.
"""

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from zoo.errors import UserError
from zoo.text import csv_rows, shell_path

VERSION = 1

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
DECISION = "decision.json"
RECIPE = "recipe.json"
DATA = "data.json"
FILES = "files.csv"
LOCAL = "local.json"
METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"
REPORT = "report.json"
PREDICTIONS = "predictions.csv"
BANK = "bank.safetensors"
PAGE = "report.html"
FIGURES = "figures"
CARD = "README.md"
RESUME = "resume"
FINISHED = "FINISHED.json"
RUN = "run"
"""Key of a published copy's FINISHED.json: digest of FINISHED.json of the run itself."""

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""`errno` of a write that found no space left: disk, quota, or the largest file that is allowed."""
ADDED_LATER = ("onnx", "bundles")
"""Folders that `export` adds to a finished run; not part of its digests."""


def default_name(data: str, base: str) -> str:
    """Name of a run's folder below `runs/`: `mydataset-vit_base_21k`; what a file name cannot hold becomes `-`."""
    data_name = Path(data).resolve().name
    return re.sub(r"[^\w.@-]+", "-", f"{data_name}-{base.removeprefix('hf-hub:').removeprefix('timm/')}").strip("-")


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that a reader sees the old file or the new one, never half of it."""
    # a file name that is not UTF-8 has lone surrogates; escaped, they are valid JSON and come back as they were
    write_whole(path, lambda temporary: temporary.write_text(text, "utf-8", "backslashreplace", "\n"))


def write_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` write a temporary file in the same folder, flush it to disk, rename it to `path`, flush the folder.

    A reader sees the old file or the new one, never half of it; where `write` fails, the old one stays alone.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Flush a folder's list of names to disk: without it a power cut can undo a rename. Not on Windows, which has no
    such call."""
    if os.name != "nt":
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def digest(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def finish(folder: Path) -> None:
    """Write `FINISHED.json`: the contract's version and the digest of every file of the run, `resume/` apart."""
    write_manifest(folder, version=VERSION, leave_out=(RESUME, *ADDED_LATER))


def write_manifest(folder: Path, *, version: int, leave_out: Collection[str] = ()) -> None:
    """Write `FINISHED.json` with the digest of every file below `folder`; `leave_out`: files and folders at its top."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    names = [path.relative_to(folder).as_posix() for path in files]
    digests = {name: digest(folder / name) for name in names
               if name.split("/")[0] not in (*leave_out, FINISHED)
               and not name.endswith(".tmp")}  # of a writer that was killed
    write_json(folder / FINISHED, {"version": version, "files": digests})


def finished_sha256(folder: Path) -> str:
    """What names the state of a finished run: the digest of its FINISHED.json, which a published copy keeps."""
    return read_json(folder / FINISHED).get(RUN) or digest(folder / FINISHED)


def is_finished(folder: Path) -> bool:
    """Whether `folder` holds a finished run."""
    return (folder / FINISHED).is_file()


def read_json(path: Path) -> Any:
    """A JSON file of the contract; `UserError` if it is missing or cut off."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: expected a file of a run folder made by python -m finetune.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not readable as JSON ({error}): the file was changed or cut off.") from None


def open_finished(folder: Path, *, verify: bool | Collection[str] = False) -> dict[str, Any]:
    """The manifest of a finished run: `{"version": 1, "files": {name: sha256}}`.

    Raises `UserError` for a folder that is missing, unfinished, of a newer contract, or that lacks a file; with
    `verify` also when the bytes of any file (or of those named) have changed.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: expected a run folder, such as runs/NAME.")
    if not is_finished(folder):
        finish_it = f"finish it with: python -m finetune --resume {shell_path(folder)}"
        seen = finish_it if (folder / RESUME).is_dir() else "it is not a run folder"
        raise UserError(f"{folder} has no {FINISHED}: expected a finished run; {seen}.")
    return read_manifest(folder, "run", again="train it again", version=VERSION, verify=verify)


def read_manifest(folder: Path, kind: str, *, again: str, version: int,
                  verify: bool | Collection[str] = False) -> dict[str, Any]:
    """`FINISHED.json` of a folder that has one, checked as in `open_finished`.

    `kind`: what errors call the folder's content; `again`: what they tell to do if another copy does not help;
    `version`: the newest contract that is understood.
    """
    manifest = read_json(folder / FINISHED)
    if (not isinstance(manifest, dict) or not isinstance(manifest.get("version"), int)
            or not isinstance(manifest.get("files"), dict)):
        raise UserError(f"{folder / FINISHED} is not that of a finished {kind} (expected version and files): copy the "
                        f"folder again, or {again}.")
    if manifest["version"] > version:
        raise UserError(f"{folder} has contract version {manifest['version']}; this program reads up to {version}: "
                        "update it with pip.")
    if missing := [name for name in manifest["files"] if not (folder / name).is_file()]:
        raise UserError(f"{folder} lacks {', '.join(missing)}: copy the whole folder again, or {again}.")
    compared = manifest["files"] if verify is True else verify or ()
    if changed := [name for name in compared
                   if name not in manifest["files"] or digest(folder / name) != manifest["files"][name]]:
        raise UserError(f"{folder}: {', '.join(changed)} changed since the {kind} finished (sha256 differs): "
                        f"copy the folder again, or {again}.")
    return manifest


def listed(folder: Path, name: str) -> Path | None:
    """The file `name` of a finished folder if its FINISHED.json lists it with these bytes; None if it lists none.

    What is shown, served, sent or packed goes through here, so that nothing that lies beside the listed files does.
    Raises `UserError` if the file is missing or changed.
    """
    expected = read_json(folder / FINISHED)["files"].get(name)
    if expected is None:
        return None
    if not (folder / name).is_file() or digest(folder / name) != expected:
        raise UserError(f"{folder / name} changed since {FINISHED} was written (sha256 differs): copy the folder "
                        "again.")
    return folder / name


def read_files(run: Path) -> list[dict[str, str]]:
    """The rows of `files.csv`: path, label (class name), split, sha256, width, height of each picture."""
    return read_table(run / FILES)


def read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file of the contract; `UserError` if it is missing or not as it was written."""
    try:
        return list(csv_rows(path))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: expected a file of a run folder made by python -m finetune.") from None
    except ValueError as error:
        raise UserError(f"{path} is not readable as a table ({error}): the file was changed or cut off.") from None
