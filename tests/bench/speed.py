"""Steady-state training speed: this project's loop against bare forward + backward + optimiser on
tensors in memory.

    python -m tests.bench.speed [--data emoji] [--size 128] [--steps 40]

Both train EfficientNet-Lite0 (random weights) at batch 32 with AdamW in channels_last memory, in
turn in one process; the loop reads, decodes and augments real pictures and logs its losses.
"""

import argparse
import statistics
import time
from pathlib import Path

import timm
import torch
from torch.nn.functional import cross_entropy

from finetune.data import dataset, scanning
from finetune.data.loader import PictureSource, training_batches
from finetune.recipe.fields import Recipe
from finetune.sources.class_folders import read_folders
from finetune.train import loop, optimizer, step
from tests.made_recipe import made_recipe
from zoo.picture.preprocess import Preprocessing


def bare(model: torch.nn.Module, recipe: Recipe, steps: int) -> float:
    """Pictures a second of forward, backward and optimiser alone."""
    adamw = optimizer.optimizer(model, recipe)
    step.train_mode(model, recipe)
    x = torch.randn(32, 3, recipe.image_size, recipe.image_size).contiguous(
        memory_format=torch.channels_last
    )
    y = torch.randint(0, 9, (32,))
    start = time.perf_counter()
    for _ in range(steps):
        loss = cross_entropy(model(x), y, label_smoothing=recipe.label_smoothing)
        adamw.zero_grad(set_to_none=True)
        loss.backward()
        adamw.step()
    return 32 * steps / (time.perf_counter() - start)


def ours(
    model: torch.nn.Module,
    recipe: Recipe,
    steps: int,
    pictures: list[dataset.Picture],
    source: PictureSource,
) -> float:
    """Pictures a second of the command's own batches and update."""
    job = step.Job(model, pictures, source, recipe, Path(), lambda model: None)
    parts = step.prepare(job)
    step.train_mode(model, recipe)
    start, losses = time.perf_counter(), []
    for done, batch in enumerate(training_batches(pictures, source, recipe, 0)):
        if done == steps:
            break
        losses.append(step.update(job, batch, parts, 0, done))
        if len(losses) == loop.LOG_EVERY:
            torch.stack(losses).tolist()
            losses.clear()
    return 32 * steps / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=4)
    a = parser.parse_args()
    data = scanning.scan(read_folders(a.data))
    recipe = made_recipe(image_size=a.size, epochs=100)
    model = timm.create_model("tf_efficientnet_lite0", num_classes=9).to(
        memory_format=torch.channels_last
    )
    pre = Preprocessing(size=a.size, mean=(0.5,) * 3, std=(0.5,) * 3)
    source = PictureSource(a.data, pre, workers=0, pin=False)
    bare(model, recipe, 5)
    ratios = []
    for _ in range(a.rounds):
        one, two = (
            bare(model, recipe, a.steps),
            ours(model, recipe, a.steps, data.of("train"), source),
        )
        ratios.append(two / one)
        print(f"bare {one:.1f} img/s, ours {two:.1f} img/s, ratio {two / one:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
