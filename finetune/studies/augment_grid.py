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
from finetune.data.class_folders import read_tree
from finetune.recipe import resolve
from finetune.recipe.facts import Facts
from finetune.recipe.fields import Recipe
from finetune.recipe.run import Run
from finetune.run_folder.named_folders import readable_folder
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
    rows = [
        (title(settings), row_of(pictures, labels, dataclasses.replace(plain, **settings), pre))
        for settings in ROWS
    ]
    try:
        sheet(rows).save(grid.out)
    except (OSError, ValueError) as error:
        raise UserError(
            f"--out {grid.out}: expected the name of a picture to write, such as "
            f"augmentations.png, in a folder that exists ({error})."
        ) from None
    console.say(f"wrote {grid.out}: {len(rows)} rows of {len(pictures)} pictures")


def some_pictures(data: Path, count: int) -> tuple[list[Image.Image], torch.Tensor, int]:
    """(the first readable training pictures with alternating classes, at most `count`; labels [B];
    classes)."""
    tree = read_tree(data)
    by_class = [
        [file for file in tree.files["train"] if file[1] == label]
        for label in range(len(tree.classes))
    ]
    pictures: list[Image.Image] = []
    labels: list[int] = []
    for file in chain.from_iterable(zip_longest(*by_class)):
        if file is not None and len(pictures) < count:
            try:
                pictures.append(decode(data / file[0]))
            except BadImage as problem:
                console.warn(str(problem))
            else:
                labels.append(file[1])
    if not pictures:
        raise UserError(f"--data {data}: no picture of its training part can be read.")
    return pictures, torch.tensor(labels), len(tree.classes)


def plain_recipe(grid: Grid, pictures: list[Image.Image], classes: int) -> Recipe:
    """A recipe that leaves pictures as they are."""
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
    """uint8 [B, size, size, 3]: what the network would see of these pictures, as colours again."""
    views = []
    for index, picture in enumerate(pictures):
        seed_everything(recipe.seed, "picture", 0, index)
        views.append(augment(picture, recipe, pre))
    x_BCHW = normalise(torch.from_numpy(np.stack(views)), pre)
    seen = []
    # each picture from a batch of its own, as a batch is mixed in one share
    for step in range(len(views)):
        seed_everything(recipe.seed, "step", step)
        seen.append(
            augment_batch(x_BCHW.clone(), labels_B, recipe, int(labels_B.max()) + 1)[0][step]
        )
    colours_BHWC = torch.stack(seen).permute(0, 2, 3, 1) * torch.tensor(pre.std) + torch.tensor(
        pre.mean
    )
    return (255 * colours_BHWC).round().clamp(0, 255).byte().numpy()


def title(settings: dict[str, Any]) -> str:
    """The flags of a row."""
    return (
        " ".join(f"--{name.replace('_', '-')} {value}" for name, value in settings.items())
        or "none"
    )


def sheet(rows: list[tuple[str, np.ndarray]]) -> Image.Image:
    """All rows below each other, each with its title above it."""
    font = ImageFont.load_default(TEXT_PX)
    columns, side = rows[0][1].shape[:2]
    height = side + TEXT_PX + 3 * GAP_PX
    drawn = Image.new(
        "RGB", (GAP_PX + columns * (side + GAP_PX), len(rows) * height + GAP_PX), "white"
    )
    for row, (name, views_BHWC) in enumerate(rows):
        top = GAP_PX + row * height
        ImageDraw.Draw(drawn).text((GAP_PX, top), name, fill="black", font=font)
        for column, view in enumerate(views_BHWC):
            drawn.paste(
                Image.fromarray(view), (GAP_PX + column * (side + GAP_PX), top + TEXT_PX + GAP_PX)
            )
    return drawn
