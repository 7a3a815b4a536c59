"""Loading a model so that it may serve: checked on its own examples; and again whenever a new
export appears."""

import hashlib
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

from serve.engine.answer_queue import AnswerQueue, Model
from zoo.answer.predict import Predictor
from zoo.contract import bundle as bundles
from zoo.contract import swaps
from zoo.files.folders import read_regular
from zoo.host.errors import UserError
from zoo.host.text import one_line

log = logging.getLogger("serve")
EVERY_S = 1.0
"""Seconds between two looks at a watched bundle."""
LARGEST_MANIFEST = 10_000_000
"""Bytes of a FINISHED.json at most: it is read every time that something changes."""
MOST_FILES = 10_000
"""Files of a watched bundle that are looked at."""


def load_model(path: Path, *, provider: str, threads: int, check: bool = True) -> Model:
    """Load a model that, with `check`, answered its bundle's examples as `zoo.answer.self_check`
    expects; `UserError` otherwise."""
    return swaps.read_between(path, lambda: _load(path, provider, threads, check))


def _load(path: Path, provider: str, threads: int, check: bool) -> Model:
    bundle = bundles.open_bundle(path)
    # before the model is loaded: what changes meanwhile is then seen at the next look
    stamp = _stamp(bundle.folder)
    return Model(
        Predictor(bundle, provider=provider, threads=threads, check=check),
        str(bundle.run.get("name", "model")),
        bundle.model_sha256 or "",
        stamp,
    )


class Watch:
    """Looks for a new export and swaps it in; final. `Repeat` calls `look` every `EVERY_S`.

    `reload` loads the bundle (`load_model` with its arguments); `report` gets "swapped" or
    "refused" after each try. A bundle that is refused is not tried again until it changes; one that
    is being written (no FINISHED.json) is waited for. `keep_classes`: a bundle with other classes
    is refused, because the page was built for those it started with.
    """

    def __init__(
        self,
        queue: AnswerQueue,
        reload: Callable[[], Model],
        report: Callable[[str], None],
        *,
        keep_classes: bool = False,
    ):
        self._queue, self._reload = queue, reload
        self._report, self._keep_classes = report, keep_classes
        self._last: object = None
        """State of the folder at the last look."""
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="reload")

    def look(self) -> None:
        """Load and swap in what has changed; whatever goes wrong with it, the old one goes on
        serving."""
        state = _state(self._queue.model.predictor.bundle.place)
        if state == self._last:
            return
        # a future, because a broken bundle can raise anything
        loading = self._pool.submit(self._load)
        error = loading.exception()
        if isinstance(error, FileNotFoundError):  # an export is being written
            return
        # also of a refused one, so that it is not loaded every second
        self._last = state
        if error is not None:
            log.error(
                "the new bundle is refused, the old one goes on serving: %s: %s",
                type(error).__name__,
                error,
            )
            self._report("refused")
        elif (model := loading.result()) is not None:
            # one assignment: what was accepted before keeps the model that it was accepted for
            self._queue.model = model
            log.warning("now serving %s, model %s", model.name, model.digest[:12])
            self._report("swapped")

    def _load(self) -> Model | None:
        """Return the new model; None if there is no finished one, or it is the one that serves."""
        model = self._queue.model
        folder = model.predictor.bundle.place
        # files beside the manifest, such as timing.json, may change without a new model
        if not (folder / bundles.FINISHED).exists() or _stamp(folder) == model.stamp:
            return None
        new = self._reload()
        if self._keep_classes:
            _refuse_other_classes(model, new)
        return new


def _refuse_other_classes(old: Model, new: Model) -> None:
    """`UserError` unless both models have the same classes, in whatever order."""
    before, after = set(old.predictor.bundle.labels), set(new.predictor.bundle.labels)
    if before != after:
        changes = [
            f"{word} {one_line(', '.join(sorted(names)[:5]))}"
            for word, names in (("with", after - before), ("without", before - after))
            if names
        ]
        raise UserError(
            f"{new.predictor.bundle.folder}: expected the {len(before)} classes that the page "
            f"shows, seen a bundle {' and '.join(changes)}: start the service again."
        )


def _stamp(folder: Path) -> str:
    """sha256 of a bundle's FINISHED.json; `UserError` for what is no regular file, or too large for
    one."""
    return hashlib.sha256(read_regular(folder / bundles.FINISHED, LARGEST_MANIFEST)).hexdigest()


def _state(folder: Path) -> object:
    """Return what changes when any file of a bundle does; of a folder with very many files, the
    first of them."""
    files = []
    # by size and time, not by content: the model has hundreds of megabytes, and this is every
    # second
    for path in islice(folder.rglob("*"), MOST_FILES):
        try:
            status = path.lstat()
        except OSError:  # deleted meanwhile
            continue
        files.append((str(path), status.st_size, status.st_mtime_ns))
    return sorted(files)
