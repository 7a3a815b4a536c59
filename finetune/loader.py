"""Batches of uint8 pictures, prepared on the host."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from finetune.augment import augment, seed_everything
from finetune.dataset import Picture
from finetune.recipe import Recipe
from zoo.errors import BadImage, UserError
from zoo.preprocess import Preprocessing, decode
from zoo.tta import WHOLE, View, prepare

Batch = tuple[torch.Tensor, torch.Tensor]
"""(uint8 [B, H, W, 3], int64 [B])"""
Item = tuple[np.ndarray, int] | str
"""(uint8 [H, W, 3] or [views, H, W, 3], label), or why the picture cannot be read."""
EVALUATION_BATCH = 64


@dataclass(frozen=True)
class Source:
    """Where pictures come from and how they are prepared for the network."""

    root: Path
    pre: Preprocessing
    workers: int
    """Processes that decode; 0 = this one."""
    pin: bool
    """Page-locked memory, for a GPU."""


class TrainingViews(Dataset):
    """`views[epoch, index]`: the augmented view of a picture that this epoch sees."""

    def __init__(self, pictures: Sequence[Picture], source: Source, recipe: Recipe):
        self.pictures, self.source, self.recipe = pictures, source, recipe

    def __getitem__(self, key: tuple[int, int]) -> Item:
        picture = self.pictures[key[1]]
        try:
            decoded = decode(self.source.root / picture.path)
        except BadImage as error:
            return str(error)
        seed_everything(self.recipe.seed, "picture", *key)
        return augment(decoded, self.recipe, self.source.pre), picture.label


class EvaluationViews(Dataset):
    """`views[index]`: the picture as deployment sees it, uint8 [views, H, W, 3]."""

    def __init__(self, pictures: Sequence[Picture], source: Source, views: tuple[View, ...]):
        self.pictures, self.source, self.views = pictures, source, views

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Item:
        picture = self.pictures[index]
        path = self.source.root / picture.path
        try:
            content = path.read_bytes()
            if hashlib.sha256(content).hexdigest() != picture.sha256:
                return f"{path}: its bytes are not those that were read (sha256)"
            return prepare(decode(content, name=str(path)), self.source.pre, self.views), picture.label
        except (BadImage, OSError) as error:
            return str(error)


def steps_per_epoch(pictures: int, batch_size: int) -> int:
    """Full batches of one epoch; fewer pictures than a batch make one smaller batch."""
    return max(1, pictures // batch_size)


def training_batches(pictures: Sequence[Picture], source: Source, recipe: Recipe, first_step: int) -> Iterator[Batch]:
    """The batches of step `first_step` to the run's last, each picture at most once an epoch.

    The order is a function of (seed, epoch): a permutation; what is left of it after the last full batch waits for the
    next epoch's draw. Raises `UserError` for a picture that became unreadable since it was scanned.
    """
    per_epoch = steps_per_epoch(len(pictures), recipe.batch_size)

    def keys() -> Iterator[list[tuple[int, int]]]:
        for epoch in range(first_step // per_epoch, recipe.epochs):
            order = np.random.default_rng([recipe.seed, epoch]).permutation(len(pictures)).tolist()
            for step in range(max(0, first_step - epoch * per_epoch), per_epoch):
                yield [(epoch, index) for index in order[step * recipe.batch_size:(step + 1) * recipe.batch_size]]

    yield from _load(TrainingViews(pictures, source, recipe), source, batch_sampler=keys())


def evaluation_batches(pictures: Sequence[Picture], source: Source,
                       views: tuple[View, ...] = (WHOLE,)) -> Iterator[Batch]:
    """All pictures once, in order, as deployment sees them: ([B * views, H, W, 3], [B]), a picture's views together."""
    batch_size = max(1, EVALUATION_BATCH // len(views))
    for images, labels in _load(EvaluationViews(pictures, source, views), source, batch_size=batch_size):
        yield images.flatten(0, 1), labels


def _load(views: Dataset, source: Source, **how: object) -> Iterator[Batch]:
    loader = DataLoader(views, num_workers=source.workers, pin_memory=source.pin, collate_fn=_collate, **how)  # type: ignore[arg-type]
    for batch, problem in loader:
        if problem:
            raise UserError(f"a picture changed since the run read it: {problem}. Repair or remove it and start again.")
        yield batch


def _collate(items: list[Item]) -> tuple[Batch | None, str | None]:
    problems = [item for item in items if isinstance(item, str)]
    if problems:
        return None, problems[0]
    pixels, labels = zip(*items, strict=True)
    return (torch.from_numpy(np.stack(pixels)), torch.tensor(labels)), None
