"""Draws the grid of `python -m finetune.show_augment`, with the functions that training calls."""

import dataclasses
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from finetune.augment.batch import augment_batch
from finetune.augment.picture import augment, normalise, seed_everything
from finetune.presets import resolve
from finetune.recipe.facts import Facts
from finetune.recipe.fields import Recipe, flag_of
from finetune.recipe.run import Run
from finetune.run_folder.named_folders import readable_folder
from finetune.sources.data_source import DataSource
from finetune.studies.grid_order import Grid
from zoo.bases import catalog
from zoo.host import console
from zoo.host.errors import BadImage, UserError
from zoo.network import weights
from zoo.network.build import describe
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing

NOTHING = {"crop_area": 1.0, "flip": 0.0, "erasing": 0.0}
ROWS: tuple[dict[str, Any], ...] = (
    {},
    {"crop_area": 0.5},
    {"crop_area": 0.08},
    {"crop_area": 0.5, "crop_ratio": 2.0},
    {"flip": 1.0},
    {"crop_padding": 16},
    {"rotate": 30.0},
    {"policy": "autoaugment"},
    {"policy": "randaugment"},
    {"policy": "augmix"},
    {"color_jitter": 0.4},
    {"pca_noise": 0.1},
    {"erasing": 1.0},
    {"cutout": 1.0},
    {"gridmask": 1.0},
    {"hide_and_seek": 1.0},
    {"mixup": 1.0},
    {"cutmix": 1.0},
)
"""What each row sets on top of `NOTHING`; probabilities are 1, so that every picture shows it."""
GAP_PX = 4
TEXT_PX = 16


def write_grid(grid: Grid) -> None:
    """Write `grid.out`; `UserError` for a data folder without usable pictures or an --out that
    cannot be written."""
    pictures, labels, classes = some_pictures(readable_folder(grid.data), grid.columns)
    plain = plain_recipe(grid, pictures, classes)
    pre = Preprocessing(size=grid.size, crop_mode="squash", crop_pct=1.0)
    rows = []
    for settings in ROWS:
        recipe = dataclasses.replace(plain, **settings)
        rows.append((title(settings), row_of(pictures, labels, recipe, pre)))
    try:
        sheet(rows).save(grid.out)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--out {grid.out}: expected the name of a picture to write, such as "
            f"augmentations.png, in a folder that exists ({error})."
        ) from None
    console.say(f"wrote {grid.out}: {len(rows)} rows of {len(pictures)} pictures")


def some_pictures(data: Path, count: int) -> tuple[list[Image.Image], torch.Tensor, int]:
    """Give the first readable training pictures with alternating classes, at most `count`; their
    labels [B]; and the number of classes."""
    tree = DataSource(data).listing()
    by_class: list[list[tuple[str, int]]] = [[] for _ in tree.classes]
    for path, label in tree.files["train"]:
        by_class[label].append((path, label))
    pictures: list[Image.Image] = []
    labels: list[int] = []
    # one of each class in turn; a class that has no more gives None
    for path, label in filter(None, chain.from_iterable(zip_longest(*by_class))):
        if len(pictures) == count:
            break
        try:
            pictures.append(decode(tree.root / path))
        except BadImage as problem:
            console.warn(str(problem))
        else:
            labels.append(label)
    if not pictures:
        raise UserError(f"--data {data}: no picture of its training part can be read.")
    return pictures, torch.tensor(labels), len(tree.classes)


def plain_recipe(grid: Grid, pictures: list[Image.Image], classes: int) -> Recipe:
    """Make a recipe that leaves pictures as they are."""
    base = catalog.find(Run.base)
    facts = Facts(
        pictures=len(pictures),
        class_counts=(1,) * classes,
        has_val=False,
        short_side=grid.size,
        base=describe(base, weights.fetch(base)),
        device="cpu",
        bf16=False,
        cores=1,
    )
    return dataclasses.replace(
        resolve.resolve(facts, NOTHING | {"seed": grid.seed}).recipe, image_size=grid.size
    )


def row_of(
    pictures: list[Image.Image], labels_B: torch.Tensor, recipe: Recipe, pre: Preprocessing
) -> np.ndarray:
    """Give what the network would see of these pictures, as colours again: uint8 [B, size, size,
    3]."""
    views = []
    for index, picture in enumerate(pictures):
        seed_everything(recipe.seed, "picture", 0, index)
        views.append(augment(picture, recipe, pre))
    x_BCHW = normalise(torch.from_numpy(np.stack(views)), pre)
    varied = []
    classes = int(labels_B.max()) + 1
    # each picture from a batch of its own, as a batch is mixed in one share
    for step in range(len(views)):
        seed_everything(recipe.seed, "step", step)
        batch_BCHW, _ = augment_batch(x_BCHW.clone(), labels_B, recipe, classes)
        varied.append(batch_BCHW[step])
    x_BHWC = torch.stack(varied).permute(0, 2, 3, 1)
    colours_BHWC = x_BHWC * torch.tensor(pre.std) + torch.tensor(pre.mean)
    return (255 * colours_BHWC).round().clamp(0, 255).byte().numpy()


def title(settings: dict[str, Any]) -> str:
    """Print the flags of a row."""
    return " ".join(map(flag_of, settings, settings.values())) or "none"


def sheet(rows: list[tuple[str, np.ndarray]]) -> Image.Image:
    """Draw all rows below each other, each with its title above it."""
    font = ImageFont.load_default(TEXT_PX)
    columns, side = rows[0][1].shape[:2]
    height = side + TEXT_PX + 3 * GAP_PX
    size = (GAP_PX + columns * (side + GAP_PX), len(rows) * height + GAP_PX)
    drawn = Image.new("RGB", size, "white")
    for row, (name, views_BHWC) in enumerate(rows):
        top = GAP_PX + row * height
        ImageDraw.Draw(drawn).text((GAP_PX, top), name, fill="black", font=font)
        for column, view in enumerate(views_BHWC):
            left = GAP_PX + column * (side + GAP_PX)
            drawn.paste(Image.fromarray(view), (left, top + TEXT_PX + GAP_PX))
    return drawn
