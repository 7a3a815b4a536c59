"""The reference embeddings of training pictures that the unknown score compares a picture with."""

import math
import statistics
from collections import Counter
from collections.abc import Iterable

from finetune.data.loader import Batch, evaluation_batches
from finetune.evaluation import passes
from finetune.evaluation.passes import Bank
from finetune.evaluation.subject import Subject
from finetune.machine import distributed
from zoo.contract import rejection
from zoo.contract.decision import Early, unit
from zoo.network.early import early_stage, joined_parts

REFERENCES = 1000
"""Reference embeddings at most."""
NEIGHBOURS = 10
"""The unknown score's neighbour, where a class has that many references
(tests/bench/RESULTS.md)."""


def reference_bank(subject: Subject) -> Bank:
    """Compute embeddings of at most REFERENCES training pictures, the classes in turn."""
    chosen = passes.sample(subject.data.of("train"), REFERENCES)
    batches = evaluation_batches(distributed.mine(chosen), subject.source)
    of_class = Counter(picture.label for picture in chosen)
    # in a class of fewer references, a neighbour so far out would be of another class
    neighbours = max(1, min(NEIGHBOURS, int(statistics.median(of_class.values()))))
    stage = early_stage(subject.model, subject.source.pre.size)
    if stage is None:
        return _pooled_bank(subject, batches, len(chosen), neighbours)
    return _joined_bank(subject, batches, len(chosen), neighbours, stage)


def _pooled_bank(subject: Subject, batches: Iterable[Batch], total: int, neighbours: int) -> Bank:
    """Make a bank of the pooled features alone, for a network without an early stage."""
    embedding, _ = passes.extract(
        subject.model, batches, subject.source.pre, total=total, precision="fp32"
    )
    shortest = rejection.shortest_length(embedding.numpy())
    return Bank(unit(embedding.numpy()), neighbours, shortest)


def _joined_bank(
    subject: Subject, batches: Iterable[Batch], total: int, neighbours: int, stage: int
) -> Bank:
    """Make a bank of the pooled features joined with statistics of an early stage."""
    parts = passes.parts_of_embedding(
        subject.model, batches, subject.source.pre, stage, total=total
    )
    pooled, mean, deviation = (rejection.shortest_length(part.numpy()) for part in parts)
    early = Early(stage, (pooled, mean, deviation))
    # the length of the whole when no part is weak: weakness counts in each part by itself
    shortest = math.sqrt(len(parts))
    return Bank(unit(joined_parts(parts, early).numpy()), neighbours, shortest, early)
