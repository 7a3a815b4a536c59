"""Who may use the service: credentials, and a wait after wrong ones that grows."""

import base64
import binascii
import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

V = TypeVar("V")
FREE_TRIES = 5
"""Wrong credentials of one address that cost nothing."""
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
"""Seconds in which no further try of this address is looked at; doubled by each wrong one."""
FORGET_S = 3600.0
"""Seconds after the last wrong try when an address starts anew."""
ADDRESSES = 10_000
"""Addresses with wrong tries that are remembered; the one that tried longest ago is forgotten
first."""
TOTAL_TRIES = 20
"""Wrong tries a second of all addresses together, beyond which only addresses that were let in
before are looked at."""
KNOWN = 1_000
"""Addresses that are remembered as let in before."""


@dataclass(frozen=True)
class Keys:
    """What opens the service; neither = it is open."""

    auth: str | None = None
    """USER:PASSWORD, for Basic."""
    token: str | None = None
    """For Bearer, and for Basic as the password of any user."""


@dataclass
class _Tries:
    wrong: int = 0
    last: float = 0.0
    """When the last wrong try was."""

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next try is looked at."""
        if self.wrong <= FREE_TRIES:
            return 0.0
        # 2 to the power of more is no float in the end
        doubled = min(self.wrong - FREE_TRIES - 1, 30)
        return self.last + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2**doubled) - now


class Logins:
    """The check of credentials; final. For one event loop. `clock` in seconds."""

    def __init__(self, keys: Keys, clock: Callable[[], float] = time.monotonic):
        self.open = keys == Keys()
        self._auth, self._token = _digest_of(keys.auth), _digest_of(keys.token)
        self._clock = clock
        self._tries: OrderedDict[str, _Tries] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()
        # a bucket that fills with time: one number, whatever the number of addresses
        self._allowance, self._counted = float(TOTAL_TRIES), clock()

    def wait_s(self, address: str) -> int:
        """Return the whole seconds for which a try of this address is not looked at; 0 = it is."""
        now = self._clock()
        tries = self._tries.get(address)
        if tries is not None and now - tries.last > FORGET_S:
            del self._tries[address]
            tries = None
        wait = 0.0
        if tries:
            wait = tries.wait_s(now)
        # many addresses may guess together; who was let in before is not shut out by them
        if wait <= 0 and address not in self._known and self._left(now) < 1:
            return 1
        return max(0, math.ceil(wait))

    def check(self, address: str, authorization: bytes) -> bool:
        """Tell whether these credentials open; remembers the answer. The comparison takes the same
        time for wrong ones."""
        right = self._right(authorization)
        if right:
            # who knows the password may mistype it again
            self._tries.pop(address, None)
            remember(self._known, address, None, KNOWN)
        else:
            now = self._clock()
            tries = self._tries.get(address) or _Tries()
            tries.wrong, tries.last = tries.wrong + 1, now
            remember(self._tries, address, tries, ADDRESSES)
            self._allowance = self._left(now) - 1
            self._counted = now
        return right

    def _left(self, now: float) -> float:
        """Wrong tries that are left to all addresses together now."""
        return min(float(TOTAL_TRIES), self._allowance + TOTAL_TRIES * (now - self._counted))

    def _right(self, authorization: bytes) -> bool:
        """Tell whether the header Authorization holds the token, or user and password."""
        scheme, _, secret = authorization.partition(b" ")
        if scheme.lower() == b"bearer":
            return _same(secret.strip(), self._token)
        if scheme.lower() != b"basic":
            return False
        try:
            # validate: by default whatever is no base64 is passed over
            pair = base64.b64decode(secret.strip(), validate=True)
        except binascii.Error:
            return False
        # both before the `or`, so that the time does not tell which of them was nearly right
        by_user, by_token = _same(pair, self._auth), _same(pair.partition(b":")[2], self._token)
        return by_user or by_token


def remember(table: OrderedDict[str, V], address: str, value: V, limit: int) -> None:
    """Put a value into a table of at most `limit` addresses; the one that was put in longest ago is
    forgotten."""
    table[address] = value
    table.move_to_end(address)
    if len(table) > limit:
        table.popitem(last=False)


def _digest_of(key: str | None) -> bytes | None:
    """Return the digest of a key, if there is one."""
    if key is None:
        return None
    return _digest(key.encode())


def _digest(secret: bytes) -> bytes:
    return hashlib.sha256(secret).digest()


def _same(secret: bytes, expected: bytes | None) -> bool:
    """Compare by digests, so that the time tells neither content nor length."""
    # compared also where there is no key, in the same time
    return hmac.compare_digest(_digest(secret), expected or bytes(32)) and expected is not None
