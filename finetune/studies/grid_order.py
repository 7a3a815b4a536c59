"""What `python -m finetune.show_augment` draws. Loads nothing heavy."""

from dataclasses import dataclass
from pathlib import Path

from zoo.host.errors import UserError


@dataclass(frozen=True)
class Grid:
    """What is shown."""

    data: str
    """Folder of pictures, as for `python -m finetune`; 'digits' is the built-in sample."""
    out: Path = Path("augmentations.png")
    """The picture to write."""
    size: int = 128
    """Side of each view, in pixels: the network input's."""
    columns: int = 8
    """Pictures in a row; their classes alternate."""
    seed: int = 0
    """Seed of all randomness."""

    def __post_init__(self) -> None:
        for name, low, high in (("size", 16, 1024), ("columns", 2, 32), ("seed", 0, 2**31 - 1)):
            if not low <= getattr(self, name) <= high:
                raise UserError(
                    f"--{name} {getattr(self, name)}: expected a value from {low} to {high}."
                )
