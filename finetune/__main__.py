"""`python -m finetune --data PATH --base NAME`: from a folder of pictures to a finished run folder.

Flags are generated from `Run` and `Recipe`; nothing heavy is imported until they are parsed.
"""

import os

import tyro

from finetune.flags import LessUsual, Usual, given_by, parse
from finetune.recipe.run import Run
from zoo.host.errors import run_main


def main(
    run: tyro.conf.OmitArgPrefixes[Run],
    recipe: tyro.conf.OmitArgPrefixes[Usual],  # type: ignore[valid-type]
    less_usual: tyro.conf.OmitArgPrefixes[LessUsual],  # type: ignore[valid-type]
) -> None:
    """Fine-tune a pretrained base on a folder of pictures.

    What is not given, the recipe decides from the data, the base and the device, and says why.
    """
    given = given_by(recipe, less_usual)
    # a thread that waits must not spin: two of torch's threads beside any other work lose four
    # fifths of their speed
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if run.advise is not None:
        from finetune.studies.follow_advice import run_advised

        run_advised(run, given, most=run.advise[1])
        return
    from finetune.pipeline import start

    start(run, given)


if __name__ == "__main__":
    run_main(lambda: parse(main, "finetune", Run), joins=True)
