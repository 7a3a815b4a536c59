"""What a run prints: progress bars on a terminal, plain lines elsewhere."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

console = Console(highlight=False, soft_wrap=True)
"""Standard output; errors go to standard error (zoo/errors.py)."""


def say(text: str, *, style: str | None = None) -> None:
    """Print one message; `text` may hold square brackets (class names, paths), which are not markup."""
    printable = text.encode(errors="backslashreplace").decode()  # a file name that is not UTF-8 has lone surrogates
    console.print(printable, style=style, markup=False)


def warn(text: str) -> None:
    """Print a warning that stands out."""
    say(f"warning: {text}", style="bold yellow")


Advance = Callable[..., None]
"""`advance(n, note="")`: n more are done; the note stands at the end of the bar."""


@contextmanager
def bar(title: str, total: int, *, done: int = 0) -> Iterator[Advance]:
    """A progress bar that vanishes when it is full, with rate and time left; silent when the output is no terminal."""
    if console.quiet or not console.is_terminal:
        yield lambda n, note="": None
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"),
               TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=total, completed=done, rate="", note="")
        start, seen = monotonic(), 0

        def advance(n: int, note: str = "") -> None:
            nonlocal seen
            seen += n
            rate = seen / max(monotonic() - start, 1e-9)
            progress.update(task, advance=n, rate=f"{rate:.0f}/s", note=note)

        yield advance
