"""Finished runs side by side: their numbers, what differs, and which difference is more than
chance."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np

from finetune.report.run_files import Finished
from zoo.comparison.models import rows_of
from zoo.comparison.shares import Paired, paired
from zoo.comparison.verdicts import notes

__all__ = ["Paired", "names", "pair", "paired", "side_by_side"]


def side_by_side(runs: Sequence[Finished]) -> dict[str, Any]:
    """The content of compare.json: `runs`, `pairs` (second against first), `recipe` (fields that
    differ), `notes`."""
    rows = [rows_of(run.folder)[0] for run in runs]
    labels = dict(zip((run.name for run in runs), names(runs), strict=True))
    same = len({row.data for row in rows}) == len({run.split for run in runs}) == 1
    return {
        "split": runs[0].split,
        "runs": [
            _row(run, labels[run.name], row.size_mb) for run, row in zip(runs, rows, strict=True)
        ],
        "pairs": [
            {"first": labels[first.name], "second": labels[second.name], **pair(first, second)}
            for first, second in combinations(runs, 2)
        ]
        if same
        else [],
        "recipe": {
            field: [run.value_of(field) for run in runs]
            for field in runs[0].recipe
            if len({str(run.value_of(field)) for run in runs}) > 1
        },
        "notes": notes(rows),
    }


def _row(run: Finished, label: str, size_mb: float) -> dict[str, Any]:
    head, report = run.numbers, run.report
    return {
        "label": label,
        "folder": run.name,
        "size_mb": size_mb,
        "pictures": head.pictures,
        "top1": head.top1,
        "top1_interval": head.top1_interval,
        "top5": head.top5,
        "macro_f1": report.headline.macro_f1,
        "loss": head.loss,
        "ece": head.ece,
        "select_top1": report.best.top1,
        "best_epoch": report.best.epoch,
        "probe_top1": report.probe.select_top1 if report.probe else None,
        "seconds": report.seconds,
    }


def names(runs: Sequence[Finished]) -> list[str]:
    """What the runs are called: by their base, or by their folder where two bases have one name."""
    bases = [run.report.base.name for run in runs]
    return bases if len(set(bases)) == len(bases) else [run.name for run in runs]


def pair(first: Finished, second: Finished) -> dict[str, Any]:
    """The paired comparison of two runs on the pictures of their headline."""
    order = [np.argsort(run.answers.path) for run in (first, second)]
    found = paired(
        *(run.answers.right[rows] for run, rows in zip((first, second), order, strict=True))
    )
    return {
        **found._asdict(),
        "difference": found.difference,
        "interval": found.interval,
        "p_value": found.p_value,
    }
