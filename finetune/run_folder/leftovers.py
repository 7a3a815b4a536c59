"""What a run that was stopped or killed leaves behind in its folder."""

import shutil
from pathlib import Path

from finetune.machine import distributed
from zoo.contract import rundir
from zoo.host import disk

STOPPED = "stopped.json"
"""In `resume/`, after a signal: its name and the step that was saved. A launcher's own exit code
may not show that a signal came."""


def mark_stopped(folder: Path, name: str, step: int) -> None:
    """Record that a signal stopped the run and that its checkpoint is complete."""
    if distributed.first():
        rundir.write_json(folder / rundir.RESUME / STOPPED, {"signal": name, "step": step})


def sweep(folder: Path) -> None:
    """Remove what writers that were stopped or killed left behind. For the process that holds the
    folder's lock."""
    delete_path(folder / rundir.RESUME / STOPPED)
    # listed before anything is removed, so that the walk enters no folder that is gone
    for path in list(folder.rglob("*" + disk.UNFINISHED)):
        delete_path(path)


def delete_path(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
