"""Steady-state training speed with all per-batch augmentations on, against the same without them.

    python -m tests.bench.augment_speed emoji

As tests/bench/speed.py trains, in turn in one process; a round is one measurement of each.
"""

import statistics
import sys
from pathlib import Path

import timm
import torch

from finetune.data import scanning
from finetune.data.loader import PictureSource
from finetune.sources.class_folders import read_folders
from tests.bench.speed import ours
from tests.made_recipe import made_recipe
from zoo.picture.preprocess import Preprocessing

SIZE_PX, STEPS, ROUNDS = 128, 20, 4
ALL_ON = {
    "erasing": 0.25,
    "cutout": 0.5,
    "gridmask": 0.5,
    "hide_and_seek": 0.5,
    "mixup": 0.2,
    "cutmix": 1.0,
}


def main(data: Path) -> None:
    """Both speeds of each round, and the median of their ratios."""
    pictures = scanning.scan(read_folders(data)).of("train")
    model = timm.create_model("tf_efficientnet_lite0", num_classes=9).to(
        memory_format=torch.channels_last
    )
    source = PictureSource(
        data, Preprocessing(size=SIZE_PX, mean=(0.5,) * 3, std=(0.5,) * 3), workers=0, pin=False
    )
    off, on = (
        made_recipe(image_size=SIZE_PX, epochs=100, **settings)
        for settings in ({"erasing": 0.0}, ALL_ON)
    )
    ours(model, off, 5, pictures, source)
    ratios = []
    for _ in range(ROUNDS):
        one, two = (ours(model, recipe, STEPS, pictures, source) for recipe in (off, on))
        ratios.append(two / one)
        print(f"off {one:.1f} img/s, on {two:.1f} img/s, ratio {two / one:.3f}", flush=True)
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
