"""Loading a model so that it may serve: checked on its own examples; and again whenever a new export appears."""

import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from serve.engine import Engine, Model
from zoo import bundle as bundles
from zoo import rundir
from zoo.errors import BadImage, UserError
from zoo.predictor import Predictor

log = logging.getLogger("serve")
EVERY_S = 1.0
"""Seconds between two looks at a watched bundle."""


def load(path: Path, *, provider: str, threads: int) -> Model:
    """A warm model whose examples are answered as the trained one answers them; `UserError` otherwise."""
    bundle = bundles.open_bundle(path)
    stamp = rundir.digest(bundle.folder / bundles.FINISHED)
    model = Model(Predictor(bundle, provider=provider, threads=threads), str(bundle.run.get("name", "model")),
                  bundle.model_sha256 or "", stamp)
    _check(model)
    return model


def _check(model: Model) -> None:
    """`UserError` unless the bundle's examples get the answers that the export wrote down for them."""
    bundle = model.predictor.bundle
    for path, expected in examples(bundle):
        try:
            seen = model.predictor.predict(path).probabilities
        except BadImage as error:
            raise UserError(f"{error}. {bundles.export_it(bundle.folder)}") from None
        worst = max(abs(float(one) - other) for one, other in zip(seen, expected["probabilities"], strict=True))
        if not worst <= bundles.TOLERANCE:
            raise UserError(f"{path}: expected the probabilities that its export wrote down, seen a difference of "
                            f"{worst:.3g} (at most {bundles.TOLERANCE} is accepted). "
                            f"{bundles.export_it(bundle.folder)}")


def examples(bundle: bundles.Bundle) -> list[tuple[Path, dict]]:
    """(picture, its expected label, probability and probabilities) of a bundle's examples; it may have none."""
    folder = bundle.folder / bundles.EXAMPLES
    if not (folder / bundles.EXPECTED).is_file():
        return []
    expected = json.loads((folder / bundles.EXPECTED).read_text(encoding="utf-8"))
    return [(folder / name, one) for name, one in expected.items()]


class Watch:
    """A thread that looks for a new export and swaps it in; final.

    `reload` loads the bundle (`load` with its arguments); `told` gets "swapped" or "refused" after each try. A bundle
    that is refused is not tried again until it changes; one that is being written (no FINISHED.json) is waited for.
    """

    def __init__(self, engine: Engine, reload: Callable[[], Model], told: Callable[[str], None]):
        self._engine, self._reload, self._told = engine, reload, told
        self._refused: object = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(EVERY_S):
            self._look()

    def _look(self) -> None:
        folder, seen = self._engine.model.predictor.bundle.folder, None
        try:
            if rundir.digest(folder / bundles.FINISHED) == self._engine.model.stamp:
                return
            seen = _state(folder)
            if seen == self._refused:
                return
            model = self._reload()
        except FileNotFoundError:  # an export is being written
            return
        except (UserError, OSError, ValueError, KeyError, TypeError) as error:
            self._refused = seen
            log.error("the new bundle is refused, the old one goes on serving: %s", error)
            self._told("refused")
            return
        self._engine.model, self._refused = model, None
        log.warning("now serving %s, model %s", model.name, model.digest[:12])
        self._told("swapped")


def _state(folder: Path) -> object:
    """What changes when any file of a bundle does."""
    return sorted((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*"))
