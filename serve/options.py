"""What is served, and how: the command line of `python -m serve`. Loads nothing heavy."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from zoo.host.errors import UserError

ROOT_PATH = re.compile(r"(?:/[\w.~-]+)+", re.ASCII)
LAST_PORT = 65_535
MOST_WORKERS = 256
"""Each is a process that decodes pictures, and as many pictures in memory."""


@dataclass(frozen=True)
class ServiceOptions:
    """What to serve, where, to whom, and how much at once."""

    bundle: Annotated[Path, tyro.conf.Positional]
    """A run folder with a bundle (python -m export RUN --to onnx), a bundle folder, its model.onnx,
    or a published run as hf-hub:user/name or by your own alias (python -m zoo add), which is pulled
    once."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 is every network of this machine."""
    port: int = 7860
    """Port; 0 is any free one, which the first line of output names."""
    api_only: bool = False
    """Without the page: starts in a second, needs no Gradio."""
    watch: bool = False
    """Look at the bundle every second; a new export is loaded, checked on its examples, and answers
    from then on."""
    auth: str | None = None
    """USER:PASSWORD that page and API ask for (HTTP Basic). Better in the variable ZOOTUNE_AUTH:
    arguments are seen by everybody on this machine."""
    token: str | None = None
    """Token for programs (Authorization: Bearer TOKEN); a browser takes it as password. Better in
    ZOOTUNE_TOKEN."""
    allow_origin: tuple[str, ...] = ()
    """Web pages of other sites that may use this service from a browser, such as
    https://pets.example."""
    root_path: str = ""
    """Prefix under which a reverse proxy shows this service, such as /tools/pets; it may strip it
    or keep it."""
    feedback: Path | None = None
    """Folder for pictures that people say were answered wrong, with their correction: finetune
    --data takes it."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    """Where ONNX Runtime computes; cuda that cannot be had is an error."""
    self_check: bool = True
    """Before it is ready, and at each reload, answer the bundle's examples (six at most) on this
    provider; if that differs from what its export wrote down, do not serve it (--no-self-check:
    serve it unasked)."""
    workers: int = 0
    """Pictures answered at the same time; 0 is one per CPU core, 4 at most."""
    queue: int = 64
    """Pictures that may wait; above that the answer is 503 with Retry-After."""
    deadline_s: float = 30.0
    """Seconds a request may take, queue and upload included; then the answer is 504."""
    decode_s: float = 10.0
    """Seconds that decoding one picture may take; then its decoder is killed and the picture is
    refused."""
    max_body_mb: float = 32.0
    """Megabytes of one request; more is refused before it is read."""
    max_megapixels: float = 25.0
    """Million pixels of one picture; more is refused before it is decoded. Of a JPEG it is those
    that are decoded: one of over 25 million, up to 200, is decoded at 1/2 or 1/4 of its size."""

    def __post_init__(self) -> None:
        if self.root_path and not ROOT_PATH.fullmatch(self.root_path):
            raise UserError(
                f"--root-path {self.root_path}: expected a prefix such as /tools/pets, with a "
                "slash in front and none at the end, of letters, digits and . _ ~ - only."
            )
        if not self.host.strip():
            raise UserError(
                "--host: expected an address, seen nothing; 0.0.0.0 is every network of this "
                "machine."
            )
        if self.auth is not None and not all(self.auth.partition(":")):
            raise UserError("--auth: expected USER:PASSWORD, seen no colon or an empty half.")
        if self.token is not None and not self.token:
            raise UserError("--token: expected a token, seen nothing.")
        if self.api_only and self.feedback:
            raise UserError(
                "--feedback has no effect with --api-only: the page asks for corrections. Remove "
                "one of them."
            )
        for flag, value, least in (
            ("port", self.port, 0),
            ("workers", self.workers, 0),
            ("queue", self.queue, 1),
        ):
            if value < least:
                raise UserError(f"--{flag} {value}: expected {least} or more.")
        for flag, value, most in (
            ("port", self.port, LAST_PORT),
            ("workers", self.workers, MOST_WORKERS),
        ):
            if value > most:
                raise UserError(f"--{flag} {value}: expected {most} or less.")
        for flag, amount in (
            ("deadline-s", self.deadline_s),
            ("decode-s", self.decode_s),
            ("max-body-mb", self.max_body_mb),
            ("max-megapixels", self.max_megapixels),
        ):
            if not 0 < amount < 1e6:
                raise UserError(
                    f"--{flag} {amount}: expected a number above 0 and below a million."
                )
