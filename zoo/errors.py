"""The one error for people.

    UserError        expected, seen, what to do; printed without a traceback, exit code 2
    `-- BadImage     one picture that cannot be decoded, with its name and the reason

Our own invariants are `assert`s: when one fails, the traceback is for us.
"""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can put right. The message says what was expected, what was seen and what to do."""


class BadImage(UserError):
    """A picture that cannot be read.

    `name` is the path (or what the caller knows it by), `reason` one clause without a full stop.
    """

    def __init__(self, name: str, reason: str):
        super().__init__(f"{name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        return BadImage, (self.name, self.reason)  # so that it crosses process borders


def first_line(error: BaseException) -> str:
    """The first line of an error's text."""
    return next(iter(str(error).strip().splitlines()), "no details")


def run_main(main: Callable[[], int | None]) -> None:
    """Run a command's `main` and exit: its return value (None = 0), 2 after a `UserError`, 130 after Ctrl-C."""
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
