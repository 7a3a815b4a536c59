"""What SAM, mixup, a moving average and distillation bring, and what a step of each costs.

    python -m tests.bench.tricks --data emoji --tricks plain sam --seeds 0 1
    python -m tests.bench.tricks --data emoji --cost

Accuracy: recipe auto on EfficientNet-Lite0, one row a run: test top-1 and balanced accuracy of the
weights that training chose on select, and of the last epoch's. The teacher of `distil` is this base
fine-tuned for a longer run of `--teacher-epochs` (made at the first use, not counted in the
seconds); `distil` learns half from it, at temperature 4. One thread, so that the figures are the
same on any number of cores. Killed, the same command goes on (the seconds are those of its last
start).

Cost: steady-state time of an update on one batch in memory, against that of the plain one, in turn
in one process (median of rounds); `augment` has every augmentation per batch on.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import timm
import torch

from finetune import pipeline
from finetune.data import scanning
from finetune.data.loader import PictureSource, training_batches
from finetune.recipe.run import Run
from finetune.sources.class_folders import read_folders
from finetune.train import step
from tests.bench.long_tail import measure
from tests.made_recipe import made_recipe
from zoo.contract import rundir
from zoo.picture.preprocess import Preprocessing

TRICKS: dict[str, dict[str, Any]] = {
    "plain": {},
    "sam": {"sam_rho": 0.05},
    "mixup": {"mixup": 0.2},
    "ema": {"ema": 0.99},
    "distil": {"teacher": "TEACHER"},
    "all": {"sam_rho": 0.05, "mixup": 0.2, "teacher": "TEACHER"},
}
COSTS: dict[str, dict[str, Any]] = {
    "sam": {"sam_rho": 0.05},
    "ema": {"ema": 0.99},
    "accumulate 4": {"accumulate": 4},
    "augment": {
        "erasing": 1.0,
        "cutout": 1.0,
        "gridmask": 1.0,
        "hide_and_seek": 1.0,
        "mixup": 0.2,
        "cutmix": 1.0,
    },
}
HEAD = (
    "| trick | seed | top-1 | balanced | step | last epoch: top-1 | balanced | seconds |\n|"
    + " --- |" * 8
)
SETTINGS: dict[str, Any] = {"features": "fp32", "threads": 1}


def teacher_run(data: Path, folder: Path, settings: dict[str, Any]) -> Path:
    """A finished run to learn from."""
    if not rundir.is_finished(folder):
        pipeline.start(Run(data=str(data), out=folder, device="cpu"), settings)
    return folder


def seconds_of(job_of: step.Job, batch: tuple[torch.Tensor, torch.Tensor], steps: int) -> float:
    """Seconds of an update, after one that is not counted."""
    parts = step.prepare(job_of)
    step.train_mode(job_of.model, job_of.recipe)
    step.update(job_of, batch, parts, 0, 0)
    start = time.perf_counter()
    for number in range(1, steps + 1):
        step.update(job_of, batch, parts, 0, number)
    return (time.perf_counter() - start) / steps


def cost(data: Path, size: int, rounds: int, steps: int) -> None:
    """Print how many times a plain step each costs."""
    pictures = scanning.scan(read_folders(data)).of("train")
    source = PictureSource(
        data, Preprocessing(size=size, mean=(0.5,) * 3, std=(0.5,) * 3), workers=0, pin=False
    )
    batch = next(training_batches(pictures, source, made_recipe(image_size=size), 0))
    model = timm.create_model("tf_efficientnet_lite0", num_classes=9).to(
        memory_format=torch.channels_last
    )
    plain = {"erasing": 0.0}
    print(
        f"| part | times a plain step ({size} px, batch 32, {torch.get_num_threads()} threads) | "
        "least, most |"
    )
    print("| --- | --- | --- |", flush=True)
    for name, values in COSTS.items():
        ratios = []
        for _ in range(rounds):
            one, other = (
                seconds_of(
                    step.Job(
                        model,
                        pictures,
                        source,
                        made_recipe(image_size=size, **more),
                        Path(),
                        lambda model: None,
                    ),
                    batch,
                    steps,
                )  # type: ignore[arg-type, return-value]
                for more in (plain, plain | values)
            )
            ratios.append(other / one)
        print(
            f"| {name} | {statistics.median(ratios):.2f} | {min(ratios):.2f}, {max(ratios):.2f} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--tricks", nargs="+", choices=TRICKS, default=list(TRICKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path(tempfile.gettempdir()) / "tricks",
        help="where they are kept",
    )
    parser.add_argument("--teacher-epochs", type=int, default=8)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8)
    a = parser.parse_args()
    if a.cost:
        return cost(a.data, 128, a.rounds, a.steps)
    print(HEAD)
    for trick in a.tricks:
        for seed in a.seeds:
            given = SETTINGS | {
                "image_size": a.size,
                "epochs": a.epochs,
                "seed": seed,
                **TRICKS[trick],
            }
            if "teacher" in given:
                of_teacher = SETTINGS | {"image_size": a.size, "epochs": a.teacher_epochs}
                given["teacher"] = str(
                    teacher_run(a.data, a.runs / "teacher", of_teacher).resolve()
                )
            print(
                f"| {trick} | {seed} | {measure(a.data, given, a.runs / f'{trick}-{seed}')} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
