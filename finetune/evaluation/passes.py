"""Passes of a model over pictures, in fp32.

`batches` hold this process's share of the `total` pictures (`distributed.mine`); what comes back
holds all of them, in order.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from operator import attrgetter, itemgetter
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from finetune.augment.picture import normalise
from finetune.data.loader import Batch, PictureSource, evaluation_batches
from finetune.data.picture_columns import Picture
from finetune.machine import distributed
from zoo.contract.decision import Early, knn_distance
from zoo.host import console
from zoo.network.early import embedding_parts
from zoo.network.forward import features, forward
from zoo.picture.preprocess import Preprocessing

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Scores:
    """Says how good a set of weights is on one split."""

    top1: float
    """Share of right answers."""
    top5: float
    """Share of pictures whose class is among the five most probable."""
    loss: float
    """Mean cross-entropy in nats, without label smoothing."""
    pictures: int
    balanced: float | None = None
    """Mean over the classes of the share of right answers, where it decides instead of top-1
    (`Recipe.by_class`)."""

    def better_than(self, other: "Scores") -> bool:
        """Compare by top-1, or by balanced accuracy where both have it; ties are decided by
        loss."""
        if self.balanced is not None and other.balanced is not None:
            return (self.balanced, -self.loss) > (other.balanced, -other.loss)
        return (self.top1, -self.loss) > (other.top1, -other.loss)

    def to_json(self) -> dict[str, float]:
        return {name: value for name, value in asdict(self).items() if value is not None}

    def events(self) -> dict[str, float]:
        """Give the scores as they stand in metrics.jsonl."""
        return {"select/top1": self.top1, "select/top5": self.top5, "select/loss": self.loss}


Evaluate = Callable[[nn.Module], Scores]
"""Gives the scores of a model on the pictures that decide."""


@torch.inference_mode()
def logits(
    model: nn.Module,
    batches: Iterable[Batch],
    pre: Preprocessing,
    *,
    total: int,
    title: str = "evaluating",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give (float32 [N, classes], int64 [N]) on the CPU: logits and labels. Leaves the model in
    evaluation mode."""
    device = next(model.parameters()).device
    model.eval()
    rows, labels = [], []
    with console.bar(title, total) as advance:
        for images, label in batches:
            # uint8 to the device and scaled there, which moves a quarter of the bytes
            rows.append(model(normalise(images.to(device), pre)).float().cpu())
            labels.append(label)
            advance(len(label))
    every_label = distributed.gathered(torch.cat(labels), total)
    return distributed.gathered(torch.cat(rows), total), every_label


def scores_on(
    model: nn.Module, pictures: Sequence[Picture], source: PictureSource, *, by_class: bool = False
) -> Scores:
    """Score a model, with its present weights, on some pictures, which the processes share."""
    batches = evaluation_batches(distributed.mine(pictures), source)
    answered = logits(model, batches, source.pre, total=len(pictures))
    # devices may round differently, and all processes must decide by the same bits
    return Scores(**distributed.of_first(score(*answered, by_class=by_class).to_json()))


def score(logits_NC: torch.Tensor, labels_N: torch.Tensor, *, by_class: bool = False) -> Scores:
    """Compute top-1, top-5 and loss; with `by_class` also balanced accuracy, over the classes that
    have pictures."""
    # `topk` refuses more than there are
    ranked = logits_NC.topk(min(5, logits_NC.shape[1]), dim=1).indices
    hits = ranked == labels_N[:, None]
    balanced = None
    if by_class:
        balanced = balanced_accuracy(hits[:, 0], labels_N)
    return Scores(
        hits[:, 0].float().mean().item(),
        hits.any(1).float().mean().item(),
        cross_entropy(logits_NC, labels_N).item(),
        len(labels_N),
        balanced,
    )


def balanced_accuracy(right_N: torch.Tensor, labels_N: torch.Tensor) -> float:
    """Average the share of right answers over the classes that have pictures."""
    # counted, as a mask for each of 1,000 classes took 4 s of a CPU for 50,000 pictures; not by
    # scikit-learn, which takes 2 s to import
    pictures_C = torch.bincount(labels_N)
    right_C = torch.bincount(labels_N[right_N], minlength=len(pictures_C))
    present = pictures_C > 0
    return float((right_C[present] / pictures_C[present]).mean())


@dataclass(frozen=True)
class Bank:
    """Holds the reference embeddings of training pictures, for the unknown score."""

    rows: np.ndarray
    """float32 [references, dim], each of length 1."""
    neighbours: int
    """The score is the distance to this nearest one."""
    shortest: float
    """Length below which an embedding counts as weak."""
    early: Early | None = None
    """The stage that is joined to the embedding."""

    def distance(self, embedding_ND: np.ndarray) -> np.ndarray:
        """Compute the unknown score, float32 [N]."""
        return knn_distance(embedding_ND, self.rows, self.neighbours, self.shortest)


class Outputs(NamedTuple):
    """Holds what one pass over pictures gives."""

    logits: np.ndarray
    """float32 [N, classes]."""
    unknown_score: np.ndarray
    """float32 [N]."""
    brightness: np.ndarray
    """float32 [N]: mean of the input picture, 0 black to 1 white."""


@torch.inference_mode()
def outputs(
    model: nn.Module,
    batches: Iterable[Batch],
    pre: Preprocessing,
    bank: Bank,
    *,
    total: int,
    title: str,
) -> Outputs:
    """Compute logits, unknown score and brightness of all pictures, in one forward pass. Leaves the
    model in evaluation mode."""
    model.eval()
    rows = []
    with console.bar(title, total) as advance:
        for images, label in batches:
            rows.append(outputs_of_batch(model, images, pre, bank))
            advance(len(label))
    logits_NC, unknown_score, brightness = zip(*rows, strict=True)
    return Outputs(
        _of_all(logits_NC, total), _of_all(unknown_score, total), _of_all(brightness, total)
    )


@torch.inference_mode()
def outputs_of_batch(
    model: nn.Module, images: torch.Tensor, pre: Preprocessing, bank: Bank
) -> Outputs:
    """Compute the same of one batch, uint8 [B, H, W, 3]; the model is in evaluation mode."""
    device = next(model.parameters()).device
    answered = forward(model, normalise(images.to(device), pre), bank.early)
    embedding = answered.embedding.float().cpu().numpy()
    return Outputs(
        answered.logits.float().cpu().numpy(),
        bank.distance(embedding),
        images.float().mean((1, 2, 3)).numpy() / 255,
    )


@torch.inference_mode()
def parts_of_embedding(
    model: nn.Module, batches: Iterable[Batch], pre: Preprocessing, stage: int, *, total: int
) -> list[torch.Tensor]:
    """Give the parts of every picture's embedding before they are scaled and joined, each float32
    [N, ...] on the CPU."""
    device = next(model.parameters()).device
    model.eval()
    rows = []
    with console.bar("reference embeddings", total) as advance:
        for images, label in batches:
            parts = embedding_parts(model, normalise(images.to(device), pre), stage)
            rows.append([part.cpu() for part in parts])
            advance(len(label))
    return [distributed.gathered(torch.cat(parts), total) for parts in zip(*rows, strict=True)]


@torch.inference_mode()
def summed_probabilities(
    model: nn.Module,
    batches: Iterable[Batch],
    pre: Preprocessing,
    groups: Sequence[int],
    *,
    total: int,
) -> list[np.ndarray]:
    """Sum the probabilities of each picture over groups of its views: float32 [N, classes] for each
    group.

    `groups`: how many of a picture's views, in their order in the batches, make up each group.
    """
    model.eval()
    rows = []
    with console.bar("test-time views", total) as advance:
        for images, label in batches:
            rows.append(summed_of_batch(model, images, pre, groups))
            advance(len(label))
    return [_of_all(group, total) for group in zip(*rows, strict=True)]


@torch.inference_mode()
def summed_of_batch(
    model: nn.Module, images: torch.Tensor, pre: Preprocessing, groups: Sequence[int]
) -> list[np.ndarray]:
    """Compute the same of one batch, which holds the views of a picture one after the other; the
    model is in evaluation mode."""
    device = next(model.parameters()).device
    probabilities = model(normalise(images.to(device), pre)).float().softmax(1)
    parts = probabilities.unflatten(0, (-1, sum(groups))).split(list(groups), dim=1)
    return [part.sum(1).cpu().numpy() for part in parts]


def _of_all(parts: Sequence[np.ndarray], total: int) -> np.ndarray:
    return distributed.gathered(torch.from_numpy(np.concatenate(parts)), total).numpy()


# not inference_mode: with tensors of that mode, the probe could not compute gradients
@torch.no_grad()
def extract(
    model: nn.Module, batches: Iterable[Batch], pre: Preprocessing, *, total: int, precision: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give the pooled features, float32 [N, dim], and labels [N], of all `total` pictures;
    `precision` is fp32 or bf16.

    `batches` hold this process's share of them (`distributed.mine`).
    """
    device = next(model.parameters()).device
    model.eval()
    rows, labels = [], []
    with console.bar("features", total) as advance:
        for images, label in batches:
            with torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32"):
                rows.append(features(model, normalise(images.to(device), pre)).float().cpu())
            labels.append(label)
            advance(len(label))
    every_label = distributed.gathered(torch.cat(labels), total)
    return distributed.gathered(torch.cat(rows), total), every_label


def first_by_digest(pictures: Sequence[Picture], most: int) -> list[Picture]:
    """Take at most `most` of the pictures in the order of sha256: classes in about their shares."""
    return sorted(pictures, key=attrgetter("sha256"))[:most]


def sample(pictures: Sequence[Picture], most: int) -> list[Picture]:
    """Take at most `most` of the pictures, class by class in turn, in the order of sha256."""
    taken: Counter[int] = Counter()
    turns = []
    for picture in sorted(pictures, key=attrgetter("sha256")):
        turns.append((taken[picture.label], picture))
        taken[picture.label] += 1
    # a stable sort, so that within a turn the order of sha256 stays
    turns.sort(key=itemgetter(0))
    return [picture for _, picture in turns[:most]]
