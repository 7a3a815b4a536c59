"""Finished runs side by side: their numbers, what differs, and which difference is more than
chance."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from finetune.report.run_files import Finished
from finetune.studies.variation import Cell
from zoo.comparison.models import rows_of
from zoo.comparison.shares import Paired, paired, wilson_interval
from zoo.comparison.verdicts import notes
from zoo.contract import rundir
from zoo.host.errors import UserError
from zoo.network import tensor_file

__all__ = ["Paired", "names", "pair", "pair_of_seeds", "paired", "side_by_side"]

MOST_PAIRED = 4
"""Rows of which every two are compared; of more rows, each with the first."""
STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
"""Ends of names of tensors that are no parameters."""
AVERAGED = ("top1", "top5", "macro_f1", "loss", "ece", "select_top1", "probe_top1", "seconds")
"""Numbers of which a row has the mean over its seeds."""


def side_by_side(runs: Sequence[Finished], cells: Sequence[Cell] = ()) -> dict[str, Any]:
    """Give the content of compare.json: `rows` (one a setting), `runs` (one a seed), `pairs`
    (second against first), `recipe` (fields that differ between rows), `notes`.

    `cells`: what each run was asked for; none for runs that differ in their base.
    """
    models = [rows_of(run.folder)[0] for run in runs]
    groups = _groups(runs, cells)
    labels = _labels(runs, cells)
    entries = [
        _run_entry(run, label, model.size_mb)
        for run, label, model in zip(runs, labels, models, strict=True)
    ]
    data, splits = {model.data for model in models}, {run.split for run in runs}
    # else they answered different pictures
    comparable = len(data) == len(splits) == 1
    first = next(iter(groups.values()))
    rows = []
    for label, places in groups.items():
        against = None
        if comparable and places != first:
            against = _against([runs[i] for i in first], [runs[i] for i in places])
        rows.append(_row(label, [runs[i] for i in places], [entries[i] for i in places], against))
        rows[-1]["meaning"] = _meaning(cells, places[0], runs[places[0]])
    single = len(groups) == len(runs) <= MOST_PAIRED
    return {
        "split": runs[0].split,
        "varied": _is_varied(cells),
        "rows": rows,
        "runs": entries,
        "pairs": _pairs(list(groups), runs) if comparable and single else [],
        "recipe": _differing_fields([runs[places[0]] for places in groups.values()]),
        "notes": notes(models),
    }


def _is_varied(cells: Sequence[Cell]) -> bool:
    """Tell whether runs differ in more than their base, so that its name is not enough."""
    return any(cell.row != cell.base or cell.seed is not None for cell in cells)


def _meaning(cells: Sequence[Cell], place: int, run: Finished) -> str:
    """Say what stands for a value that is none of its flag: for SAM also what it wraps."""
    if not cells or not cells[place].meaning:
        return ""
    return f"{cells[place].meaning}, around {run.value_of('optimizer')}"


def _labels(runs: Sequence[Finished], cells: Sequence[Cell]) -> list[str]:
    if _is_varied(cells):
        return [cell.label for cell in cells]
    return names(runs)


def _groups(runs: Sequence[Finished], cells: Sequence[Cell]) -> dict[str, list[int]]:
    """Give the places of the runs of each row, by its label, in order."""
    labels = names(runs)
    if _is_varied(cells):
        labels = [cell.row for cell in cells]
    groups: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        groups.setdefault(label, []).append(place)
    return groups


def _pairs(labels: Sequence[str], runs: Sequence[Finished]) -> list[dict[str, Any]]:
    pairs = []
    for (first, run), (second, other) in combinations(zip(labels, runs, strict=True), 2):
        pairs.append({"first": first, "second": second, **pair(run, other)})
    return pairs


def _row(
    label: str,
    runs: Sequence[Finished],
    entries: Sequence[Mapping[str, Any]],
    against: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Describe a setting by the means over its seeds; with one seed these are the run's numbers."""
    row: dict[str, Any] = {"label": label, "folders": [entry["folder"] for entry in entries]}
    for name in AVERAGED:
        row[name] = _mean([entry[name] for entry in entries])
    row["top1_seeds"] = [entry["top1"] for entry in entries]
    row["top1_spread"] = _spread(row["top1_seeds"])
    row["top1_interval"] = entries[0]["top1_interval"]
    if len(entries) > 1:
        row["top1_interval"] = _interval(row, entries[0]["pictures"])
    row["pictures"] = entries[0]["pictures"]
    row["size_mb"] = entries[0]["size_mb"]
    row["parameters"] = parameters(runs[0].folder)
    row["against_first"] = against
    return row


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _spread(values: Sequence[float]) -> float | None:
    """Compute the standard deviation over seeds; None for one."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _interval(row: Mapping[str, Any], pictures: int) -> tuple[float, float]:
    """Give the 95 % interval of a mean over seeds: of the pictures (Wilson), widened by the
    seeds."""
    seeds = 1.96 * row["top1_spread"] / math.sqrt(len(row["top1_seeds"]))
    low, high = wilson_interval(row["top1"] * pictures, pictures)  # type: ignore[arg-type]
    below, above = math.hypot(row["top1"] - low, seeds), math.hypot(high - row["top1"], seeds)
    return max(0.0, row["top1"] - below), min(1.0, row["top1"] + above)


def parameters(folder: Path) -> int | None:
    """Count the parameters of a run's network; None if its weights cannot be read, which numbers of
    accuracy do not need."""
    try:
        shapes = tensor_file.check_header(folder / rundir.WEIGHTS)
    except UserError:
        return None
    counts = (math.prod(shape) for name, shape in shapes.items() if not name.endswith(STATISTICS))
    return sum(counts)


def _differing_fields(runs: Sequence[Finished]) -> dict[str, list[Any]]:
    """Give the fields of the recipe that differ, with their value in each run."""
    differing = {}
    for field in runs[0].recipe:
        values = [run.value_of(field) for run in runs]
        if len(set(map(str, values))) > 1:
            differing[field] = values
    return differing


def _run_entry(run: Finished, label: str, size_mb: float) -> dict[str, Any]:
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


def _against(first: Sequence[Finished], second: Sequence[Finished]) -> dict[str, Any]:
    """Compare a row with the first one on the same pictures."""
    if len(first) == 1:
        return pair(first[0], second[0])
    return pair_of_seeds(
        np.stack([_right_by_path(run) for run in first]),
        np.stack([_right_by_path(run) for run in second]),
    )


def pair(first: Finished, second: Finished) -> dict[str, Any]:
    """Compare two runs on the pictures of their headline."""
    counts = paired(_right_by_path(first), _right_by_path(second))
    return {
        **counts._asdict(),
        "difference": counts.difference,
        "interval": counts.interval,
        "p_value": counts.p_value,
    }


def pair_of_seeds(first_SN: np.ndarray, second_SN: np.ndarray) -> dict[str, Any]:
    """Compare two settings by which pictures each seed of them has right: bool [seeds, pictures].

    A z test of the mean difference. Its variance is that over pictures, of the share of seeds that
    have each right, and that over seeds, of their top-1; both are paired. One discordant picture is
    added to each side, as in `Paired.interval`.
    """
    difference_SN = second_SN.astype(float) - first_SN
    seeds, pictures = difference_SN.shape
    difference = float(difference_SN.mean())
    of_pictures = float(difference_SN.mean(0).var()) / pictures + 2 / pictures**2
    of_seeds = float(difference_SN.mean(1).var(ddof=1)) / seeds
    error = math.sqrt(of_pictures + of_seeds)
    return {
        "pictures": pictures,
        "seeds": seeds,
        "difference": difference,
        "interval": (max(-1.0, difference - 1.96 * error), min(1.0, difference + 1.96 * error)),
        "p_value": math.erfc(abs(difference) / error / math.sqrt(2)),
    }


def _right_by_path(run: Finished) -> np.ndarray:
    """Tell which answers are right, in the order of the pictures' paths; bool [N]."""
    # by path, because two runs may list the same pictures in another order
    return run.answers.right[np.argsort(run.answers.path)]
