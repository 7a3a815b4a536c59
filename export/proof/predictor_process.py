"""What `python -m zoo.predictor`, the code that serves, answers in a process of its own, without
torch."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from zoo.host import console
from zoo.host.errors import UserError

COMMAND_LINE = 24_000 if sys.platform == "win32" else 100_000
"""Bytes of file names on one command line: Windows takes 32,767 characters, Linux 128 KiB."""
SHOWN = 500
"""Last characters of its errors that are told."""


def predicted(folder: Path, paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Return the outputs of the model of a bundle, a row for each picture; `UserError` if it cannot
    be run."""
    title = f"answering {len(paths)} pictures by the exported file"
    with console.bar(title, len(paths)) as advance:
        groups = [_outputs(folder, group, advance) for group in command_lines(paths)]
    return {name: np.concatenate([group[name] for group in groups]) for name in groups[0]}


def command_lines(paths: Sequence[Path]) -> list[list[Path]]:
    """Return the paths in groups, in order, each short enough for one command line."""
    groups: list[list[Path]] = []
    left = 0
    for path in paths:
        length = len(os.fsencode(path)) + 1
        if not groups or length > left:
            groups.append([])
            left = COMMAND_LINE
        groups[-1].append(path)
        left -= length
    return groups


def _outputs(
    folder: Path, paths: Sequence[Path], advance: console.Advance
) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as temporary:
        saved = Path(temporary) / "outputs.npz"
        command = [sys.executable, "-m", "zoo.predictor", str(folder), *map(str, paths)]
        command += ["--outputs", str(saved), "--provider", "cpu", "--unfinished"]
        ended_well, words = run_predictor(command, advance)
        if not ended_well or not saved.is_file():
            raise UserError(f"the exported model cannot be run: {words.strip()[-SHOWN:]}")
        with np.load(saved) as arrays:
            # read now: the file is gone after the block
            return dict(arrays)


def run_predictor(command: Sequence[str], advance: console.Advance) -> tuple[bool, str]:
    """Return whether the command, which prints a line for each picture, ended well; and its errors,
    or else the last line."""
    last = ""
    # a file, not a second pipe: one that nobody reads meanwhile would fill up and stop the process
    with tempfile.TemporaryFile("w+", errors="replace") as errors:
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, errors="replace"
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                advance(1)
                last = line
        errors.seek(0)
        return process.returncode == 0, errors.read() or last
