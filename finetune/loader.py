"""Batches of uint8 pictures, prepared on the host."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from finetune import ranks, signals
from finetune.augment import augment, seed_everything
from finetune.dataset import Picture
from finetune.recipe import Recipe
from zoo.errors import BadImage, UserError
from zoo.folders import picture_bytes
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
    """`views[epoch, index]`: the augmented view of a picture that this epoch sees; `views[epoch, index, k]`: the one of
    its k-th repetition in this epoch."""

    def __init__(self, pictures: Sequence[Picture], source: Source, recipe: Recipe):
        self.pictures, self.source, self.recipe = pictures, source, recipe

    def __getitem__(self, key: tuple[int, ...]) -> Item:
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
            content = picture_bytes(path, picture.sha256)
            return prepare(decode(content, name=str(path)), self.source.pre, self.views), picture.label
        except BadImage as error:
            return str(error)


def steps_per_epoch(pictures: int, batch_size: int) -> int:
    """Full batches of one epoch; fewer pictures than a batch make one smaller batch."""
    return max(1, pictures // batch_size)


def epoch_order(labels: Sequence[int], recipe: Recipe, epoch: int) -> list[int]:
    """Indices of an epoch's pictures, as many as there are: a pure function of (seed, epoch).

    A permutation; or with balance resample and sqrt-resample (Kang et al., 2020) classes in equal shares, or in shares
    as the roots of their sizes, and within a class each picture equally often, give or take one. Drawn systematically
    (even steps through the cumulated shares), which has the same expectation as independent draws and less noise.
    """
    generator = np.random.default_rng([recipe.seed, epoch])
    order = generator.permutation(len(labels))
    if recipe.balance not in ("resample", "sqrt-resample"):
        return order.tolist()
    by_class = order[np.argsort(np.asarray(labels)[order], kind="stable")]
    counts = np.bincount(labels)
    of_a_picture = counts ** (-1.0 if recipe.balance == "resample" else -0.5)
    shares = of_a_picture[np.asarray(labels)[by_class]].cumsum()
    points = (np.arange(len(labels)) + generator.random()) / len(labels) * shares[-1]
    return generator.permutation(by_class[np.searchsorted(shares, points, side="right")]).tolist()


def numbered(order: Sequence[int], epoch: int) -> list[tuple[int, ...]]:
    """Keys of `TrainingViews` for an epoch's order: (epoch, index), and (epoch, index, k) at the k-th repetition."""
    seen: Counter[int] = Counter()
    keys: list[tuple[int, ...]] = []
    for index in order:
        keys.append((epoch, index, seen[index]) if seen[index] else (epoch, index))
        seen[index] += 1
    return keys


def training_batches(pictures: Sequence[Picture], source: Source, recipe: Recipe, first_step: int) -> Iterator[Batch]:
    """The batches of step `first_step` to the run's last, each picture at most once an epoch unless balance repeats it.

    The order is a function of (seed, epoch), see `epoch_order`; what is left of it after the last full batch waits for
    the next epoch's draw. Of several processes, each gets its slice of every batch. Raises `UserError` for a picture
    that became unreadable since it was scanned.
    """
    per_epoch = steps_per_epoch(len(pictures), recipe.batch_size)
    labels = [picture.label for picture in pictures]

    def keys() -> Iterator[list[tuple[int, ...]]]:
        for epoch in range(first_step // per_epoch, recipe.epochs):
            order = numbered(epoch_order(labels, recipe, epoch), epoch)
            for step in range(max(0, first_step - epoch * per_epoch), per_epoch):
                yield _slice(order[step * recipe.batch_size:(step + 1) * recipe.batch_size], recipe)

    yield from _load(TrainingViews(pictures, source, recipe), source, batch_sampler=keys())


def partners(recipe: Recipe) -> int:
    """Pictures that stand before this process's slice of a batch: the one before it, if pictures are mixed with the one
    before them and that one belongs to another process."""
    return int(ranks.world() > 1 and bool(recipe.mixup or recipe.cutmix))


def _slice(keys: list[tuple[int, ...]], recipe: Recipe) -> list[tuple[int, ...]]:
    before = [keys[ranks.bounds(len(keys))[0] - 1]] if partners(recipe) else []
    return [*before, *ranks.mine(keys)]


def evaluation_batches(pictures: Sequence[Picture], source: Source,
                       views: tuple[View, ...] = (WHOLE,)) -> Iterator[Batch]:
    """All pictures once, in order, as deployment sees them: ([B * views, H, W, 3], [B]), a picture's views together."""
    batch_size = max(1, EVALUATION_BATCH // len(views))
    for images, labels in _load(EvaluationViews(pictures, source, views), source, batch_size=batch_size):
        yield images.flatten(0, 1), labels


def _load(views: Dataset, source: Source, **how: object) -> Iterator[Batch]:
    loader = DataLoader(views, num_workers=source.workers, pin_memory=source.pin, collate_fn=_collate,
                        worker_init_fn=signals.ignore, **how)  # type: ignore[arg-type]
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
