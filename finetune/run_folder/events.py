"""Events of a run: step, name, value, in `metrics.jsonl` and TensorBoard."""

import json
import os
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from finetune.machine import distributed
from zoo.contract import rundir
from zoo.files import checks, strict_json
from zoo.files.folders import read_bytes
from zoo.host.errors import UserError

MOST_BYTES = 100_000_000
"""Of metrics.jsonl; two million lines, of 50 bytes each."""
MOST_LINES = 2_000_000
LONGEST_LINE = 10_000


class Events:
    """Writer of both files. After an interruption it goes on at `position`, reached at the end of
    `step`, and what was written later is dropped. Of several processes, rank 0 alone writes."""

    def __init__(self, folder: Path, *, position: int = 0, step: int = 0):
        if not distributed.first():
            return
        # appended to, as a run that goes on keeps the lines of its first start
        self._file = open(folder / rundir.METRICS, "ab")  # noqa: SIM115 (closed by close())
        self._file.truncate(position)
        # TensorBoard's files are not cut: it hides their steps from `purge_step` on
        self._board = SummaryWriter(
            str(folder / rundir.TENSORBOARD), purge_step=step + 1 if position else 0
        )

    def write(self, step: int, **values: float) -> None:
        """Record values as of a step, counted from 1 (0 = before training)."""
        if not distributed.first():
            return
        for name, value in values.items():
            self._file.write(
                json.dumps({"step": step, "name": name, "value": value}).encode() + b"\n"
            )
            self._board.add_scalar(name, value, step)

    def position(self) -> int:
        """Bytes of metrics.jsonl so far, all on disk when this returns; 0 where this process writes
        none."""
        if not distributed.first():
            return 0
        self._file.flush()
        # a checkpoint must not name a length that a crash takes back
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Flush and close both files."""
        if not distributed.first():
            return
        self._file.close()
        self._board.close()


def read_events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """name -> [(step, value), ...] of a run's metrics.jsonl."""
    series: dict[str, list[tuple[int, float]]] = {}
    path = folder / rundir.METRICS
    try:
        content = read_bytes(path, MOST_BYTES)
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: copy the run folder again, or train it again."
        ) from None
    with checks.of(path, "Copy the run folder again, or train it again."):
        if content.count(b"\n") > MOST_LINES:
            raise ValueError(f"more than {MOST_LINES:,} lines")
        for line in content.splitlines():
            name, step, value = _event(line)
            series.setdefault(name, []).append((step, value))
    return series


def _event(line: bytes) -> tuple[str, int, float]:
    """Name, step and value of a line; `ValueError` or `KeyError` for anything else."""
    if len(line) > LONGEST_LINE:
        raise ValueError(f"a line has {len(line):,} bytes")
    # a loss that became NaN is recorded as such
    event = strict_json.parse(line, finite=False)
    value = event["value"]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"expected a number, seen {checks.seen(value)}")
    return checks.name(event["name"]), checks.whole(event["step"], 0, 10**15), value
