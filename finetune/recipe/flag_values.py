"""Values of the command line that can mean nothing, told with their flag before anything is
loaded."""

import os
from collections.abc import Collection, Iterator, Sequence

from zoo.host.errors import UserError
from zoo.host.text import shell_path

LONGEST_VALUE_BYTES = 4096 - 256
"""PATH_MAX of Linux, less what the names of a run's own files need below its folder."""


def check_values(
    words: Sequence[str], *, switches: Collection[str], may_be_empty: Collection[str]
) -> None:
    """`UserError` for a value that is empty or longer than any path, and for one behind a switch.

    An empty text would be read as the folder where the command is started. `switches` and
    `may_be_empty`: flags without dashes.
    """
    for flag, value in _given(words):
        name = flag.lstrip("-").replace("_", "-")
        if name in switches:
            raise UserError(
                f"{flag} {value}: expected no value behind a switch. Write {flag} alone, or remove "
                "it."
            )
        if not value and name not in may_be_empty:
            raise UserError(
                f"{flag}: expected a value, seen an empty one (a shell variable that is not set?). "
                f"Give one, or remove {flag}."
            )
        if _bytes(value) > LONGEST_VALUE_BYTES:
            raise UserError(
                f"{flag} {value[:40]}...: expected at most {LONGEST_VALUE_BYTES:,} bytes from the "
                f"root of the disk on, seen {_bytes(value):,} (the system takes 4,096, and files "
                "stand below). Choose a shorter path, or start the command nearer to it."
            )


def check_first(words: Sequence[str], known: Collection[str]) -> None:
    """`UserError` for a value without a flag in the first place: mostly the folder of pictures."""
    if not words or words[0].startswith("-"):
        return
    example = "--name value"
    if "data" in known:
        example = f"--data {shell_path(words[0])}"
    raise UserError(
        f"{words[0]}: expected a flag in the first place, such as {example}. All of them: --help"
    )


def _given(words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each flag that has a value, with the first word of it."""
    for word, after in zip(words, (*words[1:], "--"), strict=False):
        flag, equals, value = word.partition("=")
        if not flag.startswith("--") or flag == "--":
            continue
        if equals:
            yield flag, value
        elif not after.startswith("--"):
            yield flag, after


def _bytes(value: str) -> int:
    """Length of a value as a path from the root of the file system, in UTF-8."""
    begins_here = not os.path.isabs(value)
    try:
        above = len(os.fsencode(os.getcwd())) + 1 if begins_here else 0
    except OSError:  # the folder was removed under the command
        above = 0
    return above + len(os.fsencode(value))
