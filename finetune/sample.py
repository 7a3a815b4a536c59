"""The embedded sample: scikit-learn's digits (UCI optical recognition of handwritten digits, CC BY 4.0)."""

import shutil
from pathlib import Path

import numpy as np
from PIL import Image

from finetune import progress

NAME = "digits"


def write_digits(folder: Path) -> Path:
    """Write the 1,797 grey pictures of 8x8 pixels, 10 classes, as PNG: 60 % train, 20 % val, 20 % test per class.

    The folder appears whole or not at all.
    """
    from sklearn.datasets import load_digits

    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    digits = load_digits()
    pixels = np.round(digits.images * (255 / 16)).astype(np.uint8)
    for digit in range(10):
        indices = np.flatnonzero(digits.target == digit)
        order = np.random.default_rng(digit).permutation(indices)
        cuts = [round(0.6 * len(order)), round(0.8 * len(order))]
        for split, part in zip(("train", "val", "test"), np.split(order, cuts), strict=True):
            target = temporary / split / str(digit)
            target.mkdir(parents=True)
            for index in part:
                Image.fromarray(pixels[index]).save(target / f"{index:04}.png")
    temporary.rename(folder)
    progress.say(f"wrote the sample pictures to {folder}/")
    return folder
