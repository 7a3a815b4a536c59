"""The one error for people.

    UserError        expected, seen, what to do; printed without a traceback, exit code 2
    |-- BadImage     one picture that cannot be decoded, with its name and the reason
    `-- NotProved    an export that was made and does not answer like the trained model, exit code 1

Our own invariants are `assert`s: when one fails, the traceback is for us.
"""

import os
import sys
from collections.abc import Callable

from zoo.host.text import printable


class UserError(Exception):
    """Something the user can put right. The message says what was expected, what was seen and what
    to do.

    Names in it come from files and servers of strangers, so it is `printable` from the start: on a
    terminal, in a log, in an answer and on a page.
    """

    exit_code = 2

    def __init__(self, message: str):
        super().__init__(printable(message))


class NotProved(UserError):
    """The work was done, and the check at its end failed."""

    exit_code = 1


class BadImage(UserError):
    """A picture that cannot be read.

    `name` is the path (or what the caller knows it by), `reason` one clause without a full stop.
    """

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = printable(name), printable(reason)

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return BadImage, (self.name, self.reason)  # so that it crosses process borders


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return next(iter(str(error).strip().splitlines()), "no details")


def run_main(main: Callable[[], int | None], *, joins: bool = False) -> None:
    """Run a command's `main` and exit: its return value (None = 0), a `UserError`'s own code, 130
    after Ctrl-C.

    What the system refuses and no part of the command expected (a full disk, a limit on the size of
    files, a path that is too long, no folder for temporary files) is told in words as well.
    `joins`: whether processes that torchrun starts together share the work; other commands are
    refused there at once, where they would write the same files several times.
    """
    # here, because console and disk import this module
    from zoo.host import console, disk, hub_address, streams

    streams.guard()
    try:
        if not joins:
            _check_alone()
        sys.exit(main())
    except UserError as error:
        console.error(error)
        sys.exit(error.exit_code)
    except OSError as error:
        words = disk.in_words(error)
        if words is None:
            raise
        console.error(UserError(words))
        sys.exit(UserError.exit_code)
    except ValueError:
        endpoint = hub_address.wrong()
        # the Hub's client, which timm and gradio import, takes it apart when it is imported
        if endpoint is None:
            raise
        console.error(UserError(hub_address.words(endpoint)))
        sys.exit(UserError.exit_code)
    except KeyboardInterrupt:
        # 128 + SIGINT, as shells have it
        sys.exit(130)


def _check_alone() -> None:
    """`UserError` in the first of several processes that torchrun started together; the others end
    without a word."""
    started = os.environ.get("WORLD_SIZE", "1")
    if "TORCHELASTIC_RUN_ID" not in os.environ or started == "1":
        return
    # one message is enough, however many processes were started
    if os.environ.get("RANK", "0") != "0":
        sys.exit(UserError.exit_code)
    # sys.argv has the path of the file, not the name behind `-m`
    module = getattr(sys.modules["__main__"], "__spec__", None)
    name = f"python -m {module.name.removesuffix('.__main__')}" if module else sys.argv[0]
    raise UserError(
        f"{name} runs in one process: seen {started} that torchrun started. Start it without "
        "torchrun."
    )
