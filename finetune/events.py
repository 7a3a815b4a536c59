"""Events of a run: step, name, value, in `metrics.jsonl` and TensorBoard."""

import json
import os
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from finetune import ranks
from zoo import rundir


class Events:
    """Writer of both files. After an interruption it goes on at `position`, reached at the end of `step`, and what was
    written later is dropped. Of several processes, rank 0 alone writes."""

    def __init__(self, folder: Path, *, position: int = 0, step: int = 0):
        if not ranks.first():
            return
        self._file = open(folder / rundir.METRICS, "ab")  # noqa: SIM115 (closed by close())
        self._file.truncate(position)
        self._board = SummaryWriter(str(folder / rundir.TENSORBOARD), purge_step=step + 1 if position else 0)

    def write(self, step: int, **values: float) -> None:
        """Record values as of a step, counted from 1 (0 = before training)."""
        if not ranks.first():
            return
        for name, value in values.items():
            self._file.write(json.dumps({"step": step, "name": name, "value": value}).encode() + b"\n")
            self._board.add_scalar(name, value, step)

    def position(self) -> int:
        """Bytes of metrics.jsonl so far, all on disk when this returns; 0 where this process writes none."""
        if not ranks.first():
            return 0
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        """Flush and close both files."""
        if not ranks.first():
            return
        self._file.close()
        self._board.close()


def read(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """name -> [(step, value), ...] of a run's metrics.jsonl."""
    series: dict[str, list[tuple[int, float]]] = {}
    for line in (folder / rundir.METRICS).read_text().splitlines():
        event = json.loads(line)
        series.setdefault(event["name"], []).append((event["step"], event["value"]))
    return series
