"""The numbers of a run for report.json: what follows from its training, and what follows from its
answers."""

import platform
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import timm
import torch

from finetune.augment.picture import normalise
from finetune.data.loader import epochs_done, evaluation_batches, steps_per_epoch
from finetune.evaluation import predictions
from finetune.evaluation.calibrate import Calibrated
from finetune.evaluation.predictions import Answers
from finetune.evaluation.subject import Subject
from finetune.plan import Plan
from finetune.run_folder import checkpoint, events
from zoo.contract.report import (
    BaseSummary,
    BestWeights,
    ClassNumbers,
    Headline,
    Numbers,
    ProbeResult,
    Ranking,
    Report,
    UnknownRates,
)
from zoo.network import class_maps
from zoo.network.forward import forward


class TrainingNumbers(NamedTuple):
    """The fields of `Report` that follow from the training."""

    probe: ProbeResult | None
    best: BestWeights
    base: BaseSummary
    device: str
    versions: Mapping[str, str]

    def report(self, answers: "AnswerNumbers", *, seconds: float) -> Report:
        """The whole report of a run that took so many seconds."""
        return Report(**self._asdict(), **answers._asdict(), seconds=seconds)


class AnswerNumbers(NamedTuple):
    """The fields of `Report` that follow from the answers."""

    headline: Headline
    splits: Mapping[str, Numbers]
    per_class: tuple[ClassNumbers, ...]
    unknown: UnknownRates | None
    heatmaps: Mapping[str, tuple[tuple[float, ...], ...]]
    curves: Ranking


def training_numbers(plan: Plan, best: checkpoint.Best) -> TrainingNumbers:
    """What was trained, from which base, and how good the kept weights were on select."""
    per_epoch = steps_per_epoch(len(plan.data.of("train")), plan.resolved.recipe.batch_size)
    return TrainingNumbers(
        probe_numbers(plan, best),
        BestWeights(
            epoch=epochs_done(best.step, per_epoch),
            step=best.step,
            top1=best.scores.top1,
            top5=best.scores.top5,
            loss=best.scores.loss,
            pictures=best.scores.pictures,
            balanced=best.scores.balanced,
        ),
        BaseSummary(
            name=plan.base.folder.name if plan.base.folder else plan.base.alias,
            architecture=plan.base.architecture,
            hub_id=plan.base.hub_id,
            licence=plan.base.licence,
            pretrained_on=plan.base.pretrained_on,
        ),
        str(next(plan.model.parameters()).device),
        {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "timm": timm.__version__,
        },
    )


def probe_numbers(plan: Plan, best: checkpoint.Best) -> ProbeResult | None:
    """How good the linear probe was; None if there was none."""
    recipe = plan.resolved.recipe
    if recipe.probe != "on":
        return None
    _, top1 = events.read_events(plan.folder)["select/top1"][0]
    return ProbeResult(select_top1=top1, kept=best.step == 0 and not recipe.probe_only)


def answer_numbers(subject: Subject, calibrated: Calibrated) -> AnswerNumbers:
    """How good the answers are, split by split and class by class."""
    answers, unknown = calibrated.answers, calibrated.decision.unknown
    assert unknown is not None
    per_class = predictions.class_numbers(answers)
    return AnswerNumbers(
        predictions.headline_numbers(answers, per_class),
        {name: predictions.split_numbers(answers.of(name)) for name in answers.splits},
        per_class,
        predictions.unknown_numbers(answers, unknown.threshold),
        heatmaps(subject, answers),
        calibrated.curves,
    )


@torch.inference_mode()
def heatmaps(subject: Subject, answers: Answers) -> dict[str, tuple[tuple[float, ...], ...]]:
    """Path -> heat map of the answer, for the most wrong pictures; empty where the architecture has
    no such map."""
    head = answers.of(predictions.headline(answers)[0])
    wanted = head.where(predictions.most_wrong(head))
    pictures = {p.path: p for p in (*subject.data.of("val"), *subject.data.of("test"))}
    if not len(wanted) or not class_maps.has_map(subject.model, subject.source.pre.size):
        return {}
    device, start = next(subject.model.parameters()).device, 0
    found: dict[str, tuple[tuple[float, ...], ...]] = {}
    # all of them in this process: only rank 0 comes this far
    for images, label in evaluation_batches(
        [pictures[path] for path in wanted.path], subject.source
    ):
        rows = wanted.where(np.arange(start, start + len(label)))
        outputs = forward(subject.model, normalise(images.to(device), subject.source.pre))
        maps = class_maps.heatmap(
            subject.model, outputs.feature_map, torch.from_numpy(rows.predicted).to(device)
        )
        found.update(zip(rows.path.tolist(), map(_rounded, maps.tolist()), strict=True))
        start += len(label)
    return found


def _rounded(heatmap: list[list[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(round(heat, 2) for heat in row) for row in heatmap)
