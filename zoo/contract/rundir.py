"""The run folder (contract, version 1): names, and how it is written, finished and opened.

A run folder is finished when `FINISHED.json` exists; it is written last and holds the digest of
every file that `finetune` wrote. Nothing rewrites those files later; `export` adds `onnx/` and
`bundles/` beside them.

Everybody opens a run by `open_finished` (one that goes on: `check_folder`). What it accepts holds
no links and names nothing outside the folder (zoo/files/folders.py).

A published copy (on the Hub, or pulled from it) is a run folder with fewer files: pictures, their
names and paths stay at home. Its `FINISHED.json` lists what it has, and names under `run` the run
that it is a copy of.
"""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from zoo.files import checks, folders, strict_json
from zoo.files.folders import SHA256, Tree, shown
from zoo.host import disk
from zoo.host.errors import UserError
from zoo.host.text import shell_path

VERSION = 1

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
DECISION = "decision.json"
RECIPE = "recipe.json"
DATA = "data.json"
FILES = "files.csv"
LEFT_OUT = "left_out.csv"
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

ADDED_LATER = ("onnx", "bundles")
"""Folders that `export` adds to a finished run; not part of its digests."""

MOST_NAMES = 10_000
"""Files that one FINISHED.json lists at most."""
MOST_BYTES = 16_000_000
"""Of a JSON file; the largest are report.json and data.json, with 0.2 KB for each class."""
LARGE_BYTES = 100_000_000
"""Of a file that is looked at for holes."""
SMALL = {FINISHED: 4_000_000, DECISION: 1_000_000, CONFIG: 8_000_000, "bundle.json": 8_000_000}
"""The same of files that hold less."""
_FILES = frozenset(
    {
        CONFIG,
        WEIGHTS,
        DECISION,
        RECIPE,
        DATA,
        FILES,
        LEFT_OUT,
        LOCAL,
        METRICS,
        REPORT,
        PREDICTIONS,
        BANK,
        PAGE,
        CARD,
        FINISHED,
        "onnx/model.onnx",
        "bundles/.lock",
        f"{RESUME}/lock",
    }
)
_FOLDERS = frozenset({TENSORBOARD, FIGURES, RESUME, *ADDED_LATER})


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text so that a reader sees the old file or the new one, never half of it."""
    # a file name that is not UTF-8 has lone surrogates; escaped, they are valid JSON and come back
    # as they were
    disk.write_whole(
        path, lambda temporary: temporary.write_text(text, "utf-8", "backslashreplace", "\n")
    )


def digest(path: Path) -> str:
    """sha256 of a regular file's bytes, in hexadecimal; `UserError` for a pipe or device, which is
    not waited for."""
    with folders.open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def finish(folder: Path) -> None:
    """Write `FINISHED.json`: the contract's version and the digest of every file of the run,
    `resume/` apart."""
    write_manifest(folder, version=VERSION, leave_out=(RESUME, *ADDED_LATER))


def write_manifest(folder: Path, *, version: int, leave_out: Collection[str] = ()) -> None:
    """Write `FINISHED.json` with the digest of every file below `folder`; `leave_out`: files and
    folders at its top.

    What a killed writer left, and a file whose name no manifest may hold (we write none), are not
    listed. `UserError` for a link.
    """
    digests = {}
    for name in sorted(folders.look_through(folder).files):
        if name.split("/")[0] in (*leave_out, FINISHED):
            continue
        if folders.is_plain(name) and not name.endswith(disk.UNFINISHED):
            digests[name] = digest(folder / name)
    write_json(folder / FINISHED, {"version": version, "files": digests})


def finished_sha256(folder: Path) -> str:
    """What names the state of a finished run: the digest of its FINISHED.json, which a published
    copy keeps."""
    original = read_json(folder / FINISHED, kind=dict).get(RUN)
    if original is None:
        return digest(folder / FINISHED)
    if not isinstance(original, str) or not SHA256.fullmatch(original):
        raise UserError(
            f"{folder / FINISHED}: expected a sha256 under {RUN!r}: copy the folder again."
        )
    return original


def is_finished(folder: Path) -> bool:
    """Whether `folder` holds a finished run."""
    return (folder / FINISHED).is_file()


def read_json(path: Path, *, kind: type = object) -> Any:
    """A JSON file of the contract, of at most `MOST_BYTES`; its limits of content are those of
    zoo/files/strict_json.py.

    `kind`: dict or list if it has to be one. Raises `UserError` if the file is missing, cut off, or
    anything else.
    """
    try:
        value = strict_json.parse(folders.read_bytes(path, SMALL.get(path.name, MOST_BYTES)))
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: expected a file of a run folder made by python -m finetune."
        ) from None
    except ValueError as error:  # also wrong UTF-8
        raise UserError(
            f"{path} is not readable as JSON ({error}): it was changed or cut off: copy it again."
        ) from None
    if not isinstance(value, kind):
        expected = "an object {...}" if kind is dict else "a list [...]"
        raise UserError(
            f"{path}: expected {expected}, seen {type(value).__name__}: copy the folder again."
        )
    return value


def check_folder(folder: Path) -> Tree:
    """What lies below a run folder, finished or not; `UserError` unless it is safe to read and to
    write there.

    Nothing in it is a link, pipe or device, and what has the name of a file of a run is a file.
    """
    tree = folders.look_through(folder)
    tree.check_kinds(folder, files=_FILES, folders=_FOLDERS)
    return tree


def open_finished(folder: Path, *, verify: bool | Collection[str] = False) -> dict[str, Any]:
    """The manifest of a finished run: `{"version": 1, "files": {name: sha256}}`.

    Raises `UserError` for a folder that is missing, unfinished, of a newer contract, that lacks a
    file or holds a link; with `verify` also when the bytes of any file (or of those named) have
    changed.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: expected a run folder, such as runs/NAME.")
    if not is_finished(folder):
        finish_it = f"finish it with: python -m finetune --resume {shell_path(folder)}"
        seen = finish_it if (folder / RESUME).is_dir() else "it is not a run folder"
        raise UserError(f"{folder} has no {FINISHED}: expected a finished run; {seen}.")
    check_folder(folder)
    return read_manifest(folder, "run", again="train it again", version=VERSION, verify=verify)


def read_manifest(
    folder: Path, kind: str, *, again: str, version: int, verify: bool | Collection[str] = False
) -> dict[str, Any]:
    """`FINISHED.json` of a folder that has one, checked as in `open_finished`.

    `kind`: what errors call the folder's content; `again`: what they tell to do if another copy
    does not help; `version`: the newest contract that is understood.
    """
    tree = folders.look_through(folder)
    manifest = read_json(folder / FINISHED)
    if not _is_manifest(manifest):
        raise UserError(
            f"{folder / FINISHED} is not that of a finished {kind} (expected version and files): "
            f"copy the folder again, or {again}."
        )
    if manifest["version"] > version:
        raise UserError(
            f"{folder} has contract version {manifest['version']}; this program reads up to "
            f"{version}: update it with pip."
        )
    check_names(folder, manifest["files"], f"copy the folder again, or {again}.")
    if missing := [name for name in manifest["files"] if name not in tree.files]:
        raise UserError(
            f"{folder} lacks {_some(missing)}: copy the whole folder again, or {again}."
        )
    compared = manifest["files"] if verify is True else verify or ()
    for name in compared:  # all, before the first of them is read
        if name in tree.files:
            _check_size(folder / name)
    changed = []
    for name in compared:
        if name not in manifest["files"] or digest(folder / name) != manifest["files"][name]:
            changed.append(name)
    if changed:
        raise UserError(
            f"{folder}: {_some(changed)} changed since the {kind} finished (sha256 differs): "
            f"copy the folder again, or {again}."
        )
    return manifest


def _is_manifest(content: Any) -> bool:
    if not isinstance(content, dict) or type(content.get("version")) is not int:
        return False
    return isinstance(content.get("files"), dict)


def check_names(folder: Path, files: dict[str, Any], advice: str) -> None:
    """`UserError` for a name that could lead out of the folder, and for what is no digest."""
    if len(files) > MOST_NAMES:
        raise UserError(
            f"{folder / FINISHED} lists {len(files):,} files: expected at most {MOST_NAMES:,}; "
            f"{advice}"
        )
    for name, sha256 in files.items():
        if not folders.is_plain(name) or name == FINISHED:
            raise UserError(
                f"{folder / FINISHED} lists {shown(name)!r}: expected names of files in this "
                f"folder, such as {CONFIG}; {advice}"
            )
        if not isinstance(sha256, str) or not SHA256.fullmatch(sha256):
            raise UserError(
                f"{folder / FINISHED}: expected the sha256 of {name}, 64 hexadecimal digits, seen "
                f"{shown(sha256)!r}; {advice}"
            )


def _check_size(path: Path) -> None:
    """`UserError`, before a file is hashed, for JSON that nobody would read, and for a file that is
    mostly holes."""
    found = path.lstat()
    # weights do not shrink: a file whose bytes are not on the disk was made to be long to read
    on_disk = getattr(found, "st_blocks", found.st_size) * 512
    if found.st_size > LARGE_BYTES and 4 * on_disk < found.st_size:
        raise UserError(
            f"{path} has {found.st_size:,} bytes, most of which are holes: expected a file as it "
            "was written. Copy the folder again."
        )
    if path.suffix != ".json":
        return
    size, most = found.st_size, SMALL.get(path.name, MOST_BYTES)
    if size > most:
        raise UserError(
            f"{path} has {size:,} bytes: expected at most {most:,}: copy the folder again."
        )


def _some(names: list[str]) -> str:
    text = ", ".join(map(shown, names[:10]))
    if len(names) > 10:
        text += f" and {len(names) - 10:,} more"
    return text


def label_names(run: Path) -> list[str]:
    """The classes of a run in the order of its outputs, as config.json names them."""
    with checks.of(run / CONFIG):
        return list(checks.names(read_json(run / CONFIG, kind=dict)["label_names"]))
