"""The embedded sample: scikit-learn's digits (UCI optical recognition of handwritten digits, CC BY
4.0)."""

import glob
import secrets
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from zoo.contract.splits import SPLITS
from zoo.host import console, disk

NAME = "digits"


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Load the grey pictures and their digits: (uint8 [1797, 8, 8], int [1797])."""
    table = np.loadtxt(of_sklearn("data/digits.csv.gz"), delimiter=",")
    pixels = table[:, :-1].reshape(-1, 8, 8)
    return np.round(pixels * (255 / 16)).astype(np.uint8), table[:, -1].astype(int)


def of_sklearn(name: str) -> Path:
    """Find a file of scikit-learn's data sets; importing scikit-learn would take two seconds, with
    scipy and pandas."""
    package = find_spec("sklearn")
    assert package is not None, "it is a dependency"
    assert package.origin is not None, "it is a package with files"
    return Path(package.origin).with_name("datasets") / name


def write_digits(folder: Path) -> Path:
    """Write the pictures, 10 classes, as PNG: 60 % train, 20 % val, 20 % test per class.

    The folder appears whole or not at all.
    """
    # left by a process that was killed
    for left in folder.parent.glob(f".{glob.escape(folder.name)}.*{disk.UNFINISHED}"):
        shutil.rmtree(left, ignore_errors=True)
    # a new name, so that no link can stand in its place
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}{disk.UNFINISHED}")
    temporary.mkdir(parents=True)
    pixels, target = digits()
    for digit in range(10):
        order = np.random.default_rng(digit).permutation(np.flatnonzero(target == digit))
        cuts = [round(0.6 * len(order)), round(0.8 * len(order))]
        for split, part in zip(SPLITS, np.split(order, cuts), strict=True):
            class_folder = temporary / split / str(digit)
            class_folder.mkdir(parents=True)
            for index in part:
                Image.fromarray(pixels[index]).save(class_folder / f"{index:04}.png")
    temporary.rename(folder)
    console.say(f"wrote the sample pictures to {folder}/")
    return folder
