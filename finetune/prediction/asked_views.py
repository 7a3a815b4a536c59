"""Batches of pictures that nobody has read before: one that cannot be read leaves its reason."""

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from finetune.data.loader import EVALUATION_BATCH, PictureSource, collated
from finetune.data.reading import MeasuredPicture
from finetune.prediction.contents import Contents
from zoo.host.errors import BadImage
from zoo.picture.decoding import decode_and_measure
from zoo.picture.preprocess import Preprocessing
from zoo.picture.tta import View, prepare_views

Item = tuple[MeasuredPicture, np.ndarray] | str
"""What was read and its views, uint8 [views, H, W, 3]; or why the picture cannot be read."""


class AskedBatch(NamedTuple):
    """Holds some pictures, one after the other."""

    read: list[MeasuredPicture | str]
    """What each picture is, or why it cannot be read."""
    views: torch.Tensor | None
    """uint8 [B, views, H, W, 3] of those that can be read, in order; None if there are none."""


class AskedViews(Dataset):
    """Gives by `views[index]` what deployment sees of a picture, or why it cannot be read."""

    def __init__(
        self, contents: Contents, paths: Sequence[str], pre: Preprocessing, views: tuple[View, ...]
    ):
        self.contents, self.paths, self.pre, self.views = contents, paths, pre, views

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Item:
        path = self.paths[index]
        try:
            content = self.contents.read(path)
            decoded = decode_and_measure(content, name=path)
        except BadImage as error:
            return error.reason
        picture = decoded.picture
        read = MeasuredPicture(
            hashlib.sha256(content).hexdigest(), picture.width, picture.height, decoded.bits_used
        )
        return read, prepare_views(picture, self.pre, self.views)


def asked_batches(
    contents: Contents, paths: Sequence[str], source: PictureSource, views: tuple[View, ...]
) -> Iterator[AskedBatch]:
    """Yield all pictures once, in order, `pictures_at_once` in a batch."""
    shown = AskedViews(contents, paths, source.pre, views)
    size = pictures_at_once(views)
    yield from collated(shown, source, size * len(views), _collate_asked, batch_size=size)


def pictures_at_once(views: Sequence[View]) -> int:
    """Tell how many pictures are in a batch, all views of which pass the network together."""
    return max(1, EVALUATION_BATCH // len(views))


def _collate_asked(items: list[Item]) -> AskedBatch:
    read: list[MeasuredPicture | str] = []
    pixels = []
    for item in items:
        if isinstance(item, str):
            read.append(item)
        else:
            read.append(item[0])
            pixels.append(item[1])
    views = torch.from_numpy(np.stack(pixels)) if pixels else None
    return AskedBatch(read, views)
