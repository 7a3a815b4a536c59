"""Fits all that `decision.json` holds on the calibration pictures, and tabulates every answer.

The order matters, because later steps use what earlier ones gave: reference embeddings; one pass
over val and test; the choice of test-time views; their temperature; prediction sets; the threshold
of "unknown". Foreign pictures come last: they measure the decision, and take no part in it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from safetensors.numpy import save_file

from finetune.data import foreign
from finetune.data.dataset import Data
from finetune.data.loader import evaluation_batches
from finetune.data.picture_columns import Picture
from finetune.evaluation import fits, passes, predictions, predictions_csv, ranking_curves
from finetune.evaluation.answer_table import CHUNK, of_label, tabulate, with_views
from finetune.evaluation.choices import Wish
from finetune.evaluation.passes import Bank
from finetune.evaluation.predictions import NOWHERE, Answers, concatenate
from finetune.evaluation.reference_bank import reference_bank
from finetune.evaluation.subject import Subject
from finetune.evaluation.views import (
    Averaged,
    average_all,
    extra_views,
    measured_views,
    views_to_measure,
)
from finetune.machine import disk_space, distributed
from zoo.contract import rejection, rundir
from zoo.contract.decision import BANK_KEY, Decision, Unknown, temper
from zoo.contract.report import Ranking
from zoo.host import console
from zoo.picture.tta import VIEWS

MOST_MEASURED = 1000
"""Calibration pictures, at most, on which views are measured against each other."""
MOST_CALIBRATED = 10_000
"""Calibration pictures, at most, on which temperature, threshold and sets are fitted."""
NOTES = {
    True: "half of val that took no part in choosing the weights",
    False: "all of val, by which weights are chosen too: too small to be halved, so the numbers "
    "flatter a little",
}
"""Whether val was halved -> the pictures on which everything is fitted, for decision.json."""


class Calibrated(NamedTuple):
    """Holds what `calibrate` fitted, and the answers that follow from it."""

    decision: Decision
    fitted: dict[str, Any]
    """How each value was fitted, for decision.json."""
    bank: Bank
    answers: Answers
    curves: Ranking
    """Precision-recall and ROC curves of the headline's split, for report.json."""


class Views(NamedTuple):
    """Holds the test-time views that were chosen, and the measurements behind the choice."""

    name: str
    why: str
    table: list[dict[str, Any]]
    """A row for each setting that was measured, for decision.json."""
    measured: dict[str, fits.Measured]
    rows: np.ndarray
    """Indices of the pictures on which they were measured."""
    averaged: Averaged
    """The chosen views' answers to all pictures."""


def calibrate(subject: Subject, wish: Wish) -> Calibrated:
    """Fit everything on the half of val that chose no weights, or on all of val where it was too
    small to be halved."""
    data, source = subject.data, subject.source
    pictures = [*data.of("val"), *data.of("test")]
    # before the pass over val and test, which compares each picture with it
    bank = reference_bank(subject)
    outputs = passes.outputs(
        subject.model,
        evaluation_batches(distributed.mine(pictures), source),
        source.pre,
        bank,
        total=len(pictures),
        title="evaluating",
    )
    rows = calibration_rows(data, pictures)
    labels = np.array([pictures[i].label for i in rows])
    views = chosen_views(subject, pictures, outputs.logits, rows, wish)

    # the sets are fitted on tempered probabilities, so the temperature comes first
    p_NC = views.averaged.of(rows)
    temperature = fits.fit_temperature(p_NC, labels)
    sets, sets_warning = fits.fit_sets(of_label(temper(p_NC, temperature), labels), wish.coverage)
    threshold = rejection.threshold(outputs.unknown_score[rows])
    unknown = Unknown(bank.neighbours, bank.shortest, threshold, bank.early)
    decision = Decision(temperature, views.name, unknown, sets)
    foreign_tables = [
        foreign_answers(subject, foreign_set, bank, decision)
        for foreign_set in foreign.sets_for(data.pictures)
    ]

    warnings = fit_warnings(sets_warning, len(rows), rejected(foreign_tables, threshold))
    for warning in warnings:
        console.warn(warning)
    fitted = {
        **fitted_on(data, rows),
        "views": {"why": views.why, "table": views.table},
        "temperature": {
            "loss_before": fits.loss_of(p_NC, labels, 1.0),
            "loss_after": fits.loss_of(p_NC, labels, temperature),
        },
        "unknown": {
            "references": len(bank.rows),
            "rejected": float((outputs.unknown_score[rows] > threshold).mean()),
        },
        "warnings": warnings,
    }
    known = tabulate(data, pictures, outputs, views.averaged, decision)
    answers = with_views(concatenate([known, *foreign_tables]), views.measured, views.rows)
    curves = headline_curves(known, views.averaged, temperature)
    return Calibrated(decision, fitted, bank, answers, curves)


def chosen_views(
    subject: Subject,
    pictures: Sequence[Picture],
    logits_NC: np.ndarray,
    rows: np.ndarray,
    wish: Wish,
) -> Views:
    """Choose the views that were asked for, or else those that gain on a sample of the calibration
    pictures.

    `rows` holds the indices of the calibration pictures in `pictures`; the sample is the first of
    them.
    """
    # they are ordered by sha256, so the first are a random sample
    sample_rows = rows[:MOST_MEASURED]
    sample = [pictures[i] for i in sample_rows.tolist()]
    labels = np.array([picture.label for picture in sample])
    extras = extra_views(subject, sample, views_to_measure(wish, len(rows)))
    measured = measured_views(logits_NC[sample_rows], labels, extras)
    table: list[dict[str, Any]] = []
    if measured:
        table = fits.views_table(measured, labels)
        choice = fits.choose_views(table)
    elif wish.views in VIEWS:
        choice = (wish.views, "set by hand")
    else:
        fewest = fits.LEAST_FOR_VIEWS
        choice = ("none", f"not measured: fewer than {fewest} calibration pictures")
    # the passes that follow are split between the processes, so all must take the same choice
    name, why = distributed.of_first(choice)
    averaged = average_all(
        subject, pictures, logits_NC, name, known=(sample_rows, extras.get(name))
    )
    return Views(name, why, table, measured, sample_rows, averaged)


def fit_warnings(
    sets_warning: str | None, pictures: int, rejected_of: dict[str, float]
) -> list[str]:
    """Give warnings if the fits rest on few pictures, or if foreign pictures pass for known.

    `sets_warning` comes from `fits.fit_sets`, `rejected_of` from `rejected`.
    """
    warnings = []
    if sets_warning:
        warnings.append(sets_warning)
    if pictures < fits.LEAST:
        warnings.append(
            f"with fewer than {fits.LEAST} calibration pictures (there are {pictures}), no "
            "temperature is fitted, and the threshold of unknown is a guess: add pictures to val"
        )
    if weakness := rejection.warning(rejected_of):
        warnings.append(f"{weakness}. {rejection.CURE}")
    return warnings


def fitted_on(data: Data, rows: np.ndarray) -> dict[str, Any]:
    """Describe the pictures on which everything is fitted, for decision.json."""
    split = "calibrate" if data.halved else "val"
    return {"split": split, "pictures": len(rows), "note": NOTES[data.halved]}


def rejected(foreign_tables: Sequence[Answers], threshold: float) -> dict[str, float]:
    """Give for each foreign set the share of its pictures that are called unknown."""
    shares = {}
    for table in foreign_tables:
        shares[str(table.split[0])] = float((table.unknown_score > threshold).mean())
    return shares


def headline_curves(known: Answers, averaged: Averaged, temperature: float) -> Ranking:
    """Compute the curves of each class on the headline's split, from the deployed probabilities.

    They are computed in chunks, so that only a few rows are held in float64 at a time.
    """
    split, _ = predictions.headline(known)
    rows = np.flatnonzero(known.in_split(split))
    chunks = []
    for start in range(0, len(rows), CHUNK):
        p_NC = temper(averaged.of(rows[start : start + CHUNK]), temperature)
        # half the memory of float64
        chunks.append(p_NC.astype(np.float32))
    return ranking_curves.one_vs_rest(np.concatenate(chunks), known.label[rows], known.classes)


def calibration_rows(data: Data, pictures: Sequence[Picture]) -> np.ndarray:
    """Give the indices of the calibration pictures, at most MOST_CALIBRATED, ordered by sha256."""
    paths = {picture.path for picture in data.of("calibrate")}
    rows = []
    for row, picture in enumerate(pictures):
        if picture.split == "val" and picture.path in paths:
            rows.append((picture.sha256, row))
    # by sha256, so that the first of them, in any number, are a random sample
    return np.array([row for _, row in sorted(rows)[:MOST_CALIBRATED]])


def foreign_answers(
    subject: Subject, foreign_set: foreign.ForeignSet, bank: Bank, decision: Decision
) -> Answers:
    """Answer the pictures of a foreign set, which belong to no class."""
    pre, total, views = subject.source.pre, len(foreign_set.pictures), VIEWS[decision.views]
    own = distributed.mine(foreign_set.pictures)
    outputs = passes.outputs(
        subject.model,
        foreign.batches(own, pre),
        pre,
        bank,
        total=total,
        title=f"foreign: {foreign_set.name}",
    )
    extra = None
    if len(views) > 1:
        # the first view is the whole picture, which has been answered above
        batches = foreign.batches(own, pre, views[1:])
        groups = [len(views) - 1]
        extra = passes.summed_probabilities(subject.model, batches, pre, groups, total=total)[0]
    averaged = Averaged(outputs.logits, extra, len(views))
    pictures = [
        Picture(f"{foreign_set.name}/{i}", NOWHERE, foreign_set.name, "", *picture.size)
        for i, picture in enumerate(foreign_set.pictures)
    ]
    return tabulate(subject.data, pictures, outputs, averaged, decision)


def write_calibration(folder: Path, calibrated: Calibrated) -> None:
    """Write `decision.json`, `bank.safetensors` and `predictions.csv` into a run folder."""
    rundir.write_json(
        folder / rundir.DECISION, calibrated.decision.to_json() | {"fitted": calibrated.fitted}
    )
    disk_space.write_whole(
        folder / rundir.BANK, lambda path: save_file({BANK_KEY: calibrated.bank.rows}, path)
    )
    disk_space.write_whole(
        folder / rundir.PREDICTIONS,
        lambda path: predictions_csv.write_predictions(path, calibrated.answers),
    )
