"""Where a published copy of a run will lie, and what of it the card may tell."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zoo.host.errors import UserError
from zoo.hub.listing import REPOSITORY


@dataclass(frozen=True)
class Destination:
    """Where a published copy will lie."""

    repo: str
    """`user/name`."""
    files: Mapping[str, Path]
    """Name in it -> file that will be there; read instead of the run's own, so that only what is
    published is told."""
    cut: Callable[[str], str] = str
    """Takes out of a bundle's words what must not leave this machine."""

    def __post_init__(self) -> None:
        if not REPOSITORY.fullmatch(self.repo):  # it stands in commands of the card
            raise UserError(f"{self.repo}: expected user/name of a repository on the Hub.")
