"""What a source says of its pictures, before any of them is opened."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from zoo.files.passed_over import Unused


@dataclass(frozen=True)
class Listing:
    """Says which files belong to which class and split, and all that belongs to none."""

    root: Path
    """Folder that the paths are relative to."""
    classes: tuple[str, ...]
    """Sorted by code point; the position is the label."""
    files: dict[str, list[tuple[str, int]]]
    """Split -> (relative path, label) of the files that are tried as pictures; only the splits that
    the source has."""
    unused: tuple[Unused, ...] = ()
    """Every other entry of the folders or of the table that were read, with the rule or the
    reason."""
    folders: frozenset[str] = frozenset()
    """Relative paths of the folders that were read; the data folder itself is `.`. Empty for a
    table."""
    findings: tuple[str, ...] = ()
    """Sentences for people."""
    groups: Mapping[str, str] = field(default_factory=dict)
    """Relative path -> group, of the files that have one: a patient, a scene, a burst. A group is
    never on two sides of a split."""

    later: Mapping[str, int] = field(default_factory=dict)
    """Relative path -> number of its source, of the files of every source but the first (0): where
    the same bytes have two labels, the label of the latest source counts."""

    @property
    def ignored(self) -> int:
        """Counts the files that are notes or labels, or that stand outside the class folders."""
        return sum(entry.kind in ("harmless", "outside") for entry in self.unused)
