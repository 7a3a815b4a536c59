"""Locks of folders, which end with the process that holds them, whatever ends it."""

from pathlib import Path

from filelock import FileLock, Timeout

from zoo.host.errors import UserError


def take(lock: FileLock, *, in_use: str, timeout_s: float = 0) -> None:
    """Hold a lock from now on.

    Raises `UserError`: `in_use` if another process holds it, or what stands in the place of its
    file.
    """
    try:
        # of the system (flock), not the mere existence of a file: a killed process leaves no lock
        # behind
        lock.acquire(timeout=timeout_s)
    except Timeout:
        raise UserError(in_use) from None
    except OSError as error:
        raise UserError(
            f"{Path(lock.lock_file)}: expected a lock of this program or nothing, seen something "
            f"else ({error.strerror}). Remove it."
        ) from None
