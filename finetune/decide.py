"""`python -m finetune.decide RUN`: fit `decision.json` of a finished run again, with other views or
another coverage.

Training does the same at its end with the defaults (finetune/evaluation/calibrate.py). Nothing
heavy is imported until the command line is parsed.
"""

import os

import tyro

from finetune.evaluation.choices import Place, Wish
from zoo.host.errors import run_main


def main(place: tyro.conf.OmitArgPrefixes[Place], wish: tyro.conf.OmitArgPrefixes[Wish]) -> None:
    """Fit test-time views, temperature, threshold of "unknown" and prediction sets of a finished
    run again.

    Rewrites decision.json, bank.safetensors, predictions.csv, report.json, report.html and
    README.md of the run.
    """
    # before torch is loaded; finetune/__main__.py says why
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from finetune.write_run import decide_again

    decide_again(place, wish)


if __name__ == "__main__":
    run_main(
        lambda: tyro.cli(
            main, prog="python -m finetune.decide", config=(tyro.conf.FlagCreatePairsOff,)
        ),
        joins=True,
    )
