"""Not there yet."""

from pathlib import Path

from export.subject import Made, Subject
from zoo.errors import UserError


def check() -> None:
    raise UserError("not there yet")


def make(subject: Subject, folder: Path, precision: str) -> Made:
    raise UserError("not there yet")
