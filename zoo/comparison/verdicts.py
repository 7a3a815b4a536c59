"""What may be said of a comparison: which models differ by more than chance, and which numbers are
not comparable."""

from collections.abc import Iterator, Sequence

from zoo.comparison.models import ComparedRun
from zoo.contract import rundir


def verdicts(rows: Sequence[ComparedRun]) -> list[str]:
    """For each model whether it and the best one differ by more than chance, on the same pictures.

    McNemar's exact test at 5 %; of a model that rounds and was not measured, the interval of its
    proof.
    """
    return [*_against_the_best(rows), *_against_the_trained(rows)]


def _against_the_best(rows: Sequence[ComparedRun]) -> Iterator[str]:
    answered = [row for row in rows if row.answers]
    if not answered:
        return
    best = max(answered, key=lambda row: row.top1)
    for row in answered:
        # rows that answer as one model share their answers
        if row.answers is best.answers:
            continue
        if (row.data, row.split) == (best.data, best.split):
            yield _pair(best, row)


def _against_the_trained(rows: Sequence[ComparedRun]) -> Iterator[str]:
    for row in rows:
        if row.lost:
            points, spread, pictures = row.lost
            verdict = "cannot tell apart" if abs(points) <= spread else "differ"
            yield (
                f"{row.name} and its trained model: {verdict} ({-points:+z.1f} points, 95 % "
                f"interval {-points - spread:+z.1f} to {-points + spread:+z.1f}, on {pictures:,} "
                "pictures of its proof)."
            )


def _pair(best: ComparedRun, row: ComparedRun) -> str:
    import numpy as np

    from zoo.comparison.shares import paired

    assert best.answers, "compared models have answers"
    assert row.answers, "compared models have answers"
    of_best, of_row = best.answers.right, row.answers.right
    paths = [path for path in of_row if path in of_best]
    result = paired(
        np.array([of_best[path] for path in paths], bool),
        np.array([of_row[path] for path in paths], bool),
    )
    low, high = result.interval
    return (
        f"{row.name} and {best.name}: {result.verdict} ({100 * result.difference:+z.1f} points, "
        f"95 % interval {100 * low:+z.1f} to {100 * high:+z.1f}, on {result.pictures:,} same "
        f"pictures; McNemar's exact test, p = {result.p_value:.2g})."
    )


def notes(rows: Sequence[ComparedRun]) -> list[str]:
    """Why numbers may not be comparable, and which models hardly know a foreign picture."""
    return [*_of_pictures(rows), *_of_what_is_unmeasured(rows), *_of_use(rows)]


def _of_pictures(rows: Sequence[ComparedRun]) -> Iterator[str]:
    if len({row.data for row in rows}) > 1:
        yield "the runs have different data, so their accuracies are of different pictures."
    if len({row.split for row in rows}) > 1:
        yield "some accuracies are of test, others of validation pictures, which are optimistic."


def _of_what_is_unmeasured(rows: Sequence[ComparedRun]) -> Iterator[str]:
    if unmeasured := [row.name for row in rows if row.lost]:
        yield (
            f"{', '.join(unmeasured)}: top-1 is the trained model's with the loss that the proof "
            "saw, the calibration error is not measured. --measure does both on the run's own "
            "pictures."
        )
    without = {row.run for row in rows if not row.answers and not row.lost}
    if len(rows) > 1 and without:
        yield (
            f"{', '.join(sorted(without))}: there is no {rundir.PREDICTIONS}, so nothing is said "
            "of differences."
        )


def _of_use(rows: Sequence[ComparedRun]) -> Iterator[str]:
    from zoo.contract import rejection

    for row in rows:
        if row.foreign is not None and row.foreign < rejection.FEW:
            yield (
                f"{row.name}: only {row.foreign:.0%} of some foreign pictures are called unknown, "
                f"so most of them get a class. {rejection.CURE}"
            )
    machines = sorted({row.measured_on for row in rows if row.measured_on})
    if len(machines) > 1:
        yield f"latencies were measured under different conditions: {'; '.join(machines)}."
