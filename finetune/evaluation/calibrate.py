"""All that `decision.json` says, fitted on the calibration pictures, and the table of every answer.

In this order: reference embeddings; one pass over val and test; test-time views, measured against
each other; the temperature of the chosen ones; the threshold of "unknown"; prediction sets; foreign
pictures.
"""

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file
from torch import nn

from finetune.data import foreign
from finetune.data.dataset import Data, Picture
from finetune.data.loader import Source, evaluation_batches
from finetune.evaluation import fits, passes, predictions, ranking_curves
from finetune.evaluation.choices import Wish
from finetune.evaluation.passes import Bank, Outputs
from finetune.evaluation.predictions import NOWHERE, Answers, concatenate
from finetune.machine import disk_space, distributed
from zoo.contract import rejection, rundir
from zoo.contract.decision import BANK_KEY, Decision, Early, Unknown, in_set, softmax, temper, unit
from zoo.contract.report import Ranking
from zoo.host import console
from zoo.network.early import early_stage, joined
from zoo.picture.tta import VIEWS

MOST_MEASURED = 1000
"""Calibration pictures on which views are measured against each other."""
MOST_CALIBRATED = 10_000
"""Calibration pictures that temperature, threshold and sets are fitted on."""
REFERENCES = 1000
"""Reference embeddings at most."""
NEIGHBOURS = 10
"""The unknown score's neighbour, where a class has that many references
(tests/bench/RESULTS.md)."""
CHUNK = 1024
"""Rows of the table computed at a time."""
NOTES = {
    True: "half of val that took no part in choosing the weights",
    False: "all of val, by which weights are chosen too: too small to be halved, so the numbers "
    "flatter a little",
}
"""Whether val was halved -> on what everything is fitted."""


@dataclass(frozen=True)
class Subject:
    """A trained model and its pictures."""

    model: nn.Module
    data: Data
    source: Source


class Calibrated(NamedTuple):
    """What `calibrate` gives."""

    decision: Decision
    fitted: dict[str, Any]
    """How each value was fitted, for decision.json."""
    bank: Bank
    answers: Answers
    curves: Ranking
    """Precision-recall and ROC curves of the headline's split, for report.json."""


@dataclass(frozen=True)
class Averaged:
    """Mean probabilities over views, computed for a few rows at a time."""

    logits_NC: np.ndarray
    """Of the first view."""
    extra_NC: np.ndarray | None
    """Probabilities of the other views, summed; None if there are none."""
    passes: int
    """Number of views."""

    def of(self, rows: np.ndarray | slice) -> np.ndarray:
        """float64 [rows, classes]."""
        first = softmax(self.logits_NC[rows])
        return first if self.extra_NC is None else (first + self.extra_NC[rows]) / self.passes


def calibrate(subject: Subject, wish: Wish) -> Calibrated:
    """Fit everything on the calibrate half of val (on all of val where it was too small to be
    halved)."""
    data, source = subject.data, subject.source
    pictures = data.of("val") + data.of("test")
    bank = reference_bank(subject)
    seen = passes.outputs(
        subject.model,
        evaluation_batches(distributed.mine(pictures), source),
        source.pre,
        bank,
        total=len(pictures),
        title="evaluating",
    )
    rows = calibration_rows(data, pictures)
    labels = np.array([pictures[i].label for i in rows])

    shown = rows[:MOST_MEASURED]
    enough = len(rows) >= fits.LEAST
    candidates = views_to_measure(wish, len(rows))
    extras = extra_views(subject, [pictures[i] for i in shown.tolist()], candidates)
    measured = measured_views(seen.logits[shown], labels[:MOST_MEASURED], extras)
    table = fits.views_table(measured, labels[:MOST_MEASURED]) if measured else []
    views, why = distributed.of_first(  # the passes that follow are shared out
        fits.choose_views(table)
        if table
        else (wish.views, "set by hand")
        if wish.views in VIEWS
        else ("none", f"not measured: fewer than {fits.LEAST_FOR_VIEWS} calibration pictures")
    )
    averaged = average_all(subject, pictures, seen.logits, views, known=(shown, extras.get(views)))

    p_NC = averaged.of(rows)
    temperature = fits.fit_temperature(p_NC, labels)
    sets, warning = fits.fit_sets(of_label(temper(p_NC, temperature), labels), wish.coverage)
    warnings = [warning] if warning else []
    if not enough:
        warnings.append(
            f"with fewer than {fits.LEAST} calibration pictures (there are {len(rows)}), no "
            "temperature is fitted, and the threshold of unknown is a guess: add pictures to val"
        )
    threshold = rejection.threshold(seen.unknown_score[rows])
    decision = Decision(
        temperature, views, Unknown(bank.neighbours, bank.shortest, threshold, bank.early), sets
    )
    strangers = [
        foreign_answers(subject, some, bank, decision) for some in foreign.sets_for(data.pictures)
    ]
    if weak := rejection.warning(rejected(strangers, threshold)):
        warnings.append(f"{weak}. {rejection.CURE}")
    for warning in warnings:
        console.warn(warning)
    halved = data.halved(data.of("val"))
    fitted = {
        "split": "calibrate" if halved else "val",
        "pictures": len(rows),
        "note": NOTES[halved],
        "views": {"why": why, "table": table},
        "temperature": {
            "loss_before": fits.loss_of(p_NC, labels, 1.0),
            "loss_after": fits.loss_of(p_NC, labels, temperature),
        },
        "unknown": {
            "references": len(bank.rows),
            "rejected": float((seen.unknown_score[rows] > threshold).mean()),
        },
        "warnings": warnings,
    }
    known = tabulate(data, pictures, seen, averaged, decision)
    table_of_all = with_views(concatenate([known, *strangers]), measured, shown)
    return Calibrated(
        decision, fitted, bank, table_of_all, headline_curves(known, averaged, temperature)
    )


def rejected(strangers: Sequence[Answers], threshold: float) -> dict[str, float]:
    """Foreign set -> share of its pictures that are called unknown."""
    return {
        str(table.split[0]): float((table.unknown_score > threshold).mean()) for table in strangers
    }


def views_to_measure(wish: Wish, pictures: int) -> list[str]:
    """The views that are measured against the whole picture alone; none where a choice would be
    chance."""
    if wish.views in VIEWS or pictures < fits.LEAST_FOR_VIEWS:
        return []
    return [
        name for name in VIEWS if name != "none" and (wish.views == "all" or name in fits.CHEAP)
    ]


def measured_views(
    logits_NC: np.ndarray, labels_N: np.ndarray, extras: Mapping[str, np.ndarray]
) -> dict[str, fits.Measured]:
    """What the whole picture alone and each setting of `extras` (from `extra_views`) reach; empty
    without any."""
    if not extras:
        return {}
    return {
        name: fits.measure(
            Averaged(logits_NC, extras.get(name), len(VIEWS[name])).of(slice(None)), labels_N
        )
        for name in ("none", *extras)
    }


def headline_curves(known: Answers, averaged: Averaged, temperature: float) -> Ranking:
    """The curves of each class on the headline's split, from the deployed probabilities."""
    rows = np.flatnonzero(
        np.isin(
            known.split,
            predictions.VAL if (split := predictions.headline(known)[0]) == "val" else [split],
        )
    )
    p_NC = np.concatenate(
        [
            temper(averaged.of(rows[start : start + CHUNK]), temperature).astype(np.float32)
            for start in range(0, len(rows), CHUNK)
        ]
    )
    return ranking_curves.one_vs_rest(p_NC, known.label[rows], known.classes)


def reference_bank(subject: Subject) -> Bank:
    """Embeddings of at most REFERENCES training pictures, the classes in turn."""
    chosen = passes.sample(subject.data.of("train"), REFERENCES)
    batches = evaluation_batches(distributed.mine(chosen), subject.source)
    stage, early = early_stage(subject.model, subject.source.pre.size), None
    if stage is None:
        embedding, _ = passes.extract(
            subject.model, batches, subject.source.pre, total=len(chosen), precision="fp32"
        )
        shortest = rejection.shortest_length(embedding.numpy())
    else:
        parts = passes.parts_of_embedding(
            subject.model, batches, subject.source.pre, stage, total=len(chosen)
        )
        pooled, mean, deviation = (rejection.shortest_length(part.numpy()) for part in parts)
        early = Early(stage, (pooled, mean, deviation))
        embedding = joined(parts, early)
        # of the whole when no part is weak: weakness counts in each part by itself
        shortest = math.sqrt(len(parts))
    of_class = Counter(p.label for p in chosen)
    return Bank(
        unit(embedding.numpy()),
        max(1, min(NEIGHBOURS, int(statistics.median(of_class.values())))),
        shortest,
        early,
    )


def calibration_rows(data: Data, pictures: Sequence[Picture]) -> np.ndarray:
    """Indices of at most MOST_CALIBRATED calibration pictures, by sha256, so that the first of them
    are a sample."""
    paths = {p.path for p in data.of("calibrate")}
    rows = [i for i, p in enumerate(pictures) if p.split == "val" and p.path in paths]
    return np.array(sorted(rows, key=lambda i: pictures[i].sha256)[:MOST_CALIBRATED])


def extra_views(
    subject: Subject, pictures: Sequence[Picture], settings: Sequence[str]
) -> dict[str, np.ndarray]:
    """For each setting, summed probabilities of all its views but the first, float32 [N, classes];
    in one pass."""
    if not settings:
        return {}
    views = [VIEWS[name][1:] for name in settings]
    batches = evaluation_batches(
        distributed.mine(pictures), subject.source, tuple(chain.from_iterable(views))
    )
    summed = passes.summed_probabilities(
        subject.model, batches, subject.source.pre, [len(v) for v in views], total=len(pictures)
    )
    return dict(zip(settings, summed, strict=True))


def average_all(
    subject: Subject,
    pictures: Sequence[Picture],
    logits_NC: np.ndarray,
    views: str,
    *,
    known: tuple[np.ndarray, np.ndarray | None],
) -> Averaged:
    """Mean probabilities of every picture; `known`: rows whose other views were computed already,
    and these."""
    if views == "none":
        return Averaged(logits_NC, None, 1)
    rows, extra = known
    summed = np.empty_like(logits_NC)
    missing = np.arange(len(pictures))
    if extra is not None:
        summed[rows] = extra
        missing = np.setdiff1d(missing, rows)
    if len(missing):
        summed[missing] = extra_views(subject, [pictures[i] for i in missing.tolist()], [views])[
            views
        ]
    return Averaged(logits_NC, summed, len(VIEWS[views]))


def foreign_answers(
    subject: Subject, one: foreign.ForeignSet, bank: Bank, decision: Decision
) -> Answers:
    """The answers to pictures of no class."""
    pre, total, views = subject.source.pre, len(one.pictures), VIEWS[decision.views]
    own = distributed.mine(one.pictures)
    seen = passes.outputs(
        subject.model,
        foreign.batches(own, pre),
        pre,
        bank,
        total=total,
        title=f"foreign: {one.name}",
    )
    extra = (
        passes.summed_probabilities(
            subject.model, foreign.batches(own, pre, views[1:]), pre, [len(views) - 1], total=total
        )[0]
        if len(views) > 1
        else None
    )
    pictures = [
        Picture(f"{one.name}/{i}", NOWHERE, one.name, "", *p.size)
        for i, p in enumerate(one.pictures)
    ]
    return tabulate(
        subject.data, pictures, seen, Averaged(seen.logits, extra, len(views)), decision
    )


def tabulate(
    data: Data, pictures: Sequence[Picture], seen: Outputs, averaged: Averaged, decision: Decision
) -> Answers:
    """The table of these pictures' answers, without the comparison of views."""
    halved = data.halved(data.of("val"))
    label = np.array([p.label for p in pictures])
    columns: dict[str, list[np.ndarray]] = defaultdict(list)
    for start in range(0, len(pictures), CHUNK):
        rows = slice(start, start + CHUNK)
        answered = {
            "": temper(averaged.of(rows), decision.temperature),
            "plain_": softmax(seen.logits[rows]),
        }
        for prefix, p_NC in answered.items():
            columns[f"{prefix}predicted"].append(p_NC.argmax(1))
            columns[f"{prefix}confidence"].append(p_NC.max(1))
            columns[f"{prefix}label_probability"].append(of_label(p_NC, label[rows]))
        columns["top5"].append(np.argsort(-answered[""], axis=1, kind="stable")[:, :5])
        assert decision.sets is not None
        inside = in_set(answered[""], decision.sets)
        columns["set_size"].append(inside.sum(1))
        columns["label_in_set"].append(of_label(inside, label[rows]) == 1)
    return Answers(
        classes=data.classes,
        path=np.array([p.path for p in pictures]),
        label=label,
        split=np.array(
            [data.half_of(p) if halved and p.split == "val" else p.split for p in pictures]
        ),
        **{name: np.concatenate(chunks) for name, chunks in columns.items()},
        unknown_score=seen.unknown_score,
        width=np.array([p.width for p in pictures]),
        height=np.array([p.height for p in pictures]),
        brightness=seen.brightness,
        views_predicted={},
        views_label_probability={},
    )


def of_label(values_NC: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """The value of each row's label, nan where it has none."""
    return np.where(labels_N == NOWHERE, np.nan, values_NC[np.arange(len(labels_N)), labels_N])


def with_views(
    answers: Answers, measured: Mapping[str, fits.Measured], rows: np.ndarray
) -> Answers:
    """The table with the comparison of views, on the rows where they were measured."""
    predicted = {name: np.full(len(answers), NOWHERE) for name in measured}
    probability = {name: np.full(len(answers), np.nan) for name in measured}
    for name, it in measured.items():
        predicted[name][rows], probability[name][rows] = it.predicted, it.label_probability
    return replace(answers, views_predicted=predicted, views_label_probability=probability)


def write(folder: Path, calibrated: Calibrated) -> None:
    """`decision.json`, `bank.safetensors` and `predictions.csv` of a run folder."""
    rundir.write_json(
        folder / rundir.DECISION, calibrated.decision.to_json() | {"fitted": calibrated.fitted}
    )
    disk_space.write_whole(
        folder / rundir.BANK, lambda path: save_file({BANK_KEY: calibrated.bank.rows}, path)
    )
    disk_space.write_whole(
        folder / rundir.PREDICTIONS, lambda path: predictions.write(path, calibrated.answers)
    )
