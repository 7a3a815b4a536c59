"""`python -m serve RUN_OR_BUNDLE`: a page for people and an HTTP API for programs, over the
exported file."""

import tyro

from serve.options import ServiceOptions
from zoo.host.errors import run_main


def main(service: tyro.conf.OmitArgPrefixes[ServiceOptions]) -> None:
    """Serve an exported model: web page at /, API at /v1/predict, OpenAPI at /openapi.json."""
    from serve.start import start

    start(service)


if __name__ == "__main__":
    run_main(lambda: tyro.cli(main, prog="python -m serve", config=(tyro.conf.FlagCreatePairsOff,)))
