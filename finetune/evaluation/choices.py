"""What a user may choose of the answers: views and coverage, for which run. Loads nothing heavy."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zoo.host.errors import UserError


@dataclass(frozen=True)
class Wish:
    """What a user may decide about answers; the rest is fitted."""

    views: Literal["auto", "all", "none", "flip", "five", "multiscale"] = "auto"
    """Test-time views whose answers are averaged: flip adds the mirror image, five four corners,
    multiscale two closer looks. auto measures flip, all measures each of them, and takes one only
    if it gains; a view costs the time of an answer."""
    coverage: float = 0.9
    """Prediction sets hold the true class in at least this share of pictures."""

    def __post_init__(self) -> None:
        if not 0 < self.coverage < 1:
            raise UserError(
                f"--coverage {self.coverage:g}: expected a share between 0 and 1, such as 0.9."
            )


@dataclass(frozen=True)
class Place:
    """Which run, and where to compute."""

    run: Annotated[Path, tyro.conf.Positional]
    """A finished run folder."""
    data: Path | None = None
    """Folder of the run's pictures, if it moved since."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, mps."""
