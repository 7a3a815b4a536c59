"""What one setting changes around `auto`: each set, number of pictures, setting and seed is a run.

    python -m tests.bench.recipes run --emoji emoji --out FOLDER --sets digits icons --pictures 1000
        --settings auto "lr 1e-3" "lr 1e-3, batch_norm frozen" --seeds 0 1
    python -m tests.bench.recipes table --out FOLDER

A setting is `auto`, or names and values of the recipe with commas between. One run is one thread,
so two of these commands may run beside each other: a cell that another has begun is passed over.
Killed, the same command goes on with the cells that are not finished. The table has test top-1 of
the weights that training chose (the probe's, if no epoch was better): by set, the mean over seeds
and their number; regret is the distance to the best setting of the same set.
"""

import argparse
import itertools
import json
import time
from pathlib import Path
from statistics import mean
from typing import Any

from filelock import FileLock, Timeout

from finetune.pipeline import start
from finetune.recipe.fields import TYPES
from finetune.recipe.run import Run
from tests.bench.picture_sets import SETS, write_set
from zoo.contract import rundir

CLASSES = {"emoji": 9, "icons": 6, "digits": 10, "letters": 10, "photos": 8}
TEST = {"emoji": 42, "icons": 30, "digits": 60, "letters": 60, "photos": 60}
"""Test pictures of each class."""
SIZE = 64


def given_of(setting: str) -> dict[str, Any]:
    """`lr 1e-3, batch_norm frozen` as a recipe's values."""
    if setting == "auto":
        return {}
    pairs = (word.split() for word in setting.split(","))
    return {
        name: TYPES[name](value) if TYPES[name] in (int, float) else value for name, value in pairs
    }


def measured(data: Path, base: str, setting: str, seed: int, out: Path) -> dict[str, Any]:
    """Run once; what became of it."""
    began = time.perf_counter()
    given = {"image_size": SIZE, "threads": 1, "features": "fp32", "seed": seed} | given_of(setting)
    start(Run(data=str(data), base=base, out=out, device="cpu", workers=0), given)
    report = rundir.read_json(out / rundir.REPORT, kind=dict)
    return {
        "top1": report["splits"]["test"]["top1"],
        "step": report["best"]["step"],
        "seconds": round(time.perf_counter() - began),
    }


def run(arguments: argparse.Namespace) -> None:
    """Make what cells are missing."""
    cells = itertools.product(
        arguments.seeds, arguments.sets, arguments.pictures, arguments.settings
    )
    for seed, name, pictures, setting in cells:
        counts = {"train": pictures // CLASSES[name], "test": TEST[name]}
        with FileLock(str(arguments.out / f"{name}-{pictures}.lock")):
            data = arguments.out / "sets" / f"{name}-{pictures}"
            write_set(name, arguments.emoji, data, counts)
        cell = f"{arguments.base} {name}-{pictures} {setting} seed {seed}"
        result = arguments.out / "cells" / f"{cell}.json"
        result.parent.mkdir(exist_ok=True)
        try:
            with FileLock(str(result.with_suffix(".lock")), timeout=0):
                if not result.exists():
                    folder = arguments.out / "runs" / cell.replace(",", "").replace(" ", "_")
                    row = measured(data, arguments.base, setting, seed, folder)
                    row |= {"set": f"{name}-{pictures}", "setting": setting, "seed": seed}
                    result.write_text(json.dumps({"base": arguments.base, **row}))
                    print(cell, row["top1"], flush=True)
        except Timeout:
            continue


def table(arguments: argparse.Namespace) -> None:
    """Print the table of one base."""
    rows = [json.loads(path.read_text()) for path in (arguments.out / "cells").glob("*.json")]
    rows = [row for row in rows if row["base"] == arguments.base]
    sets = sorted({row["set"] for row in rows})
    cells: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        cells.setdefault((row["setting"], row["set"]), []).append(100 * row["top1"])
    best = {
        name: max(mean(values) for (_, of), values in cells.items() if of == name) for name in sets
    }
    print(f"| setting | {' | '.join(sets)} | regret: mean | worst |")
    print("| --- |" + " --- |" * (len(sets) + 2))
    for setting in sorted({row["setting"] for row in rows}):
        means = {name: mean(cells[setting, name]) for name in sets if (setting, name) in cells}
        regrets = [best[name] - value for name, value in means.items()]
        shown = (
            f"{means[name]:.1f} ({len(cells[setting, name])})" if name in means else ""
            for name in sets
        )
        print(f"| {setting} | {' | '.join(shown)} | {mean(regrets):.1f} | {max(regrets):.1f} |")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("run", "table"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--emoji", type=Path, default=Path("emoji"))
    parser.add_argument("--base", default="efficientnet_lite0")
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--pictures", nargs="+", type=int, default=[1000])
    parser.add_argument("--settings", nargs="+", default=["auto"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    {"run": run, "table": table}[arguments.what](arguments)


if __name__ == "__main__":
    main()
