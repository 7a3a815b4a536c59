"""What is exported, and how: the command line of `python -m export`. Loads nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from export.targets.rows import LOSSY, TARGETS
from zoo.host.errors import UserError

if TYPE_CHECKING:
    TargetName = str
else:
    TargetName = Literal[tuple(TARGETS)]


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and on which pictures to prove it."""

    run: Annotated[Path, tyro.conf.Positional]
    """A finished run folder."""
    to: tuple[TargetName, ...] = ("onnx",)
    """Targets; each becomes RUN/bundles/TARGET."""
    data: Path | None = None
    """Folder of the run's pictures, if it moved since; of a pulled run, any folder of class
    folders."""
    parity_images: int = 200
    """Validation pictures at most that both models must answer alike; made ones come on top."""
    examples: bool = True
    """Put up to 6 validation pictures with their answers into the bundle (--no-examples: none)."""

    max_loss: float | None = None
    """Points of accuracy that int8 (default 1) and fp16 (default 0.2) may lose on labelled
    pictures."""
    accept_inconclusive: bool = False
    """Keep int8 or fp16 also where there are too few pictures to tell whether more is lost; the
    bundle says so."""

    def __post_init__(self) -> None:
        if self.max_loss is not None and not 0 <= self.max_loss <= 100:
            raise UserError(f"--max-loss {self.max_loss:g}: expected 0 to 100 points of accuracy.")
        if not self.to:
            raise UserError("--to: expected one target at least, such as onnx, seen none.")
        if self.parity_images < 1:
            raise UserError(
                f"--parity-images {self.parity_images}: expected 1 at least; without pictures "
                "there is no proof."
            )
        self._check_effect()

    def _check_effect(self) -> None:
        """`UserError` for a flag about what rounding loses, where no target rounds."""
        if set(LOSSY) & set(self.to):
            return
        flags = {
            "--max-loss": self.max_loss is not None,
            "--accept-inconclusive": self.accept_inconclusive,
        }
        for flag, used in flags.items():
            if used:
                raise UserError(
                    f"{flag} has no effect with --to {' '.join(self.to)}, which answers as the "
                    f"trained model does: remove {flag}, or add {' or '.join(LOSSY)} to --to."
                )
