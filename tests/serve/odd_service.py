"""`python -m serve` with the decoders of tests.serve.odd_decoder."""

import tyro

from serve import __main__
from serve.engine import decoders
from zoo.host.errors import run_main

if __name__ == "__main__":
    decoders.MODULE = "tests.serve.odd_decoder"
    run_main(lambda: tyro.cli(__main__.main))
