"""Work that is repeated in a thread for as long as the service runs, whatever happens to one round
of it."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

log = logging.getLogger("serve")


class Repeat:
    """A thread that calls `work` every `seconds` until `stop`; final.

    A round that fails is logged once per kind of error and does not end the thread: it runs as a
    future, whose exception is looked at, so that nothing has to be caught by a list of kinds.
    """

    def __init__(self, work: Callable[[], None], *, seconds: float, name: str):
        self._work, self._seconds, self._name = work, seconds, name
        self._stopped = threading.Event()
        self._logged: set[str] = set()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, patience_s: float = 2.0) -> None:
        """Ends after the round that is going on, which is waited for no longer than `patience_s`
        seconds."""
        self._stopped.set()
        self._thread.join(patience_s)

    def _run(self) -> None:
        with ThreadPoolExecutor(1, thread_name_prefix=self._name) as pool:
            while not self._stopped.wait(self._seconds):
                # waited for here, so that two rounds never overlap
                error = pool.submit(self._work).exception()
                kind = type(error).__name__
                if error is not None and kind not in self._logged:
                    self._logged.add(kind)
                    log.error("%s: %s; it goes on", self._name, kind, exc_info=error)
