"""`python -m finetune.show_augment --data PATH`: one picture that shows what each augmentation does to your pictures.

Look at it before an augmentation is switched on: one that hides or changes what tells the classes apart does harm.
Nothing heavy is imported until the command line is parsed.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import tyro

from zoo.errors import UserError, run_main


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
                raise UserError(f"--{name} {getattr(self, name)}: expected a value from {low} to {high}.")


def main(grid: tyro.conf.OmitArgPrefixes[Grid]) -> None:
    """Draw a grid: a row for each augmentation, alone and at a usual strength, with the flags that switch it on."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from finetune.augment_grid import write_grid

    write_grid(grid)


if __name__ == "__main__":
    run_main(lambda: tyro.cli(main, prog="python -m finetune.show_augment", config=(tyro.conf.FlagCreatePairsOff,)))
