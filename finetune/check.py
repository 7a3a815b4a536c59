"""`python -m finetune.check --data PATH --base NAME`: what a run would learn from, what is
wrong with it, and how long the run would take; nothing is trained.

Nothing heavy is imported until the command line is parsed.
"""

import dataclasses
import os

import tyro

from finetune.flags import LessUsual, Usual, given_by, parse
from finetune.recipe.run import Run
from zoo.host.errors import UserError, run_main


def main(
    run: tyro.conf.OmitArgPrefixes[Run],
    recipe: tyro.conf.OmitArgPrefixes[Usual],  # type: ignore[valid-type]
    less_usual: tyro.conf.OmitArgPrefixes[LessUsual],  # type: ignore[valid-type]
) -> None:
    """Check the pictures that a run with these flags would take: splits, recipe, expected minutes,
    near duplicates, leaks, likely label errors, shortcuts, odd pictures.

    It writes check.html, check.json, near_duplicates.csv and label_errors.csv to --out (default
    runs/DATA-BASE-check), and never changes the pictures. It needs pip install "zootune[check]".
    """
    given = given_by(recipe, less_usual)
    for flag, asked in (
        ("--resume", run.resume is not None),
        ("--advise", run.advise is not None),
        ("--from-scratch", bool(given.get("from_scratch"))),
    ):
        if asked:
            raise UserError(f"{flag} has no effect on a check of the data: remove it.")
    if run.out is None:
        run = dataclasses.replace(run, out=run.folder.with_name(run.folder.name + "-check"))
    # before torch is loaded; finetune/__main__.py says why
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from finetune.inspection import inspect

    inspect(run, given)


if __name__ == "__main__":
    run_main(lambda: parse(main, "finetune.check", Run))
