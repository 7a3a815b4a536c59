"""`python -m finetune.predict RUN --data PATH`: answer any pictures by a finished run, and measure
the answers where there are labels.

Nothing heavy is imported until the command line is parsed.
"""

import os

import tyro

from finetune.prediction.request import Request
from zoo.host.errors import run_main


def main(request: tyro.conf.OmitArgPrefixes[Request]) -> None:
    """Answer pictures by a finished run: a row of predictions.csv for each, and the numbers of a
    report where folders or a table have labels.

    It may be killed at any moment: the same command goes on. The pictures stay as they are.
    """
    # before torch is loaded; finetune/__main__.py says why
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from finetune.prediction.answer_pictures import answer_pictures

    answer_pictures(request)


if __name__ == "__main__":
    run_main(
        lambda: tyro.cli(
            main, prog="python -m finetune.predict", config=(tyro.conf.FlagCreatePairsOff,)
        )
    )
