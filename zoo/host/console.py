"""All that the commands print, through one door: whatever came from outside is `printable` before
it is shown.

    say, warn            messages
    note, error          the same to standard error
    table                rows under headings
    bar, track, busy     progress, on a terminal only
    answer               one line of JSON for programs

rich is loaded at the first message to a terminal, table or bar, and not by importing this module.
What other libraries print is seen to by zoo/host/streams.py.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from time import monotonic
from typing import Any, TypeVar

from zoo.host.streams import encodable
from zoo.host.text import one_line, printable

WIDTH = 140
"""Columns of a table where the output is not a terminal (a pipe, a file) and COLUMNS is not set."""
Item = TypeVar("Item")
Advance = Callable[..., None]
"""`advance(n, note="")`: n more are done; the note stands at the end of the bar."""


class _Loud:
    """Whether this process prints at all; final. Of several that train together, one does."""

    quiet = False


_LOUD = _Loud()


def be_quiet(quiet: bool) -> None:
    """Print nothing from now on, or print again. Errors are printed all the same."""
    _LOUD.quiet = quiet


@cache
def _terminal() -> Any:
    """rich's console, one for messages and bars, so that a message stands above the bars that are
    shown."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def say(text: object, *, style: str | None = None) -> None:
    """Print one message."""
    if _LOUD.quiet:
        return
    shown = encodable(printable(text), sys.stdout)
    if sys.stdout.isatty():
        _terminal().print(shown, style=style)
    else:
        # at once, because the reader of a pipe follows the training by these lines
        print(shown, flush=True)


def warn(text: object) -> None:
    """Print a warning that stands out."""
    say(f"warning: {text}", style="bold yellow")


def note(text: object) -> None:
    """Print a remark to standard error, for commands whose standard output is for programs."""
    if not _LOUD.quiet:
        print(encodable(f"note: {printable(text)}", sys.stderr), file=sys.stderr, flush=True)


def error(text: object) -> None:
    """Print why a command ends, to standard error."""
    print(encodable(f"error: {printable(text)}", sys.stderr), file=sys.stderr, flush=True)


def say_json(content: Any) -> None:
    """Print one line of JSON, in ASCII."""
    # json.dumps escapes every control character but DEL
    print(json.dumps(content).replace("\x7f", "\\u007f"), flush=True)


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    title: str
    right: bool = False
    """Aligned to the right."""
    whole: bool = False
    """Never wrapped."""


def table(
    columns: Sequence[Column],
    rows: Iterable[Sequence[object]],
    *,
    red: Iterable[int] = (),
    width: int = WIDTH,
) -> None:
    """Print a table; in the rows numbered `red` the last cell is red."""
    if _LOUD.quiet:
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, padding=(0, 1, 0, 0), header_style="bold")
    for column in columns:
        grid.add_column(
            Text(column.title), justify="right" if column.right else "left", no_wrap=column.whole
        )
    marked = set(red)
    for number, row in enumerate(rows):
        # a Text, because rich would read brackets in a name as its mark-up
        cells = [Text(encodable(one_line(cell), sys.stdout)) for cell in row]
        if number in marked:
            cells[-1].stylize("red")
        grid.add_row(*cells)
    console = Console(highlight=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = width
    console.print(grid)


@contextmanager
def bar(title: str, total: int, *, done: int = 0) -> Iterator[Advance]:
    """A progress bar that vanishes when it is full, with rate and time left; silent when the output
    is no terminal."""
    if not _shows_progress():
        yield lambda n, note="": None
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    def text(field: str) -> TextColumn:
        return TextColumn(f"{{task.{field}}}", markup=False)

    columns = (
        text("description"),
        BarColumn(),
        MofNCompleteColumn(),
        text("fields[rate]"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        text("fields[note]"),
    )
    with Progress(*columns, console=_terminal(), transient=True) as progress:
        task = progress.add_task(one_line(title), total=total, completed=done, rate="", note="")
        start, counted = monotonic(), 0

        def advance(n: int, note: str = "") -> None:
            nonlocal counted
            counted += n
            # of this process alone: what was done before a resume took no time here
            rate = counted / max(monotonic() - start, 1e-9)
            progress.update(task, advance=n, rate=f"{rate:.0f}/s", note=one_line(note))

        yield advance


def track(items: Sequence[Item], title: str) -> Iterator[Item]:
    """The items, under a bar."""
    with bar(title, len(items)) as advance:
        for item in items:
            yield item
            advance(1)


def busy(what: str) -> AbstractContextManager[Any]:
    """A sign of life while something runs whose length is not known; silent when the output is no
    terminal."""
    if not _shows_progress():
        return nullcontext()
    from rich.text import Text

    return _terminal().status(Text(one_line(what)))  # a bare text would be read as rich's mark-up


def _shows_progress() -> bool:
    return not _LOUD.quiet and sys.stdout.isatty()
