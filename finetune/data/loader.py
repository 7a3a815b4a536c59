"""Batches of uint8 pictures, prepared on the host."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from finetune.augment.picture import augment, seed_everything
from finetune.data.picture_columns import Picture
from finetune.machine import distributed, shared_memory, signals
from finetune.recipe.fields import Recipe
from zoo.files.folders import picture_bytes
from zoo.files.same_paths import located
from zoo.host.errors import BadImage, UserError
from zoo.picture.decoding import decode
from zoo.picture.preprocess import Preprocessing
from zoo.picture.tta import WHOLE, View, prepare_views

Batch = tuple[torch.Tensor, torch.Tensor]
"""(uint8 [B, H, W, 3], or [B, views, H, W, 3] where training shows each picture in several views,
int64 [B])"""
Item = tuple[np.ndarray, int] | str
"""(uint8 [H, W, 3] or [views, H, W, 3], label), or why the picture cannot be read."""
EVALUATION_BATCH = 64


@dataclass(frozen=True)
class PictureSource:
    """Says where pictures come from and how they are prepared for the network."""

    root: Path
    pre: Preprocessing
    workers: int
    """Processes that decode; 0 = this one."""
    pin: bool
    """Page-locked memory, for a GPU."""


class TrainingViews(Dataset):
    """Gives by `views[epoch, index]` the augmented view of a picture that this epoch sees;
    `views[epoch, index, k]`: the one of its k-th repetition in this epoch."""

    def __init__(self, pictures: Sequence[Picture], source: PictureSource, recipe: Recipe):
        self.pictures, self.source, self.recipe = pictures, source, recipe

    def __getitem__(self, key: tuple[int, ...]) -> Item:
        picture = self.pictures[key[1]]
        try:
            decoded = decode(self.source.root / picture.path)
        except BadImage as error:
            # as text: an exception would come from its process wrapped in a traceback
            return str(error)
        # for each picture: its view does not depend on which process makes it, or after what
        seed_everything(self.recipe.seed, "picture", *key)
        return augment(decoded, self.recipe, self.source.pre), picture.label


class EvaluationViews(Dataset):
    """Gives by `views[index]` the picture as deployment sees it, uint8 [views, H, W, 3]."""

    def __init__(self, pictures: Sequence[Picture], source: PictureSource, views: tuple[View, ...]):
        self.pictures, self.source, self.views = pictures, source, views

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, index: int) -> Item:
        picture = self.pictures[index]
        path = located(self.source.root, picture.path)
        try:
            # the recorded bytes or none: the numbers are those of the run's pictures
            content = picture_bytes(path, picture.sha256)
            return prepare_views(
                decode(content, name=str(path)), self.source.pre, self.views
            ), picture.label
        except BadImage as error:
            return str(error)


def steps_per_epoch(pictures: int, batch_size: int) -> Fraction:
    """Count the batches of one pass over the training pictures; fewer pictures than a batch make
    one smaller batch.

    A fraction, because a batch may begin in one epoch and end in the next: 63 pictures at 32 a
    batch are 63/32 steps.
    """
    return Fraction(pictures, min(batch_size, pictures))


def epoch_end(epoch: int, per_epoch: Fraction) -> int:
    """Return the step after which all pictures of the first `epoch` epochs were shown; the last
    batch may show more."""
    return math.ceil(epoch * per_epoch)


def epochs_done(step: int, per_epoch: Fraction) -> int:
    """Count the epochs whose pictures were all shown in so many steps; also the epoch that the next
    step begins in."""
    return math.floor(step / per_epoch)


def epoch_order(labels: Sequence[int], recipe: Recipe, epoch: int) -> list[int]:
    """Draw the indices of an epoch's pictures, as many as there are: a pure function of (seed,
    epoch).

    A permutation; or with balance resample and sqrt-resample (Kang et al., 2020) classes in equal
    shares, or in shares as the roots of their sizes, and within a class each picture equally often,
    give or take one. Drawn systematically (even steps through the cumulated shares), which has the
    same expectation as independent draws and less noise.
    """
    generator = np.random.default_rng([recipe.seed, epoch])
    order = generator.permutation(len(labels))
    if recipe.balance not in ("resample", "sqrt-resample"):
        return order.tolist()
    # stable, so that pictures of a class keep their shuffled order
    by_class = order[np.argsort(np.asarray(labels)[order], kind="stable")]
    counts = np.bincount(labels)
    of_a_picture = counts ** (-1.0 if recipe.balance == "resample" else -0.5)
    shares = of_a_picture[np.asarray(labels)[by_class]].cumsum()
    points = (np.arange(len(labels)) + generator.random()) / len(labels) * shares[-1]
    # shuffled once more, as the draw went class by class
    return generator.permutation(by_class[np.searchsorted(shares, points, side="right")]).tolist()


def numbered(order: Sequence[int], epoch: int) -> Iterator[tuple[int, ...]]:
    """Yield the keys of `TrainingViews` for an epoch's order: (epoch, index), and (epoch, index, k)
    at the k-th repetition."""
    if len(np.unique(order)) == len(order):
        # to count would take a second for a million pictures
        yield from zip(repeat(epoch), order, strict=False)
        return
    seen: Counter[int] = Counter()
    for index in order:
        yield (epoch, index, seen[index]) if seen[index] else (epoch, index)
        seen[index] += 1


def training_keys(
    labels: Sequence[int], recipe: Recipe, first_step: int
) -> Iterator[list[tuple[int, ...]]]:
    """Yield the keys of `TrainingViews` of each whole batch, from step `first_step` to the run's
    last.

    The epochs follow each other without a gap: a batch that an epoch's last pictures do not fill
    takes the rest from the next epoch's order. So every epoch shows every picture (unless balance
    resamples), whatever the size of a batch. What step k shows is a function of (seed, k) alone, so
    a run that goes on, and each of several processes, find their place by counting. (Epochs of a
    whole number of batches would show 64 of 33 pictures in each.)
    """
    per_epoch, batch_size = (
        steps_per_epoch(len(labels), recipe.batch_size),
        min(recipe.batch_size, len(labels)),
    )
    last_step = epoch_end(recipe.epochs, per_epoch)
    begin = epochs_done(first_step, per_epoch)

    def stream() -> Iterator[tuple[int, ...]]:
        # one more than the recipe has, as the last batch may reach into it
        for epoch in range(begin, recipe.epochs + 1):
            yield from numbered(epoch_order(labels, recipe, epoch), epoch)

    # without the pictures of the epoch `begin` that earlier steps have shown
    keys = islice(stream(), first_step * batch_size - begin * len(labels), None)
    for _ in range(first_step, last_step):
        yield list(islice(keys, batch_size))


def training_batches(
    pictures: Sequence[Picture], source: PictureSource, recipe: Recipe, first_step: int
) -> Iterator[Batch]:
    """Yield the batches of step `first_step` to the run's last, in the order of `training_keys`; of
    several processes, each gets its slice of every batch. Raises `UserError` for a picture that
    became unreadable since it was scanned."""
    keys = training_keys([picture.label for picture in pictures], recipe, first_step)
    share = math.ceil(min(recipe.batch_size, len(pictures)) / distributed.world()) + partners(
        recipe
    )
    yield from _load(
        TrainingViews(pictures, source, recipe),
        source,
        share * recipe.views,
        batch_sampler=(_slice(whole, recipe) for whole in keys),
    )


def partners(recipe: Recipe) -> int:
    """Count the pictures that stand before this process's slice of a batch: the one before it, if
    pictures are mixed with the one before them and that one belongs to another process."""
    return int(distributed.world() > 1 and bool(recipe.mixup or recipe.cutmix))


def _slice(keys: list[tuple[int, ...]], recipe: Recipe) -> list[tuple[int, ...]]:
    # of the first slice, the picture before it is the batch's last: mixing rolls the batch round
    before = [keys[distributed.bounds(len(keys))[0] - 1]] if partners(recipe) else []
    return [*before, *distributed.mine(keys)]


def evaluation_batches(
    pictures: Sequence[Picture], source: PictureSource, views: tuple[View, ...] = (WHOLE,)
) -> Iterator[Batch]:
    """Yield all pictures once, in order, as deployment sees them: ([B * views, H, W, 3], [B]), a
    picture's views together."""
    # all views of a picture pass the network together, so a batch takes fewer pictures
    batch_size = max(1, EVALUATION_BATCH // len(views))
    shown = EvaluationViews(pictures, source, views)
    for images, labels in _load(shown, source, batch_size * len(views), batch_size=batch_size):
        yield images.flatten(0, 1), labels


def batch_bytes(pictures: int, side: int) -> int:
    """Compute the memory, in bytes, of a batch of so many views of `side` pixels, its labels
    apart."""
    return pictures * side * side * 3


def planned_workers(wanted: int, pictures: int, recipe: Recipe, *, pinned: bool) -> int:
    """Tell how many of the `wanted` processes have room for their batches, of training and
    evaluation, in shared memory.

    `pictures`: in train. A function of the machine alone, see `shared_memory.planned_workers`; it
    changes no result.
    """
    share = math.ceil(min(recipe.batch_size, pictures) / distributed.world()) + partners(recipe)
    together = EVALUATION_BATCH + (0 if recipe.probe_only else share * recipe.views)
    return shared_memory.planned_workers(
        wanted, batch_bytes(together, recipe.image_size), pinned=pinned
    )


def _load(views: Dataset, source: PictureSource, at_once: int, **how: object) -> Iterator[Batch]:
    """Yield batches as `collated` does; `UserError` for a picture that cannot be read any more."""
    for batch, problem in collated(views, source, at_once, _collate, **how):
        if problem:
            raise UserError(
                f"a picture changed since the run read it: {problem}. Repair or remove it and "
                "start again."
            )
        yield batch


def collated(
    views: Dataset,
    source: PictureSource,
    at_once: int,
    collate: Callable[[list[Any]], Any],
    **how: object,
) -> Iterator[Any]:
    """Yield what `collate` makes of the items of each batch, in the processes that decode;
    `at_once`: pictures (or views) of a batch, at most."""
    workers = shared_memory.workers_now(
        source.workers, batch_bytes(at_once, source.pre.size), pinned=source.pin
    )
    loader = DataLoader(
        views,
        num_workers=workers,
        pin_memory=source.pin,
        collate_fn=collate,
        # torch refuses a timeout where no process is waited for
        timeout=shared_memory.longest_wait_s(at_once) if workers else 0,
        worker_init_fn=signals.ignore,
        **how,  # type: ignore[arg-type]
    )
    with shared_memory.lost_batches_explained(), shared_memory.workers_killed_at_error():
        yield from loader


def _collate(items: list[Item]) -> tuple[Batch | None, str | None]:
    for item in items:
        if isinstance(item, str):
            return None, item
    pixels, labels = zip(*items, strict=True)
    return (torch.from_numpy(np.stack(pixels)), torch.tensor(labels)), None
