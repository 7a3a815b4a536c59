"""Tensors of a file that do not fit the network or the optimiser that they are put into."""

from collections.abc import Iterator
from contextlib import contextmanager

from zoo.contract import rundir
from zoo.host.errors import UserError, first_line


@contextmanager
def fitting(what: str) -> Iterator[None]:
    """Turn what torch raises for tensors that do not fit a network or an optimiser into a
    `UserError`."""
    try:
        yield
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as error:
        raise UserError(
            f"{what} does not fit this run: {first_line(error)[:200]}. Remove the folder "
            f"{rundir.RESUME} and start the run again."
        ) from None
