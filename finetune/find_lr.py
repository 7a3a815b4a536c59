"""`python -m finetune.find_lr --data PATH --base NAME`: learning-rate range test, with its curve
and a suggestion.

`python -m finetune ... --lr find` does the same and trains with the suggestion. Nothing heavy is
imported until the command line is parsed.
"""

import dataclasses
import os
from pathlib import Path

import tyro

from finetune.flags import LessUsual, Usual, given_by, parse
from finetune.recipe.run import Run
from zoo.contract import rundir
from zoo.host import console
from zoo.host.errors import UserError, run_main
from zoo.host.text import shell_path


def main(
    run: tyro.conf.OmitArgPrefixes[Run],
    recipe: tyro.conf.OmitArgPrefixes[Usual],  # type: ignore[valid-type]
    less_usual: tyro.conf.OmitArgPrefixes[LessUsual],  # type: ignore[valid-type]
) -> None:
    """Let the learning rate rise over a hundred steps of the run that these flags mean, and suggest
    one.

    It writes a run folder (default runs/DATA-BASE-find_lr) with the curve in figures/lr-range.svg;
    python -m finetune --resume trains on from there, with the suggested rate. Processes that
    torchrun starts share the steps.
    """
    given = given_by(recipe, less_usual)
    if "lr" in given:
        raise UserError("--lr is what python -m finetune.find_lr looks for: remove it.")
    if run.advise is not None:
        raise UserError("--advise has no effect on a range test: remove it.")
    if run.resume is None and run.out is None:
        run = dataclasses.replace(run, out=run.folder.with_name(run.folder.name + "-find_lr"))
    # before torch is loaded; finetune/__main__.py says why
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from finetune.machine import distributed
    from finetune.pipeline import prepare_run
    from finetune.train import lr_range

    with distributed.joined_processes():
        # a run that goes on has it among the settings that it recorded
        folder = prepare_run(run, given | ({} if run.resume else {"lr": lr_range.FIND}))
        if distributed.first():
            draw_and_suggest(folder)


def draw_and_suggest(folder: Path) -> None:
    """The curve of a range test as a figure of its run folder, and the rate that it suggests."""
    from finetune.evaluation import lr_curve
    from finetune.figures import learning
    from finetune.run_folder import events

    curve = lr_curve.recorded_curve(events.read_events(folder))
    if curve is None:
        raise UserError(
            f"{folder} was begun without --lr find, so it holds no range test: expected a folder "
            "of python -m finetune.find_lr."
        )
    suggestion = lr_curve.suggest(curve)
    picture = learning.lr_range(curve, suggestion.lr)
    (folder / rundir.FIGURES).mkdir(exist_ok=True)
    if picture.svg:
        rundir.write_text(folder / rundir.FIGURES / f"{picture.name}.svg", picture.svg)
    console.say(
        f"suggested learning rate: {suggestion.lr:g} ({suggestion.why})", style="bold green"
    )
    console.say(
        f"curve: {folder / rundir.FIGURES / picture.name}.svg"
        if picture.svg
        else f"the curve could not be drawn ({picture.alt})"
    )
    console.say(f"""next:
  python -m finetune --resume {shell_path(folder)}      trains with it""")


if __name__ == "__main__":
    run_main(lambda: parse(main, "finetune.find_lr", Run), joins=True)
