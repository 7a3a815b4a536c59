"""The answers of a finished run to any pictures, batch by batch, as rows of a table.

The columns are those of a run's own predictions.csv, and behind them those of `ADDED`. Each picture
has a row; that of one which cannot be read holds the reason alone.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from finetune.data.dataset import Data
from finetune.data.loader import PictureSource
from finetune.data.picture_columns import Picture, Pictures
from finetune.data.reading import MeasuredPicture
from finetune.evaluation import passes
from finetune.evaluation.answer_table import tabulate
from finetune.evaluation.predictions import NOWHERE
from finetune.evaluation.predictions_csv import COLUMNS, cells, join_names
from finetune.evaluation.views import Averaged
from finetune.prediction.asked import Asked
from finetune.prediction.asked_views import AskedBatch, asked_batches
from finetune.prediction.finished_network import Answerer
from finetune.prediction.known_pictures import KnownPictures
from zoo.contract.decision import in_set, temper
from zoo.picture.tta import VIEWS

UNKNOWN, SET, SPLIT_OF_RUN, UNREADABLE = "unknown", "prediction_set", "split_of_run", "unreadable"
ADDED = (UNKNOWN, SET, SPLIT_OF_RUN, UNREADABLE)
"""1 for "none of these", else 0; names of the classes in the set, joined as in `top5`; the split
that the run has the same picture in; why it cannot be read."""
HEADER = (*COLUMNS, *ADDED)
MOST_IN_SET = 100
"""Names in a cell; `set_size` counts them all. Where nothing was calibrated, a set holds all
classes."""
Row = list[str]
"""Cells in the order of `HEADER`."""


def answered(
    answerer: Answerer, asked: Asked, source: PictureSource, known: KnownPictures, *, first: int
) -> Iterator[list[Row]]:
    """Yield the rows of each batch, from the picture at place `first` on, where a batch begins."""
    start = first
    views = VIEWS[answerer.decision.views]
    for batch in asked_batches(asked.contents, asked.paths[first:], source, views):
        pictures = _pictures(asked, start, batch)
        answers: Iterator[Row] = iter(())
        if batch.views is not None:
            there = [picture for picture in pictures if picture.sha256]
            answers = iter(_rows(answerer, there, batch.views, known))
        rows = []
        for picture, read in zip(pictures, batch.read, strict=True):
            if isinstance(read, str):
                rows.append(_unreadable(answerer.classes, picture, read))
            else:
                rows.append(next(answers))
        start += len(rows)
        yield rows


def _pictures(asked: Asked, start: int, batch: AskedBatch) -> list[Picture]:
    """Describe the pictures of a batch; one that cannot be read has no sha256."""
    pictures = []
    for place, read in enumerate(batch.read, start):
        measured = MeasuredPicture("", 0, 0, -1) if isinstance(read, str) else read
        size = measured.width, measured.height
        pictures.append(
            Picture(
                asked.paths[place],
                asked.labels[place],
                asked.splits[place],
                measured.sha256,
                *size,
            )
        )
    return pictures


def _rows(
    answerer: Answerer,
    pictures: Sequence[Picture],
    views_BVHWC: torch.Tensor,
    known: KnownPictures,
) -> list[Row]:
    """Answer the pictures of one batch."""
    model, pre, decision = answerer.model, answerer.pre, answerer.decision
    outputs = passes.outputs_of_batch(model, views_BVHWC[:, 0], pre, answerer.bank)
    extra, others = None, views_BVHWC.shape[1] - 1
    if others:
        rest = views_BVHWC[:, 1:].flatten(0, 1)
        extra = passes.summed_of_batch(model, rest, pre, [others])[0]
    averaged = Averaged(outputs.logits, extra, 1 + others)
    # the table takes class names and nothing else of it
    data = Data(Path(), answerer.classes, Pictures.of(()), (), ())
    answers = tabulate(data, pictures, outputs, averaged, decision)
    columns = cells(answers)
    # `not <=`, as zoo.contract.decision has it, so that NaN is unknown too
    unknown = ~(answers.unknown_score <= answerer.unknown.threshold)
    columns[UNKNOWN] = unknown.astype(int).astype(str).tolist()
    p_NC = temper(averaged.of(slice(None)), decision.temperature)
    columns[SET] = _sets(p_NC, answerer)
    columns[SPLIT_OF_RUN] = [known.split_of(picture.sha256) for picture in pictures]
    columns[UNREADABLE] = [""] * len(pictures)
    return [list(row) for row in zip(*(columns[name] for name in HEADER), strict=True)]


def _sets(p_NC: np.ndarray, answerer: Answerer) -> list[str]:
    """Give the names in the prediction set of each picture, the most probable first."""
    inside = in_set(p_NC, answerer.sets)
    order = np.argsort(-p_NC, axis=1, kind="stable")
    joined = []
    for own, best_first in zip(inside, order, strict=True):
        members = best_first[own[best_first]][:MOST_IN_SET]
        joined.append(join_names(answerer.classes[label] for label in members.tolist()))
    return joined


def _unreadable(classes: Sequence[str], picture: Picture, reason: str) -> Row:
    row = dict.fromkeys(HEADER, "")
    row.update(path=picture.path, split=picture.split)
    row[UNREADABLE] = reason
    if picture.label != NOWHERE:
        row["label"] = classes[picture.label]
    return list(row.values())
