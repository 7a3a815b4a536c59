"""`python -m export RUN --to onnx`: one self-contained file that answers like the trained model,
with the proof."""

import os

import tyro

from export.options import ExportOptions
from export.place import alone
from export.termination import cleaning_up
from zoo.host.errors import run_main


def main(export: tyro.conf.OmitArgPrefixes[ExportOptions]) -> None:
    """Export a finished run, and prove on its own pictures that the result answers like the trained
    model."""
    # a thread that waits must not spin: two of torch's threads beside any other work lose four
    # fifths of their speed
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # before torch is loaded, so that a refusal does not take seconds
    with cleaning_up(), alone(export.run):
        from export.pipeline import start

        start(export)


if __name__ == "__main__":
    run_main(lambda: tyro.cli(main, prog="python -m export"))
