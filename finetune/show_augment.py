"""`python -m finetune.show_augment --data PATH`: one picture that shows what each augmentation does
to your pictures.

Look at it before an augmentation is switched on: one that hides or changes what tells the classes
apart does harm. Nothing heavy is imported until the command line is parsed.
"""

import os

import tyro

from finetune.studies.grid_order import Grid
from zoo.host.errors import run_main


def main(grid: tyro.conf.OmitArgPrefixes[Grid]) -> None:
    """Draw a grid: a row for each augmentation, alone and at a usual strength, with the flags that
    switch it on."""
    # before torch is loaded; finetune/__main__.py says why
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from finetune.studies.augment_grid import write_grid

    write_grid(grid)


if __name__ == "__main__":
    run_main(
        lambda: tyro.cli(
            main, prog="python -m finetune.show_augment", config=(tyro.conf.FlagCreatePairsOff,)
        )
    )
