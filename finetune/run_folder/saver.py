"""When a checkpoint is due."""

from pathlib import Path
from time import monotonic

from finetune.run_folder import checkpoint
from finetune.run_folder.checkpoint import State

SAVE_EVERY_S = 120.0
"""Seconds between two checkpoints within an epoch; one at an epoch's end may come sooner."""
SAVE_SHARE = 0.02
"""Largest share of the time that checkpoints take, the first and the last apart: large ones come
less often."""
RAREST_S = 1200.0
"""Seconds after which one is written however long the one before took: a disk that stalled once
does not count."""


class Saver:
    """Decides when a checkpoint of a run is due, and writes it."""

    def __init__(self, folder: Path, begin: State):
        self._folder, self._saved_at, self._took_s = folder, monotonic(), 0.0
        # a checkpoint with losses that were not read yet is written once more when they are
        self._saved_step = None if "losses" in begin.tensors else begin.step

    def due(self, *, epoch_ended: bool, last: bool) -> bool:
        """After the last step; else at an epoch's end or every `SAVE_EVERY_S`, within `SAVE_SHARE`
        of the time."""
        since_s = monotonic() - self._saved_at
        worth_it = since_s * SAVE_SHARE >= self._took_s and (epoch_ended or since_s > SAVE_EVERY_S)
        return last or worth_it or since_s > RAREST_S

    def save(self, state: State) -> None:
        """Write the checkpoint, unless this step is the one that was saved last."""
        if state.step != self._saved_step:
            began = monotonic()
            checkpoint.save_checkpoint(self._folder, state)
            self._saved_step, self._saved_at = state.step, monotonic()
            self._took_s = self._saved_at - began
