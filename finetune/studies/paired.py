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
    """Give the content of compare.json: `runs`, `pairs` (second against first), `recipe` (fields
    that differ), `notes`."""
    rows = [rows_of(run.folder)[0] for run in runs]
    labels = names(runs)
    sizes_mb = [row.size_mb for row in rows]
    data, splits = {row.data for row in rows}, {run.split for run in runs}
    pairs = []
    # else they answered different pictures
    if len(data) == len(splits) == 1:
        for (first, run), (second, other) in combinations(zip(labels, runs, strict=True), 2):
            pairs.append({"first": first, "second": second, **pair(run, other)})
    return {
        "split": runs[0].split,
        "runs": list(map(_row, runs, labels, sizes_mb)),
        "pairs": pairs,
        "recipe": _differing_fields(runs),
        "notes": notes(rows),
    }


def _differing_fields(runs: Sequence[Finished]) -> dict[str, list[Any]]:
    """Give the fields of the recipe that differ, with their value in each run."""
    differing = {}
    for field in runs[0].recipe:
        values = [run.value_of(field) for run in runs]
        if len(set(map(str, values))) > 1:
            differing[field] = values
    return differing


def _row(run: Finished, label: str, size_mb: float) -> dict[str, Any]:
    head, report = run.numbers, run.report
    probe_top1 = None
    if report.probe:
        probe_top1 = report.probe.select_top1
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
        "probe_top1": probe_top1,
        "seconds": report.seconds,
    }


def names(runs: Sequence[Finished]) -> list[str]:
    """Name the runs by their base, or by their folder where two bases have one name."""
    bases = [run.report.base.name for run in runs]
    if len(set(bases)) < len(bases):
        # as in runs of one base with different settings
        return [run.name for run in runs]
    return bases


def pair(first: Finished, second: Finished) -> dict[str, Any]:
    """Compare two runs on the pictures of their headline."""
    counts = paired(_right_by_path(first), _right_by_path(second))
    return {
        **counts._asdict(),
        "difference": counts.difference,
        "interval": counts.interval,
        "p_value": counts.p_value,
    }


def _right_by_path(run: Finished) -> np.ndarray:
    """Tell which answers are right, in the order of the pictures' paths; bool [N]."""
    # by path, because two runs may list the same pictures in another order
    return run.answers.right[np.argsort(run.answers.path)]
