"""The models that are compared: each run's own weights, and those that were exported from it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.contract import rundir
from zoo.contract.report import Numbers, UnknownRates
from zoo.host.errors import UserError

if TYPE_CHECKING:
    from zoo.comparison.measured import Recorded, RecordedAnswers
    from zoo.contract.bundle import Bundle
    from zoo.contract.figures import Figures
    from zoo.contract.finished_run import FinishedRun


@dataclass(frozen=True)
class ComparedRun:
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
    answers: "RecordedAnswers | None" = None
    """To the pictures of the headline; None = not known."""
    foreign: float | None = None
    """Share called unknown of the foreign set of which the fewest are; None = no unknown answer, or
    not measured."""
    measured: bool = False
    """Whether `answers` were asked for now, by --measure."""
    lost: tuple[float, float, int] | None = None
    """Of a model that rounds and was not measured: points of top-1 that its proof saw lost against
    the trained model, half the width of their 95 % interval, and on how many pictures."""

    @property
    def name(self) -> str:
        """Of the model, in sentences."""
        return f"{self.run} {self.target}"


def rows_of(run: Path, *, measure: bool = False) -> list[ComparedRun]:
    """The models of a finished run, its own weights first; `measure`: ask those that round."""
    from zoo.comparison import measured
    from zoo.contract import bundle
    from zoo.contract.finished_run import FinishedRun

    if rundir.WEIGHTS not in rundir.open_finished(run)["files"]:
        raise UserError(
            f"{run} has no {rundir.WEIGHTS}: expected the weights of a run: copy the folder again."
        )
    # before anything is measured: a bundle of another state of the run is refused at once
    opened = list(bundle.of_run(run))
    finished = FinishedRun(run)
    recorded = measured.recorded_answers(run, finished.report.headline.split)
    if measure and recorded is None:
        raise UserError(
            f"--measure: {run} has no {rundir.PREDICTIONS}, which names the pictures to measure "
            "on: expected the run folder where it was trained, not a published copy."
        )
    return list(_rows(finished, opened, recorded, measure=measure))


def _rows(
    finished: "FinishedRun", opened: "list[Bundle]", recorded: "Recorded | None", *, measure: bool
) -> Iterator[ComparedRun]:
    from zoo.comparison import measured
    from zoo.contract.figures import figures

    run, head = finished.folder, finished.report.headline
    # a pulled run lies in a folder called like its commit
    name = opened[0].run.get("name", "model") if opened else run.resolve().name
    common: dict[str, Any] = {
        "split": head.split,
        "data": finished.data_digest,
        "pictures": head.numbers.pictures,
    }
    yield _own_weights(name, finished, recorded, common)
    for bundle in opened:
        shown = figures(bundle)
        columns = common | {
            "size_mb": shown.model_mb,
            "latency_ms": shown.latency_ms,
            "measured_on": shown.measured_on,
        }
        # proved to answer alike, so that the run's own numbers are its numbers
        if shown.lost_points is None:
            yield _as_trained(name, bundle, finished, recorded, columns)
        elif measure and recorded is not None:
            answers = measured.asked(run, bundle, recorded)
            yield _as_measured(name, bundle.target, answers, columns)
        else:
            yield _as_proved(name, bundle.target, head.numbers, shown, columns)


def _own_weights(
    name: str, finished: "FinishedRun", recorded: "Recorded | None", common: Mapping[str, Any]
) -> ComparedRun:
    plain = finished.report.headline.numbers.plain
    from zoo.contract.figures import model_mb

    return ComparedRun(
        name,
        "timm",
        plain.top1,
        plain.top1_interval,
        latency_ms=None,
        ece=plain.ece,
        measured_on=None,
        # plain: timm knows neither views nor temperature
        answers=recorded.plain if recorded else None,
        size_mb=model_mb(finished.folder / rundir.WEIGHTS),
        **common,
    )


def _as_trained(
    name: str,
    bundle: "Bundle",
    finished: "FinishedRun",
    recorded: "Recorded | None",
    columns: Mapping[str, Any],
) -> ComparedRun:
    """The row of a model that was proved to answer as the trained model does."""
    deployed = finished.report.headline.numbers
    foreign = None
    if bundle.decision.unknown:
        foreign = foreign_of(finished.report.unknown)
    return ComparedRun(
        name,
        bundle.target,
        deployed.top1,
        deployed.top1_interval,
        ece=deployed.ece,
        foreign=foreign,
        answers=recorded.deployed if recorded else None,
        **columns,
    )


def _as_measured(
    name: str, target: str, answers: "RecordedAnswers", columns: Mapping[str, Any]
) -> ComparedRun:
    """The row of a model that rounds, from its own answers."""
    return ComparedRun(
        name,
        target,
        answers.top1,
        answers.interval,
        ece=answers.ece,
        answers=answers,
        measured=True,
        **{**columns, "pictures": len(answers.right)},
    )


def _as_proved(
    name: str, target: str, deployed: Numbers, shown: "Figures", columns: Mapping[str, Any]
) -> ComparedRun:
    """The row of a model that rounds and was not measured: the trained model's, less what the proof
    saw lost."""
    assert shown.lost_points is not None, "a model that rounds has lost points, if only 0"
    lost, (low, high) = shown.lost_points / 100, deployed.top1_interval
    return ComparedRun(
        name,
        target,
        # rounding may gain a point as well as lose one
        min(max(deployed.top1 - lost, 0.0), 1.0),
        (max(0.0, low - lost), min(1.0, high - lost)),
        ece=None,
        lost=(shown.lost_points, shown.lost_spread, shown.compared),
        **columns,
    )


def foreign_of(unknown: UnknownRates | None) -> float | None:
    """The share called unknown of the foreign set of which the fewest are."""
    from zoo.contract import rejection

    if unknown is None:
        return None
    weakest = rejection.weakest(unknown.rejected_of)
    return weakest[1] if weakest else None
