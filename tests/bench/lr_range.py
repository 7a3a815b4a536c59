"""The rate that a range test suggests, beside the one that the recipe interpolates: `python -m
tests.bench.lr_range`.

    python -m tests.bench.lr_range --data ../shared/data/emoji --image-size 64 --epochs 3

Trains three times (two seeds each): with the recipe's rate, with `--lr find`, and, to see whether
the curve matters at all, with a third of what was found. Prints a table of top-1 on test; runs are
kept in --out and not trained again.
"""

import statistics
from pathlib import Path

import tyro

from finetune.pipeline import start
from finetune.recipe.run import Run
from zoo.contract import rundir

SEEDS = (0, 1)


def measure(
    data: str,
    *,
    image_size: int = 64,
    epochs: int = 3,
    base: str = "efficientnet_lite0",
    out: Path = Path("runs/lr_range"),
) -> None:
    """Print the table."""
    print("| rate | lr (seed 0, 1) | test top-1 (seed 0, 1) | mean |\n| --- | --- | --- | --- |")
    found: dict[int, float] = {}
    for name in ("recipe", "find", "third"):
        rates, right = [], []
        for seed in SEEDS:
            given = {"image_size": image_size, "epochs": epochs, "seed": seed}
            given |= {
                "recipe": {},
                "find": {"lr": "find"},
                "third": {"lr": found.get(seed, 0) / 3},
            }[name]
            folder = out / f"{Path(data).name}-{name}-{seed}"
            start(Run(data=data, base=base, out=folder), given)
            rates.append(rundir.read_json(folder / rundir.RECIPE)["lr"]["value"])
            right.append(rundir.read_json(folder / rundir.REPORT)["headline"]["top1"])
            if name == "find":
                found[seed] = rates[-1]
        print(
            f"| {name} | {', '.join(f'{rate:.2g}' for rate in rates)} | "
            f"{', '.join(f'{x:.1%}' for x in right)} | {statistics.fmean(right):.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    tyro.cli(measure)
