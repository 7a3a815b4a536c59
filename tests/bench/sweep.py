"""Two training steps of every base of the catalogue at the side that `auto` chooses, with random
weights.

    python -m tests.bench.sweep [ALIAS...] [--short-side 32] [--device cpu]        (default: the
    whole catalogue)

Each base in a process of its own. Nothing is downloaded, no picture is read: the side is that for
data whose pictures have the given median short side, the batch two pictures of noise. Prints a
Markdown table and a last line with the count; exit code 1 if a base fails. A base whose weights,
gradients and optimiser do not fit the free memory is listed as that, and is no failure.
"""

import argparse
import math
import multiprocessing
import os
import sys
import time
from multiprocessing.connection import Connection
from pathlib import Path

from zoo.bases.catalog import ROWS, find_architecture, find_base

STEPS, PICTURES, CLASSES = 2, 2, 5
VALUES_A_WEIGHT = 5
"""Weight, gradient, two moments of the optimiser, and as much again for the activations of two
small pictures."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "names", nargs="*", default=[row.alias for row in ROWS], help="aliases of the catalogue"
    )
    parser.add_argument(
        "--short-side", type=int, default=32, help="median short side of the pictures, in pixels"
    )
    parser.add_argument("--device", default="cpu")
    order = parser.parse_args()
    passed, failed, too_large = 0, 0, 0
    print("| base | M parameters | side | seconds | losses |\n| --- | --- | --- | --- | --- |")
    for name in order.names:
        params_m = find_base(name).params_m
        if params_m is not None and params_m * 1e6 * 4 * VALUES_A_WEIGHT > free_bytes():
            too_large += 1
            print(f"| {name} | {params_m:.1f} | | | does not fit this machine |", flush=True)
            continue
        answer = in_a_process(name, order.short_side, order.device)
        failed += "failed" in answer
        passed += "failed" not in answer
        print(f"| {name} | {params_m} | {answer} |", flush=True)
    print(f"\n{passed} of {passed + failed} passed; {too_large} do not fit this machine.")
    return 1 if failed else 0


def free_bytes() -> int:
    """Memory that is free or can be given back."""
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    return int(lines["MemAvailable"].split()[0]) * 1024


def in_a_process(name: str, short_side: int, device: str) -> str:
    """The row's last three columns; a process that was killed is told as failed."""
    mine, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(
        target=send_row, args=(theirs, name, short_side, device)
    )
    process.start()
    theirs.close()
    try:
        return mine.recv()
    except EOFError:
        process.join()
        return f"| | failed: the process ended with code {process.exitcode}"
    finally:
        process.join()


def send_row(out: Connection, name: str, short_side: int, device: str) -> None:
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        out.send(row(name, short_side, device))
    except Exception as error:
        out.send(
            f"| | failed: {type(error).__name__}: "
            f"{str(error).splitlines()[0][:120] if str(error) else ''}"
        )


def row(name: str, short_side: int, device: str) -> str:
    """Build, two steps, and the losses; raises whatever the product raises."""
    import torch

    from finetune.augment.picture import seed_everything
    from finetune.data.loader import PictureSource
    from finetune.data.picture_columns import Picture
    from finetune.evaluation.passes import Scores
    from finetune.plan import preprocessing
    from finetune.presets import fitting, resolve
    from finetune.recipe import facts
    from finetune.train import step
    from zoo.network import weights
    from zoo.network.build import build_network, describe
    from zoo.network.trial import Trial

    base = find_architecture(name)
    trial = Trial(base, weights.RANDOM)
    facts = facts.Facts(
        1_000,
        (200,) * CLASSES,
        False,
        short_side,
        describe(base, weights.RANDOM),
        device,
        bf16=device == "cuda",
        cores=torch.get_num_threads(),
        takes=lambda side: trial.refused(side) is None,
        takes_drop_path=trial.takes_drop_path,
    )
    resolved = resolve.resolve(facts, {"from_scratch": True, "batch_size": PICTURES})
    recipe, side = resolved.recipe, resolved.recipe.image_size
    fitting.check_trainable(recipe, trial, pictures=1_000, device=device)
    seed_everything(0)
    model = build_network(
        base,
        [str(i) for i in range(CLASSES)],
        image_size=side,
        drop_path=recipe.drop_path,
        fetched=weights.RANDOM,
    ).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    pictures = [Picture("", label, "train", "", side, side) for label in range(CLASSES)]
    job = step.Job(
        model,
        pictures,
        PictureSource(Path(), preprocessing(model, resolved), 0, pin=False),
        recipe,
        Path(),
        lambda model: Scores(0, 0, 0, 1),
    )
    parts = step.prepare_training(job)
    step.train_mode(model, recipe)
    began, losses = time.perf_counter(), []
    for number in range(STEPS):
        batch = (
            torch.randint(0, 256, (PICTURES, side, side, 3), dtype=torch.uint8),
            torch.arange(PICTURES),
        )
        losses.append(step.update(job, batch, parts, 0, number)[0].item())
    assert all(map(math.isfinite, losses)), f"losses {losses}"
    return (
        f"{side} | {time.perf_counter() - began:.1f} | "
        f"{', '.join(f'{loss:.2f}' for loss in losses)}"
    )


if __name__ == "__main__":
    sys.exit(main())
