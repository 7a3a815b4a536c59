"""`python -m zoo compare RUN...`: runs and their exported models side by side, as a table and a
picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from zoo.comparison.drawing import name_legend, plain_text, short
from zoo.contract import rundir
from zoo.contract.report import Numbers, Unknown
from zoo.host import console
from zoo.host.errors import UserError

if TYPE_CHECKING:
    from zoo.comparison.measured import Answers
    from zoo.contract.figures import Figures

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""One a run: Okabe and Ito's, which colour-blind people tell apart."""
MARKERS = "osD^vPX*"
"""One a target."""


@dataclass(frozen=True)
class Row:
    """One model: a run's own weights, or an exported one."""

    run: str
    target: str
    """`timm` for the run's own weights."""
    top1: float
    interval: tuple[float, float]
    """95 % of top-1."""
    split: str
    pictures: int
    size_mb: float
    latency_ms: float | None
    """Median of one picture; None = not measured."""
    ece: float | None
    """Expected calibration error of the answers as deployed (of one plain view for `timm`); None =
    not measured."""
    measured_on: str | None
    data: str
    """Digest of the run's data."""
    answers: "Answers | None" = None
    """To the pictures of the headline; None = not known."""
    foreign: float | None = None
    """Share called unknown of the foreign set of which the fewest are; None = no unknown answer, or
    not measured."""
    lost: tuple[float, float, int] | None = None
    """Of a model that rounds and was not measured: points of top-1 that its proof saw lost against
    the trained model, half the width of their 95 % interval, and on how many pictures."""

    @property
    def name(self) -> str:
        """Of the model, in sentences."""
        return f"{self.run} {self.target}"


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
    rows = [row for run in runs for row in rows_of(_folder(run), measure=measure)]
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


def rows_of(run: Path, *, measure: bool = False) -> list[Row]:
    """The models of a finished run, its own weights first; `measure`: ask those that round."""
    from zoo.comparison import measured
    from zoo.contract import bundle
    from zoo.contract.figures import figures
    from zoo.contract.finished_run import FinishedRun

    if rundir.WEIGHTS not in rundir.open_finished(run)["files"]:
        raise UserError(
            f"{run} has no {rundir.WEIGHTS}: expected the weights of a run: copy the folder again."
        )
    opened = list(bundle.of_run(run))
    finished = FinishedRun(run)
    head, unknown = finished.report.headline, finished.report.unknown
    deployed, plain = head.numbers, head.numbers.plain
    foreign = foreign_of(unknown)
    same: dict[str, Any] = {
        "split": head.split,
        "data": finished.data_digest,
        "pictures": deployed.pictures,
    }
    known = measured.recorded(run, same["split"])
    if measure and known is None:
        raise UserError(
            f"--measure: {run} has no {rundir.PREDICTIONS}, which names the pictures to measure "
            "on: expected the run folder where it was trained, not a published copy."
        )
    name = opened[0].run.get("name", "model") if opened else run.resolve().name
    rows = [
        Row(
            name,
            "timm",
            plain.top1,
            plain.top1_interval,
            latency_ms=None,
            ece=plain.ece,
            measured_on=None,
            answers=known.plain if known else None,
            size_mb=_megabytes(run / rundir.WEIGHTS),
            **same,
        )
    ]
    for one in opened:
        shown = figures(one)
        columns = {
            "size_mb": shown.model_mb,
            "latency_ms": shown.latency_ms,
            "measured_on": shown.measured_on,
            **same,
        }
        if shown.lost_points is None:  # proved to answer as the trained model does
            rows.append(
                Row(
                    name,
                    one.target,
                    deployed.top1,
                    deployed.top1_interval,
                    ece=deployed.ece,
                    foreign=foreign if one.decision.unknown else None,
                    answers=known.deployed if known else None,
                    **columns,
                )
            )
        elif measure and known is not None:
            own = measured.asked(run, one, known)
            rows.append(
                Row(
                    name,
                    one.target,
                    own.top1,
                    own.interval,
                    ece=own.ece,
                    answers=own,
                    **columns | {"pictures": len(own.right)},
                )
            )
        else:
            rows.append(_as_proved(name, one.target, deployed, shown, columns))
    return rows


def _as_proved(
    name: str, target: str, deployed: Numbers, shown: "Figures", columns: Mapping[str, Any]
) -> Row:
    """The row of a model that rounds and was not measured: the trained model's, less what the proof
    saw lost."""
    assert shown.lost_points is not None, "a model that rounds has lost points, if only 0"
    lost, (low, high) = shown.lost_points / 100, deployed.top1_interval
    return Row(
        name,
        target,
        deployed.top1 - lost,
        (max(0.0, low - lost), min(1.0, high - lost)),
        ece=None,
        lost=(shown.lost_points, shown.lost_spread, shown.compared),
        **columns,
    )


def foreign_of(unknown: Unknown | None) -> float | None:
    """The share called unknown of the foreign set of which the fewest are."""
    from zoo.contract import rejection

    weakest = rejection.weakest(unknown.rejected_of) if unknown else None
    return weakest[1] if weakest else None


def _megabytes(path: Path) -> float:
    return round(path.stat().st_size / 1e6, 1)


def verdicts(rows: Sequence[Row]) -> list[str]:
    """For each model whether it and the best one differ by more than chance, on the same pictures.

    McNemar's exact test at 5 %; of a model that rounds and was not measured, the interval of its
    proof.
    """
    known = [row for row in rows if row.answers]
    best = max(known, key=lambda row: row.top1, default=None)
    found = []
    for row in known:
        if (
            best is not None
            and row.answers is not best.answers
            and (row.data, row.split) == (best.data, best.split)
        ):
            found.append(_pair(best, row))
    for row in rows:
        if row.lost:
            points, spread, pictures = row.lost
            said = "cannot tell apart" if abs(points) <= spread else "differ"
            found.append(
                f"{row.name} and its trained model: {said} ({-points:+.1f} points, 95 % interval "
                f"{-points - spread:+.1f} to {-points + spread:+.1f}, on {pictures:,} pictures of "
                "its proof)."
            )
    return found


def _pair(best: Row, row: Row) -> str:
    import numpy as np

    from zoo.comparison.shares import paired

    assert best.answers, "compared models have answers"
    assert row.answers, "compared models have answers"
    paths = [path for path in row.answers.right if path in best.answers.right]
    first, second = (
        np.array([of.right[path] for path in paths], bool) for of in (best.answers, row.answers)
    )
    found = paired(first, second)
    low, high = found.interval
    return (
        f"{row.name} and {best.name}: {found.verdict} ({100 * found.difference:+.1f} points, 95 % "
        f"interval {100 * low:+.1f} to {100 * high:+.1f}, on {found.pictures:,} same pictures; "
        f"McNemar's exact test, p = {found.p_value:.2g})."
    )


def notes(rows: Sequence[Row]) -> list[str]:
    """Why numbers may not be comparable, and which models hardly know a foreign picture."""
    from zoo.contract import rejection

    found = []
    if len({row.data for row in rows}) > 1:
        found.append("the runs have different data, so their accuracies are of different pictures.")
    if len({row.split for row in rows}) > 1:
        found.append(
            "some accuracies are of test, others of validation pictures, which are optimistic."
        )
    if unmeasured := [row.name for row in rows if row.lost]:
        found.append(
            f"{', '.join(unmeasured)}: top-1 is the trained model's with the loss that the proof "
            "saw, the calibration error is not measured. --measure does both on the run's own "
            "pictures."
        )
    if len(rows) > 1 and (
        without := sorted({row.run for row in rows if not row.answers and not row.lost})
    ):
        found.append(
            f"{', '.join(without)}: there is no {rundir.PREDICTIONS}, so nothing is said of "
            "differences."
        )
    for row in rows:
        if row.foreign is not None and row.foreign < rejection.FEW:
            found.append(
                f"{row.name}: only {row.foreign:.0%} of some foreign pictures are called unknown, "
                f"so most of them get a class. {rejection.CURE}"
            )
    if len(machines := sorted({row.measured_on for row in rows if row.measured_on})) > 1:
        found.append(f"latencies were measured under different conditions: {'; '.join(machines)}.")
    return found


def _show(rows: Sequence[Row]) -> None:
    titles = (
        "top-1 %",
        "95 % interval",
        "of",
        "foreign called unknown %",
        "MB",
        "ms a picture",
        "calibration error %",
    )
    columns = [
        *(console.Column(title, whole=True) for title in ("run", "model")),
        *(console.Column(title, right=True) for title in titles),
    ]
    cells = []
    for row in rows:
        low, high = row.interval
        cells.append(
            (
                row.run,
                row.target,
                f"{row.top1:.2%}"[:-1],
                f"{low:.1%} to {high:.1%}",
                f"{row.pictures:,} {row.split}",
                "-" if row.foreign is None else f"{row.foreign:.0%}"[:-1],
                f"{row.size_mb:.1f}",
                "-" if row.latency_ms is None else f"{row.latency_ms:.1f}",
                "not measured" if row.ece is None else f"{row.ece:.1%}"[:-1],
            )
        )
    console.table(columns, cells)


@plain_text()
def draw(rows: Sequence[Row], out: Path) -> None:
    """Accuracy against latency, one point a model whose latency is known; higher and further left
    is better."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogLocator, NullLocator, ScalarFormatter

    shown = [(row, row.latency_ms) for row in rows if row.latency_ms]
    colours = dict(zip(dict.fromkeys(row.run for row, _ in shown), cycle(COLOURS), strict=False))
    markers = dict(zip(dict.fromkeys(row.target for row, _ in shown), cycle(MARKERS), strict=False))
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
    handles = [
        Line2D([], [], color=colour, linewidth=4, label="run") for colour in colours.values()
    ]
    handles += [
        Line2D([], [], color="0.3", marker=marker, linestyle="", label="model")
        for marker in markers.values()
    ]
    legend = axes.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False
    )
    name_legend(legend, [short(name) for name in (*colours, *markers)])
    axes.set_xscale("log")
    axes.set_xlim(min(ms for _, ms in shown) / 1.5, max(ms for _, ms in shown) * 1.5)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.set(xlabel="milliseconds for one picture (median)", ylabel="top-1, % (95 % interval)")
    axes.grid(alpha=0.3)
    try:
        figure.savefig(out, dpi=150, format="png")
    except OSError as error:
        raise UserError(
            f"--out {out}: expected a file that can be written, seen: {error}."
        ) from None
