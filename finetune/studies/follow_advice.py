"""`--advise apply N`: follow-up runs by the advice of the report, the best one kept, and what each
change brought.

Each follow-up changes one thing in the best run so far, by the first advice with flags that was not
tried yet, and counts as better if it is so on select, by what chooses the best epoch. Test pictures
are shown in the table and choose nothing.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune.evaluation.passes import Scores
from finetune.machine import distributed
from finetune.pipeline import start
from finetune.recipe.run import Run
from finetune.report import next_steps, run_files
from finetune.report.advice import Advice
from finetune.report.history import standard_error
from finetune.report.run_files import Finished
from finetune.studies import follow_up_page
from zoo.contract import rundir
from zoo.host import console
from zoo.host.errors import UserError


@dataclass(frozen=True)
class FollowUp:
    """Holds a finished run, and the change that led to it."""

    run: Finished
    given: Mapping[str, Any]
    """Recipe fields set by hand, or by advice."""
    parent: str = ""
    """Folder name of the run that was changed; empty for the first."""
    advice: Advice | None = None
    gain: float = 0.0
    """Top-1 on select minus the parent's."""

    @property
    def scores(self) -> Scores:
        """Give the scores on select, of the weights that were kept."""
        best = self.run.report.best
        return Scores(best.top1, best.top5, best.loss, best.pictures, best.balanced)


def best_of(trials: Sequence[FollowUp]) -> FollowUp:
    """Give the best on select, as the best epoch of a run is chosen; the earlier one of equals."""
    best, *others = trials
    for trial in others:
        if trial.scores.better_than(best.scores):
            best = trial
    return best


def run_advised(run: Run, given: Mapping[str, Any], *, most: int) -> Path:
    """Train the run, then up to `most` follow-ups beside it as RUN-advised-1, ...; gives the best
    one's folder.

    The same command goes on where it was stopped. Writes `RUN-advised/` with the table, as HTML and
    JSON. Under torchrun all processes read what rank 0 wrote, once it is there, and so choose the
    same follow-ups.
    """
    with distributed.joined_processes():
        return _run_advised(run, given, most=most)


def _run_advised(run: Run, given: Mapping[str, Any], *, most: int) -> Path:
    start(run, given)
    distributed.wait_for_first()
    # with --resume, what was given stands only here
    content = rundir.read_json(run.folder / rundir.LOCAL)
    run = dataclasses.replace(
        run,
        data=(content["data"], *content.get("more", ())),
        base=content["base"],
        out=run.folder,
        resume=None,
        advise=None,
        **content.get("source", {}),
    )
    trials = [FollowUp(run_files.read_run(run.folder), content["given"])]
    while len(trials) <= most and (following := follow_up(trials)):
        parent, advice = following
        out = run.folder.with_name(f"{run.folder.name}-advised-{len(trials)}")
        console.say(
            f"follow-up {len(trials)} of at most {most}, into {out}: {advice.finding} "
            f"{advice.flags}",
            style="bold",
        )
        # of the best run's settings only those by hand: what was resolved follows from them anew
        changed = {**parent.given, **advice.changes}
        try:
            start(dataclasses.replace(run, out=out), changed)
            # rank 0 still writes the run when the others have done their part
            distributed.wait_for_first()
        except UserError as error:
            raise UserError(f"the follow-up {advice.flags} stopped: {error}") from None
        finished = run_files.read_run(out)
        gain = finished.report.best.top1 - parent.scores.top1
        trials.append(FollowUp(finished, changed, parent.run.name, advice, gain))
    best = best_of(trials)
    table = trials_json(trials, best)
    if distributed.first():
        follow_up_page.write_advised(run.folder.with_name(f"{run.folder.name}-advised"), table)
    say_table(table, most)
    return best.run.folder


def follow_up(trials: Sequence[FollowUp]) -> tuple[FollowUp, Advice] | None:
    """Give the best run so far, and its first advice that leads to a recipe that was not tried yet;
    None if there is none."""
    best = best_of(trials)
    tried = [dict(trial.given) for trial in trials]
    for advice in next_steps.advices(best.run):
        # where a follow-up was no better, the best run's next advice is due
        if advice.changes and {**best.given, **advice.changes} not in tried:
            return best, advice
    return None


def trials_json(trials: Sequence[FollowUp], best: FollowUp) -> dict[str, Any]:
    """Give `select`: its size and the standard error of a top-1 there; `runs`: one row a run, in
    the order of training."""
    pictures = best.scores.pictures
    rows = [{**_row(trial), "best": trial is best} for trial in trials]
    error = standard_error(best.scores.top1, pictures)
    return {"select": {"pictures": pictures, "standard_error": error}, "runs": rows}


def _row(trial: FollowUp) -> dict[str, Any]:
    """Describe one run, and what was changed in it; the first run was not."""
    finding = flags = gain = None
    if trial.advice:
        finding, flags, gain = trial.advice.finding, trial.advice.flags, trial.gain
    return {
        "run": trial.run.name,
        "changed": trial.parent or None,
        "finding": finding,
        "flags": flags,
        "select_top1": trial.scores.top1,
        "select_balanced": trial.scores.balanced,
        "gain": gain,
        "headline_split": trial.run.split,
        "headline_top1": trial.run.numbers.top1,
        "seconds": trial.run.report.seconds,
    }


def say_table(table: Mapping[str, Any], most: int) -> None:
    """Print what each change brought."""
    # the run and all follow-ups would be one more
    if len(table["runs"]) <= most:
        console.say("no further advice that a flag can follow.")
    for row in table["runs"]:
        line = f"  {row['run']:<40} select top-1 {row['select_top1']:.2%}"
        if row["gain"] is not None:
            line += f" ({100 * row['gain']:+z.1f} points, {row['flags']})"
        if row["best"]:
            console.say(f"{line}  <- best", style="bold green")
        else:
            console.say(line)
    console.say(
        f"differences below {200 * table['select']['standard_error']:.1f} points may be chance: "
        f"select has {table['select']['pictures']} pictures."
    )
