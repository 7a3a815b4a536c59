"""How the processes of one start find each other, and wait for each other outside the collectives,
by a store of keys that all of them can reach."""

import secrets
from time import sleep

from torch import distributed as dist

from zoo.host.errors import UserError

POLL_S = 0.2
"""Seconds between two looks at whether rank 0 is done with what the others wait for."""
FIRST_ERROR = "told"
"""Key under which the first process that meets an error leaves its rank."""


def agreed_name(store: dist.Store, own_rank: int, size: int) -> str:
    """Return a name that the processes of this start have agreed on.

    After a restart, torchrun's store still has the entries of the processes that died, and a
    process that reads their addresses waits for them for ever. So each process leaves a token that
    it has just drawn, and accepts only the answer to that token.
    """
    own = secrets.token_hex(8)
    if own_rank > 0:
        store.set(f"hello/{own_rank}", own)
        name = store.get(f"answer/{own}").decode()
        store.set(f"{name}/{own_rank}", "here")
        return name
    others = range(1, size)
    # answered again and again: a token may be that of a process that died, until the new one comes
    while not store.check([f"{own}/{other}" for other in others]):
        for other in others:
            store.set(f"answer/{store.get(f'hello/{other}').decode()}", own)
        sleep(0.05)
    return own


def meets_first_error(store: dist.Store, own_rank: int) -> bool:
    """Tell whether this process is the first of its run to meet an error."""
    # writes only where nothing stands, and returns what stands there then: one process finds itself
    return store.compare_set(FIRST_ERROR, "", str(own_rank)) == str(own_rank).encode()


def wait_for(store: dist.Store, key: str) -> None:
    """Return when the key is set; `SystemExit` when another process met an error instead."""
    try:
        while not store.check([key]):
            if store.check([FIRST_ERROR]):
                raise SystemExit(UserError.exit_code)
            sleep(POLL_S)
    except dist.DistError:
        # who kept the store has ended: torchrun, or rank 0 itself, which told why
        raise SystemExit(UserError.exit_code) from None
