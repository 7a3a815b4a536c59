"""`python -m zoo compare RUN...`: runs and their exported models side by side, as a table and a
picture."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

import tyro

from zoo.comparison.drawing import name_legend, plain_text, short
from zoo.comparison.models import ComparedRun, rows_of
from zoo.comparison.verdicts import notes, verdicts
from zoo.host import console
from zoo.host.errors import UserError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""One a run: Okabe and Ito's, which colour-blind people tell apart."""
MARKERS = "osD^vPX*"
"""One a target."""
NUMBERS = (
    "top-1 %",
    "95 % interval",
    "of",
    "foreign called unknown %",
    "MB",
    "ms a picture",
    "calibration error %",
)
"""Titles of the table's columns that hold numbers."""


def compare(
    runs: Annotated[tuple[str, ...], tyro.conf.Positional],
    out: Path = Path("compare.png"),
    measure: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> int:
    """Compare finished runs: accuracy, size, latency and calibration, one row a model; and accuracy
    against latency.

    Says which models differ by more than chance. Latency comes from python -m export.bench RUN.

    Args:
        runs: Run folders, or hf-hub:user/name of published runs.
        out: Picture to write.
        measure: Answer up to 2,000 of the run's own pictures with each exported model that rounds
            (int8, fp16), for its own accuracy and calibration error.
    """
    if not runs:
        raise UserError(
            "expected one run at least, such as runs/mydataset-vit_base_21k, seen none."
        )
    rows: list[ComparedRun] = []
    for folder in dict.fromkeys(_folder(run).resolve() for run in runs):
        rows += rows_of(folder, measure=measure)
    if measure and not any(row.measured for row in rows):
        raise UserError(
            "--measure has no effect: none of these runs has an exported model that rounds. Remove "
            "it, or export one: python -m export RUN --to int8"
        )
    _show(rows)
    for sentence in verdicts(rows):
        console.say(f"difference: {sentence}")
    for note in notes(rows):
        console.say(f"note: {note}")
    if any(row.latency_ms for row in rows):
        draw(rows, out)
        console.say(f"picture: {out}")
    else:
        console.say("no picture: no latency is known. Measure it: python -m export.bench RUN")
    return 0


def _folder(run: str) -> Path:
    if Path(run).exists():
        return Path(run)
    from zoo.hub.pulled_run import pull_run

    return pull_run(run).folder


def _show(rows: Sequence[ComparedRun]) -> None:
    columns = [console.Column(title, whole=True) for title in ("run", "model")]
    columns += [console.Column(title, right=True) for title in NUMBERS]
    console.table(columns, list(map(_cells, rows)))


def _cells(row: ComparedRun) -> tuple[str, ...]:
    low, high = row.interval
    return (
        row.run,
        row.target,
        _percent(row.top1, 2),
        f"{low:.1%} to {high:.1%}",
        f"{row.pictures:,} {row.split}",
        "-" if row.foreign is None else _percent(row.foreign, 0),
        f"{row.size_mb:.1f}",
        "-" if row.latency_ms is None else f"{row.latency_ms:.1f}",
        "not measured" if row.ece is None else _percent(row.ece, 1),
    )


def _percent(share: float, digits: int) -> str:
    """A share in percent, whose sign stands in the column's title."""
    return f"{share:.{digits}%}".removesuffix("%")


@plain_text()
def draw(rows: Sequence[ComparedRun], out: Path) -> None:
    """Accuracy against latency, one point a model whose latency is known; higher and further left
    is better."""
    from matplotlib.figure import Figure

    shown = [(row, row.latency_ms) for row in rows if row.latency_ms]
    colours = _one_each((row.run for row, _ in shown), COLOURS)
    markers = _one_each((row.target for row, _ in shown), MARKERS)
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for row, latency_ms in shown:
        low, high = row.interval
        axes.errorbar(
            [latency_ms],
            [100 * row.top1],
            [[100 * (row.top1 - low)], [100 * (high - row.top1)]],
            fmt=markers[row.target],
            color=colours[row.run],
            capsize=3,
            markersize=8,
        )
    _legend(axes, colours, markers)
    _log_axis(axes, [latency_ms for _, latency_ms in shown])
    axes.set(xlabel="milliseconds for one picture (median)", ylabel="top-1, % (95 % interval)")
    axes.grid(alpha=0.3)
    try:
        figure.savefig(out, dpi=150, format="png")
    except OSError as error:
        raise UserError(
            f"--out {out}: expected a file that can be written, seen: {error}."
        ) from None


def _one_each(names: Iterable[str], choices: Sequence[str]) -> dict[str, str]:
    """A colour or marker for each name; they begin again when they run out."""
    return dict(zip(dict.fromkeys(names), cycle(choices), strict=False))


def _legend(axes: Any, colours: Mapping[str, str], markers: Mapping[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = []
    for colour in colours.values():
        handles.append(Line2D([], [], color=colour, linewidth=4, label="run"))
    for marker in markers.values():
        handles.append(Line2D([], [], color="0.3", marker=marker, linestyle="", label="model"))
    legend = axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False
    )
    name_legend(legend, list(map(short, (*colours, *markers))))


def _log_axis(axes: Any, latencies_ms: Sequence[float]) -> None:
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    axes.set_xscale("log")
    axes.set_xlim(min(latencies_ms) / 1.5, max(latencies_ms) * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
