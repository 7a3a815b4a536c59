"""Puts model, queue, API and page together, and serves them."""

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from starlette.types import ASGIApp

from serve.engine import reload
from serve.engine.decoder import give_memory_back
from serve.engine.decoders import Decoders
from serve.engine.engine import Engine, default_workers
from serve.http import life as lives
from serve.http.api import create_api
from serve.http.gate import Door, Gate, Limits, Page
from serve.http.life import Life
from serve.http.metrics import Metrics
from serve.http.repeat import Repeat
from serve.limits import budgets
from serve.limits.logins import Keys
from serve.limits.origins import Origins
from serve.limits.uploads import SWEEP_S, Uploads
from serve.order import Order
from zoo.answer.self_check import unchecked
from zoo.host import console, machine, minimum
from zoo.host.errors import UserError

PUBLISHED = "hf-hub:"
"""Prefix of a published run's name."""
LOCAL = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, eq=False)
class Service:
    """All that serves one order."""

    app: ASGIApp
    life: Life
    engine: Engine
    keys: Keys


def start(order: Order) -> None:
    """Serve until SIGTERM or Ctrl-C; `UserError` for what the user can put right."""
    give_memory_back()
    with ExitStack() as stack:
        service = stack.enter_context(build(order))
        lives.serve(
            service.app,
            service.life,
            host=order.host,
            port=order.port,
            ready=partial(_say, order, service),
        )
    # a thread may still compute, or load a model; Python would wait for it, and nothing ends a
    # thread
    if any(
        thread is not threading.current_thread() and not thread.daemon
        for thread in threading.enumerate()
    ):
        sys.stdout.flush()
        os._exit(0)


@contextmanager
def build(order: Order) -> Iterator[Service]:
    """The application of an order with its model loaded, warm and checked."""
    minimum.require(*minimum.SERVE)
    # it warns of every malformed form
    logging.getLogger("python_multipart").setLevel(logging.ERROR)
    keys = Keys(
        order.auth or os.environ.get("ZOOTUNE_AUTH") or None,
        order.token or os.environ.get("ZOOTUNE_TOKEN") or None,
    )
    if keys.auth is not None and not all(keys.auth.partition(":")):
        raise UserError("ZOOTUNE_AUTH: expected USER:PASSWORD, seen no colon or an empty half.")
    origins, room = Origins(order.allow_origin), budgets.room(budgets.open_files())
    workers = order.workers or default_workers()
    threads = max(1, machine.compute_threads() // workers)
    load = partial(
        reload.load,
        local(order.bundle),
        provider=order.provider,
        threads=threads,
        check=order.self_check,
    )
    max_pixels = round(order.max_megapixels * 1e6)
    with ExitStack() as stack:
        # first, so that they start while the model is loaded
        decoders = Decoders(workers, max_pixels)
        stack.callback(decoders.close)
        engine = Engine(
            load(),
            workers=workers,
            waiting=order.queue,
            deadline_s=order.deadline_s,
            max_pixels=max_pixels,
            decoders=decoders,
        )
        engine.decode_s = order.decode_s
        stack.callback(engine.close)
        decoders.wait()
        metrics = Metrics(engine)
        life = Life(idle=lambda: engine.outstanding == 0, patience_s=order.deadline_s, room=room)
        engine.closing = lambda: life.closing
        app: ASGIApp = create_api(engine, metrics, life)
        page = None if order.api_only else _with_page(app, engine, order, stack)
        if order.watch:
            watch = reload.Watch(engine, load, metrics.reloaded, keep_classes=page is not None)
            _repeat(watch.look, reload.EVERY_S, stack, name="watch")
        limits = Limits(round(order.max_body_mb * 1e6), order.deadline_s)
        door = Door(limits, keys, origins, order.root_path, page)
        yield Service(Gate(app, life, metrics, door), life, engine, keys)


def local(bundle: Path) -> Path:
    """Where the bundle lies; a published run, also by an alias of the user's own, is pulled, at the
    commit and digests of its first pull."""
    if not _is_published(bundle):
        return bundle
    from zoo.hub.pulled_run import pull_run

    return pull_run(str(bundle)).folder


def _is_published(bundle: Path) -> bool:
    """Whether this is the name of a published run; a path that exists is none."""
    if bundle.exists():
        return False
    if str(bundle).startswith(PUBLISHED):
        return True
    from zoo.bases import registry  # not part of a Space, whose bundle exists

    return str(bundle) in registry.own_aliases()


def _with_page(app: ASGIApp, engine: Engine, order: Order, stack: ExitStack) -> Page:
    """The page mounted below the API's routes; its uploads are deleted at the end."""
    minimum.require(*minimum.PAGE)
    folder = stack.enter_context(
        tempfile.TemporaryDirectory(prefix="zootune-", ignore_cleanup_errors=True)
    )
    uploads = Uploads(Path(folder))
    # all that Gradio writes lies in this folder too, its cache of examples included, which it
    # serves to anybody
    os.environ |= {
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "GRADIO_TEMP_DIR": str(uploads.folder),
        "GRADIO_EXAMPLES_CACHE": str(uploads.folder / "cache"),
    }
    from serve.page import one  # Gradio reads these variables when it is imported

    mounted = one.mount(
        app,
        engine,
        one.Setting(uploads, order.root_path, order.feedback, round(order.max_body_mb * 1e6)),
    )
    _repeat(uploads.sweep, SWEEP_S, stack, name="sweep")
    return mounted


def _repeat(work: Callable[[], None], seconds: float, stack: ExitStack, *, name: str) -> None:
    """Do `work` every so many seconds until `stack` is closed."""
    thread = Repeat(work, seconds=seconds, name=name)
    thread.start()
    stack.callback(thread.stop)


def _say(order: Order, service: Service, port: int) -> None:
    host = f"[{order.host}]" if ":" in order.host else order.host
    address = f"http://{host}:{port}{order.root_path}"
    model = service.engine.model
    console.say(
        f"{model.name} ({len(model.predictor.bundle.labels)} classes, {model.predictor.provider}) "
        f"answers at {address}{'/v1/predict' if order.api_only else ''}"
    )
    if (checked := model.predictor.checked) and not checked.pictures:
        console.say(unchecked(model.predictor.bundle, model.predictor.provider))
    if order.host not in LOCAL and service.keys == Keys():
        console.warn("everybody who reaches this machine can use it; set --auth or --token")
